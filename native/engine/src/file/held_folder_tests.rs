//! The walk and what is done by a held folder. What only root can set up (folders of others) is in test/security.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("ours");
}

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

#[test]
fn a_folder_that_others_can_write_to_is_refused_wherever_it_is_on_the_way() {
    let outer = folder();
    let open = outer.path().join("open");
    let inner = open.join("inner");
    std::fs::create_dir_all(&inner).expect("made");
    HeldFolder::walk(&inner, Trust::own()).expect("nobody else can write");
    chmod(&open, 0o777);
    for path in [&open, &inner] {
        let error = HeldFolder::walk(path, Trust::own()).expect_err("refused");
        assert_eq!(error.kind, ErrorKind::UnsafeFolder);
        assert!(
            error.message.contains(&format!("'{}'", open.display())) && error.message.contains("mode 0777"),
            "{error}"
        );
    }
    HeldFolder::walk(&inner, Trust::Anybody).expect("for nobody's rights but one's own it is a folder as any");
}

#[test]
fn under_a_sticky_folder_what_is_ours_is_safe() {
    let outer = folder();
    chmod(outer.path(), 0o1777);
    std::fs::create_dir(outer.path().join("ours")).expect("made");
    HeldFolder::walk(&outer.path().join("ours"), Trust::own()).expect("nobody else can take it away");
    let held = HeldFolder::walk(outer.path(), Trust::own()).expect("held");
    held.create(name("disk")).expect("made");
    held.open(name("disk"), OFlags::RDWR).expect("it is ours");
}

#[test]
fn a_link_is_followed_where_nobody_else_could_have_put_it() {
    let outer = folder();
    let real = outer.path().canonicalize().expect("there").join("real");
    std::fs::create_dir_all(real.join("deep")).expect("made");
    symlink("real", outer.path().join("link")).expect("linked");
    symlink("link/deep/..", outer.path().join("longer")).expect("linked");
    let held = HeldFolder::walk(&outer.path().join("longer/deep"), Trust::own()).expect("an administrator's link");
    assert_eq!(held.path(), real.join("deep"));
    symlink(outer.path().join("self"), outer.path().join("self")).expect("linked");
    assert!(HeldFolder::walk(&outer.path().join("self"), Trust::own()).is_err());
}

#[test]
fn an_entry_is_found_behind_a_link_and_a_new_one_takes_no_link_for_its_place() {
    let outer = folder();
    std::fs::write(outer.path().join("disk"), b"x").expect("written");
    symlink("disk", outer.path().join("link")).expect("linked");
    let (_, found) = HeldFolder::walk_to_entry(&outer.path().join("link"), Trust::own()).expect("there");
    assert_eq!(found, "disk");
    let (held, place) = HeldFolder::walk_to_place(&outer.path().join("link"), Trust::own()).expect("there");
    assert_eq!(place, "link");
    assert_eq!(held.create(&place).expect_err("taken").kind, ErrorKind::AlreadyExists);
    assert_eq!(held.open(&place, OFlags::RDWR).expect_err("a link").kind, ErrorKind::UnsafeFolder);
}

#[test]
fn what_is_held_stays_the_folder_it_was() {
    let outer = folder();
    let [place, away, trap] = ["place", "away", "trap"].map(|leaf| outer.path().join(leaf));
    std::fs::create_dir(&place).expect("made");
    std::fs::create_dir(&trap).expect("made");
    let held = HeldFolder::walk(&place, Trust::own()).expect("held");
    std::fs::rename(&place, &away).expect("renamed");
    symlink(&trap, &place).expect("linked");
    held.create(name("disk")).expect("created");
    assert!(away.join("disk").exists() && !trap.join("disk").exists());
}

#[test]
fn only_the_very_file_is_removed() {
    let outer = folder();
    let held = HeldFolder::walk(outer.path(), Trust::own()).expect("held");
    held.create(name("disk")).expect("created");
    let identity = held.entry(name("disk")).expect("looked at").expect("there").identity;
    std::fs::rename(outer.path().join("disk"), outer.path().join("kept")).expect("renamed");
    std::fs::write(outer.path().join("disk"), b"of somebody else").expect("written");
    assert_eq!(held.unlink(name("disk"), identity).expect("looked at"), Removed::NotThatFile);
    assert_eq!(held.unlink(name("kept"), identity).expect("removed"), Removed::Yes);
    assert_eq!(held.unlink(name("kept"), identity).expect("looked at"), Removed::NothingThere);
    assert!(outer.path().join("disk").exists());
}

#[test]
fn a_pipe_is_not_waited_for() {
    let outer = folder();
    let held = HeldFolder::walk(outer.path(), Trust::own()).expect("held");
    let made = std::process::Command::new("mkfifo").arg(outer.path().join("pipe")).status().expect("mkfifo");
    assert!(made.success());
    let file = held.open(name("pipe"), OFlags::RDONLY).expect("opened at once");
    assert_eq!(crate::file::facts_of_file(&file).expect("looked at").kind, crate::file::EntryKind::Other);
}

#[test]
fn a_rename_replaces_only_when_it_may() {
    let outer = folder();
    let held = HeldFolder::walk(outer.path(), Trust::own()).expect("held");
    std::fs::write(outer.path().join("new"), b"new").expect("written");
    std::fs::write(outer.path().join("old"), b"old").expect("written");
    assert_eq!(held.rename(name("new"), name("old"), Replace::No).expect_err("taken").kind, ErrorKind::AlreadyExists);
    held.rename(name("new"), name("old"), Replace::Yes).expect("replaced");
    held.rename(name("old"), name("free"), Replace::No).expect("free");
    assert_eq!(std::fs::read(outer.path().join("free")).expect("there"), b"new");
    assert_eq!(held.names(b"").expect("listed"), ["free"]);
}

#[test]
fn a_name_is_one_component() {
    let outer = folder();
    let held = HeldFolder::walk(outer.path(), Trust::own()).expect("held");
    for wrong in ["..", ".", "", "a/b", "/etc/passwd", "a/"] {
        assert_eq!(held.create(name(wrong)).expect_err(wrong).kind, ErrorKind::InvalidArgument, "{wrong}");
    }
}
