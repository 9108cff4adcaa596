//! System calls that a worker has no use for and a guest that has taken it over would have: they fail with EPERM (seccomp).
//!
//! A list of what is refused, not of what is allowed: the worker is a Node process, and Node, V8 and libc take up system calls with each
//! release. A list of the allowed would have to be found anew for each, and its mistake is a guest that stands still. What is listed here
//! is what leads from one process into another, into the kernel, to other programs and to the network. io_uring's operations are no system
//! calls: sockets made there are kept in by the worker's network namespace.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

use crate::disk::{DiskError, ErrorKind};

const ALWAYS: &[libc::c_long] = &[
    // other processes
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_tkill,
    libc::SYS_kcmp,
    // other programs, users and rights
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_personality,
    // namespaces, mounts, files by other ways than their names
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_open_by_handle_at,
    libc::SYS_mknod,
    libc::SYS_mknodat,
    libc::SYS_fanotify_init,
    // the kernel
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_syslog,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    // the machine
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_vhangup,
];

const NAMESPACES: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// Refuses them to every thread of this process, now and for good; sets no_new_privs. Errors: the kernel has no seccomp.
pub fn refuse_dangerous_calls() -> Result<(), DiskError> {
    let failed =
        |e: seccompiler::Error| DiskError::new(ErrorKind::Unsupported, format!("system calls cannot be refused: {e}"));
    let broken = |e: seccompiler::BackendError| {
        DiskError::new(ErrorKind::InvalidState, format!("the list of refused system calls is wrong: {e}"))
    };
    let own = u64::from(std::process::id());
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = ALWAYS.iter().map(|call| (*call, Vec::new())).collect();
    // Signals to others; a kill point of the tests kills this process itself, and libc's abort is a tgkill of it.
    for call in [libc::SYS_kill, libc::SYS_tgkill, libc::SYS_rt_tgsigqueueinfo] {
        refused.insert(call, vec![when(0, SeccompCmpOp::Ne, own).map_err(broken)?]);
    }
    refused.insert(libc::SYS_socket, vec![when(0, SeccompCmpOp::Ne, libc::AF_UNIX as u64).map_err(broken)?]);
    let mut clones = Vec::new();
    for bit in (0..u64::BITS).map(|bit| 1u64 << bit).filter(|bit| NAMESPACES & bit != 0) {
        clones.push(when(0, SeccompCmpOp::MaskedEq(bit), bit).map_err(broken)?);
    }
    refused.insert(libc::SYS_clone, clones);
    apply(refused, libc::EPERM).map_err(broken)?.map_err(failed)?;
    // Its flags are behind a pointer, where a filter cannot look. libc does with clone what a kernel without clone3 does not do.
    apply(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS).map_err(broken)?.map_err(failed)
}

/// The values are those of 32-bit arguments: a filter that looked at all 64 could be passed by bits that the kernel does not look at.
fn when(argument: u8, compared: SeccompCmpOp, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compared, value)?])
}

fn apply(
    refused: BTreeMap<i64, Vec<SeccompRule>>,
    errno: i32,
) -> Result<Result<(), seccompiler::Error>, seccompiler::BackendError> {
    let arch = if cfg!(target_arch = "aarch64") { TargetArch::aarch64 } else { TargetArch::x86_64 };
    let filter = SeccompFilter::new(refused, SeccompAction::Allow, SeccompAction::Errno(errno as u32), arch)?;
    let program: BpfProgram = filter.try_into()?;
    Ok(apply_filter_all_threads(&program))
}
