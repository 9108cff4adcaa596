//! Whose folders a path may lead through. A process with root's rights that opens a name in a folder of somebody else opens whatever that
//! one puts there; so each folder on the way, and the last one above all, is asked who could (as sshd's StrictModes does).
//!
//! | folder | |
//! | --- | --- |
//! | owned by root, by this process's user or by the machine's owner; nobody else may write | safe |
//! | the same, writable for a group in which there is nobody else | safe |
//! | the same, writable for others, with the sticky bit (/tmp) | safe for entries that one of those owns: nobody else can take them away |
//! | anything else | refused |
//!
//! The rights that mode bits do not show (NFSv4 ACLs, a capability, another host on the same network file system) are not seen.

use std::path::Path;

use rustix::fs::Stat;

use crate::disk::{DiskError, ErrorKind};

/// Users a path may depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Root, the user of this process, and the owner of the machine whose files these are.
    Users { own: u32, owner: u32 },
    /// For what a person does with no more rights than that person has: every folder will do.
    Anybody,
}

/// What a folder is worth to the entries in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Nobody else can change names in it.
    Firm,
    /// Others can make names in it, and take away only their own.
    Sticky,
}

const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

impl Trust {
    /// Root and the user of this process.
    pub fn own() -> Self {
        let own = rustix::process::geteuid().as_raw();
        Self::Users { own, owner: own }
    }

    /// And the owner of a machine. `None`: it has none but these.
    pub fn of_owner(owner: Option<u32>) -> Self {
        let own = rustix::process::geteuid().as_raw();
        Self::Users { own, owner: owner.unwrap_or(own) }
    }

    pub(super) fn has(self, uid: u32) -> bool {
        match self {
            Self::Users { own, owner } => uid == 0 || uid == own || uid == owner,
            Self::Anybody => true,
        }
    }

    /// Who may say by a symbolic link that files lie elsewhere: the owner of a machine may not, or root's rights would follow him.
    pub(super) fn for_links(self) -> Self {
        match self {
            Self::Users { own, .. } => Self::Users { own, owner: own },
            Self::Anybody => Self::Anybody,
        }
    }

    /// `Err`: what is wrong, in words that go on from the folder's name. `link`: a name of the open folder in /proc.
    pub(super) fn judge(self, stat: &Stat, link: &Path) -> Result<Hold, String> {
        if self == Self::Anybody {
            return Ok(Hold::Firm);
        }
        if !self.has(stat.st_uid) {
            return Err("it belongs to another user".to_owned());
        }
        let others = if stat.st_mode & OTHERS_WRITE != 0 {
            "every user can write to it".to_owned()
        } else if stat.st_mode & GROUP_WRITES != 0 && has_acl(link) {
            // With an ACL these bits are its mask: somebody named there can write.
            "an access control list lets others write to it".to_owned()
        } else if stat.st_mode & GROUP_WRITES != 0 && !self.has_all_of(stat.st_gid) {
            format!("the group {} can write to it", group_name(stat.st_gid))
        } else {
            return Ok(Hold::Firm);
        };
        if stat.st_mode & STICKY != 0 { Ok(Hold::Sticky) } else { Err(others) }
    }

    /// A group of one's own, as most systems give each user, is nobody else. One that is not in the files has members we do not know.
    fn has_all_of(self, gid: u32) -> bool {
        let (passwd, group) = (read("/etc/passwd"), read("/etc/group"));
        members(gid, &passwd, &group).is_some_and(|uids| !uids.is_empty() && uids.iter().all(|&uid| self.has(uid)))
    }
}

/// The refusal of a folder, or of something in it that is not what it should be.
pub(super) fn unsafe_folder(folder: &Path, stat: &Stat, what: &str) -> DiskError {
    let message = format!(
        "'{}' is no place for files of a virtual machine: {what} (owner {}, mode {:04o}). \
         Only root, the host's user and the machine's owner may be able to change names there: \
         give it to one of them and take the right from the others (chown, chmod go-w), or use another folder",
        folder.display(),
        user_name(stat.st_uid),
        stat.st_mode & 0o7777,
    );
    DiskError::new(ErrorKind::UnsafeFolder, message).at(folder)
}

fn has_acl(link: &Path) -> bool {
    match rustix::fs::getxattr(link, c"system.posix_acl_access", &mut [0u8; 0][..]) {
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => false,
        // What cannot be seen is not counted on.
        Ok(_) | Err(_) => true,
    }
}

/// `None`: there is no such group in the file, or a member that is no user in it.
fn members(gid: u32, passwd: &str, group: &str) -> Option<Vec<u32>> {
    let users: Vec<(&str, u32, u32)> = passwd.lines().filter_map(user).collect();
    let listed = group.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.nth(2)?.parse() == Ok(gid) { fields.next() } else { None }
    })?;
    let mut uids: Vec<u32> = users.iter().filter(|(_, _, of)| *of == gid).map(|(_, uid, _)| *uid).collect();
    for name in listed.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        uids.push(users.iter().find(|(user, ..)| *user == name)?.1);
    }
    Some(uids)
}

/// passwd(5): `name:password:uid:gid:...`
fn user(line: &str) -> Option<(&str, u32, u32)> {
    let mut fields = line.split(':');
    let name = fields.next()?;
    Some((name, fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?))
}

pub(super) fn user_name(uid: u32) -> String {
    let passwd = read("/etc/passwd");
    let found = passwd.lines().filter_map(user).find(|(_, of, _)| *of == uid);
    found.map_or_else(|| format!("{uid}"), |(name, ..)| format!("{name}, {uid}"))
}

fn group_name(gid: u32) -> String {
    let groups = read("/etc/group");
    let found = groups.lines().find(|line| line.split(':').nth(2).and_then(|field| field.parse().ok()) == Some(gid));
    found.and_then(|line| line.split(':').next()).map_or_else(|| gid.to_string(), str::to_owned)
}

fn read(path: &str) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\nbob:x:1001:1001::/home/bob:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nann:x:1000:\nbob:x:1001:ann\nkvm:x:50:ann,bob\nghosts:x:51:zoe\nempty:x:52:\n";

    #[test]
    fn a_group_has_those_whose_own_it_is_and_those_who_are_listed() {
        assert_eq!(members(1000, PASSWD, GROUP), Some(vec![1000]));
        assert_eq!(members(1001, PASSWD, GROUP), Some(vec![1001, 1000]));
        assert_eq!(members(50, PASSWD, GROUP), Some(vec![1000, 1001]));
        assert_eq!(members(52, PASSWD, GROUP), Some(vec![]));
    }

    #[test]
    fn of_a_group_or_a_member_that_is_not_in_the_files_nothing_is_known() {
        assert_eq!(members(77, PASSWD, GROUP), None);
        assert_eq!(members(51, PASSWD, GROUP), None);
    }

    #[test]
    fn the_owner_of_a_machine_is_trusted_with_folders_and_not_with_links() {
        let trust = Trust::Users { own: 0, owner: 1000 };
        assert!(trust.has(0) && trust.has(1000) && !trust.has(1001));
        assert!(!trust.for_links().has(1000));
    }
}
