//! Clients written by others: libnbd (nbdinfo, nbdcopy), QEMU (qemu-img, qemu-io), fio. They judge our answers and we
//! theirs.
//!
//! A client that is not installed is a skip with a message, and a failure where CI=true.

use std::path::Path;
use std::process::{Command, Output};

use vmstorage_engine::disk::RequestKind;

use crate::runner::{Runner, Setup};

/// False, with a message, if one of the programs is missing.
fn installed(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let has = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let missing: Vec<_> = programs.iter().filter(|program| !has(program)).collect();
    if !missing.is_empty() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing:?} must be installed where CI=true");
        eprintln!("skipped: {missing:?} not installed");
    }
    missing.is_empty()
}

fn try_run(program: &str, arguments: &[&str]) -> Output {
    // A client that waits for ever for an answer is a failure of ours, not a hung test.
    Command::new("timeout").arg("60").arg(program).args(arguments).output().unwrap()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = try_run(program, arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

/// `len` bytes of which two thirds are holes, no two pages alike.
fn sparse_content(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut random = 0x2545_F491_4F6C_DD1Du64;
    for chunk in bytes.chunks_mut(96 << 10) {
        let data = chunk.len().min(32 << 10);
        for word in chunk[..data].chunks_mut(8) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            word.copy_from_slice(&random.to_le_bytes()[..word.len()]);
        }
    }
    bytes
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn nbdinfo_sees_what_the_export_can_do() {
    if !installed(&["nbdinfo"]) {
        return;
    }
    let runner = Runner::start(Setup::default());
    // Without the guess at the content, for which nbdinfo calls file(1): it complains where there is none.
    let about = |arguments: &[&str]| -> serde_json::Value {
        let all = [&["--json", "--no-content"], arguments].concat();
        serde_json::from_str(&run("nbdinfo", &all)).unwrap()
    };
    let json = about(&[&runner.uri()]);
    assert_eq!(json["protocol"], "newstyle-fixed");
    assert_eq!(json["structured"], true);
    let export = &json["exports"][0];
    assert_eq!(export["export-name"], "disk0");
    assert_eq!(export["export-size"], 64 << 20);
    assert_eq!(export["contexts"], serde_json::json!(["base:allocation"]));
    for able in ["can_cache", "can_df", "can_fast_zero", "can_flush", "can_fua", "can_trim", "can_zero"] {
        assert_eq!(export[able], true, "{able}");
    }
    for unable in ["can_multi_conn", "is_read_only", "is_rotational"] {
        assert_eq!(export[unable], false, "{unable}");
    }
    assert_eq!(
        (&export["block_size_minimum"], &export["block_size_preferred"], &export["block_size_maximum"]),
        (&512.into(), &4096.into(), &(32 << 20).into())
    );
    let list = about(&["--list", &runner.uri()]);
    assert_eq!(list["exports"][0]["export-name"], "disk0");
    for able in
        ["connect", "flush", "fua", "trim", "zero", "fast-zero", "cache", "df", "read", "write", "structured-reply"]
    {
        assert!(try_run("nbdinfo", &["--can", able, &runner.uri()]).status.success(), "{able}");
    }
    assert!(!try_run("nbdinfo", &["--is", "read-only", &runner.uri()]).status.success());
    let wrong = format!("nbd+unix:///disk1?socket={}", text(&runner.socket()));
    assert!(!try_run("nbdinfo", &[&wrong]).status.success());
    let read_only = Runner::start(Setup { read_only: true, ..Setup::default() });
    assert!(try_run("nbdinfo", &["--is", "read-only", &read_only.uri()]).status.success());
    assert!(!try_run("nbdinfo", &["--can", "write", &read_only.uri()]).status.success());
}

#[test]
fn nbdinfo_maps_the_allocation() {
    if !installed(&["nbdinfo"]) {
        return;
    }
    let runner = Runner::start(Setup { size: 5 << 30, ..Setup::default() });
    runner.disk(|disk| {
        disk.write(1 << 20, &[1; 65536]);
        disk.write(4 << 30, &[1; 4096]);
    });
    let map: serde_json::Value = serde_json::from_str(&run("nbdinfo", &["--map", "--json", &runner.uri()])).unwrap();
    let extents: Vec<_> = map
        .as_array()
        .unwrap()
        .iter()
        .map(|extent| {
            let number = |key: &str| extent[key].as_u64().unwrap();
            (number("offset"), number("length"), number("type"))
        })
        .collect();
    let end = (1 << 20) + 65536;
    let far = 4 << 30;
    // nbdinfo joins equal neighbours across answers.
    assert_eq!(
        extents,
        [(0, 1 << 20, 3), (1 << 20, 65536, 0), (end, far - end, 3), (far, 4096, 0), (far + 4096, (1 << 30) - 4096, 3)]
    );
}

#[test]
fn nbdcopy_copies_both_ways() {
    if !installed(&["nbdcopy"]) {
        return;
    }
    let runner = Runner::start(Setup::default());
    let content = sparse_content(64 << 20);
    let (source, target) = (runner.folder().join("source.img"), runner.folder().join("target.img"));
    std::fs::write(&source, &content).unwrap();
    run("nbdcopy", &["--flush", text(&source), &runner.uri()]);
    assert!(runner.disk(|disk| disk.contents(64 << 20)) == content);
    assert!(runner.disk(|disk| disk.log.iter().any(|entry| entry.kind == RequestKind::Flush)));
    std::fs::write(&target, vec![0xFF; 64 << 20]).unwrap();
    run("nbdcopy", &[&runner.uri(), text(&target)]);
    assert!(std::fs::read(&target).unwrap() == content);
}

#[test]
fn nbdkit_agrees_with_what_nbdcopy_brings_back() {
    if !installed(&["nbdcopy", "nbdkit"]) {
        return;
    }
    let runner = Runner::start(Setup { size: 256 << 20, ..Setup::default() });
    let ours = runner.uri();
    // sparse-random checks what is written to it against what it had given out.
    let script = format!("nbdcopy \"$uri\" '{ours}' && nbdcopy '{ours}' \"$uri\"");
    run("nbdkit", &["-U", "-", "sparse-random", "256M", "seed=7", "percent=30", "--run", &script]);
}

#[test]
fn qemu_io_writes_zeroes_discards_and_reads_patterns() {
    if !installed(&["qemu-io"]) {
        return;
    }
    let runner = Runner::start(Setup::default());
    let uri = runner.uri();
    let mut arguments = vec!["-f", "raw", "-t", "none", "-d", "unmap"];
    for command in [
        "write -P 0xA1 0 1M",
        "write -f -P 0xB2 1M 64k",
        "write -z 4k 8k",
        "write -z -u 64k 128k",
        "write -z -f 200k 4k",
        "discard 512k 256k",
        "write -P 0xC3 513 100",
        "aio_write -P 0xD4 2M 8M",
        "aio_write -P 0xE5 10M 8M",
        "aio_flush",
        "flush",
        "read -P 0xA1 0 512",
        "read -P 0xC3 513 100",
        "read -P 0xA1 1k 3k",
        "read -P 0 4k 8k",
        "read -P 0xA1 12k 52k",
        "read -P 0 64k 128k",
        "read -P 0 200k 4k",
        "read -P 0 512k 256k",
        "read -P 0xB2 1M 64k",
        "read -P 0 1088k 960k",
        "read -P 0xD4 2M 8M",
        "read -P 0xE5 10M 8M",
        "read -P 0 18M 46M",
    ] {
        arguments.extend(["-c", command]);
    }
    arguments.push(&uri);
    let output = run("qemu-io", &arguments);
    assert!(!output.contains("failed") && !output.contains("rror"), "{output}");
    let log = runner.disk(|disk| disk.log.clone());
    let has = |kind| log.iter().any(|entry| entry.kind == kind);
    assert!(has(RequestKind::WriteZeroes { unmap: false }) && has(RequestKind::WriteZeroes { unmap: true }));
    assert!(has(RequestKind::Discard) && has(RequestKind::Flush));
    assert!(log.iter().any(|entry| entry.fua && entry.offset == 1 << 20));
}

#[test]
fn qemu_reports_the_disks_error_and_goes_on() {
    if !installed(&["qemu-io"]) {
        return;
    }
    let runner = Runner::start(Setup::default());
    runner.disk(|disk| disk.failure = Some((RequestKind::Write, 1 << 20, libc::ENOSPC)));
    let uri = runner.uri();
    let commands = ["-f", "raw", "-c", "write -P 1 1M 64k", "-c", "write -P 2 8M 64k", "-c", "read -P 2 8M 64k", &uri];
    let output = try_run("qemu-io", &commands);
    let output = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.contains("No space left on device"), "{output}");
    assert!(output.contains("read 65536/65536 bytes at offset 8388608"), "{output}");
}

#[test]
fn qemu_img_converts_both_ways_and_finds_no_difference() {
    if !installed(&["qemu-img"]) {
        return;
    }
    let runner = Runner::start(Setup { size: 96 << 20, ..Setup::default() });
    let content = sparse_content(96 << 20);
    let (source, back) = (runner.folder().join("source.img"), runner.folder().join("back.qcow2"));
    std::fs::write(&source, &content).unwrap();
    let uri = runner.uri();
    let out_of_order = ["convert", "-n", "-W", "-m", "16", "-f", "raw", "-O", "raw", text(&source), &uri];
    run("qemu-img", &out_of_order);
    assert!(runner.disk(|disk| disk.contents(96 << 20)) == content);
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", text(&source), &uri]);
    run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &uri, text(&back)]);
    run("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", text(&back), &uri]);
    runner.disk(|disk| disk.write(50 << 20, &[1; 512]));
    assert!(!try_run("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", text(&back), &uri]).status.success());
    run(
        "qemu-img",
        &["bench", "-f", "raw", "-w", "-c", "2000", "-d", "64", "-s", "4096", "--flush-interval=100", &uri],
    );
}

#[test]
fn qemu_cannot_write_to_a_read_only_export() {
    if !installed(&["qemu-io"]) {
        return;
    }
    let runner = Runner::start(Setup { read_only: true, ..Setup::default() });
    runner.disk(|disk| disk.write(0, &[7; 65536]));
    let uri = runner.uri();
    let output = run("qemu-io", &["-r", "-f", "raw", "-c", "read -P 7 0 64k", &uri]);
    assert!(output.contains("65536 bytes"), "{output}");
    assert!(!try_run("qemu-io", &["-f", "raw", "-c", "write 0 4k", &uri]).status.success());
    assert!(runner.disk(|disk| disk.contents(65536)).iter().all(|&byte| byte == 7));
}

#[test]
fn sectors_of_4096_bytes_work_with_qemu_and_nbdcopy() {
    if !installed(&["qemu-img", "nbdcopy", "qemu-io"]) {
        return;
    }
    let runner = Runner::start(Setup { sector: 4096, ..Setup::default() });
    let content = sparse_content(64 << 20);
    let source = runner.folder().join("source.img");
    std::fs::write(&source, &content).unwrap();
    run("nbdcopy", &[text(&source), &runner.uri()]);
    run("qemu-img", &["compare", "-f", "raw", "-F", "raw", text(&source), &runner.uri()]);
    let uri = runner.uri();
    let output = run("qemu-io", &["-f", "raw", "-c", "write -P 9 1000 100", "-c", "read -P 9 1000 100", &uri]);
    assert!(!output.contains("failed"), "{output}");
}

#[test]
fn fio_reads_back_what_it_wrote_at_random() {
    if !installed(&["fio"]) {
        return;
    }
    let runner = Runner::start(Setup { size: 32 << 20, ..Setup::default() });
    let job = format!("--uri={}", runner.uri());
    let random = [
        "--name=verify",
        "--ioengine=nbd",
        &job,
        "--rw=randwrite",
        "--bsrange=512-128k",
        "--blockalign=512",
        "--iodepth=64",
        "--size=32m",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--do_verify=1",
        "--randseed=7",
        "--fsync=64",
        "--verify_state_save=0",
        "--output-format=terse",
    ];
    run("fio", &random);
    let mixed = [
        "--name=mixed",
        "--ioengine=nbd",
        &job,
        "--rw=randrw",
        "--bs=4k",
        "--iodepth=128",
        "--size=32m",
        "--io_size=128m",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--verify_backlog=256",
        "--verify_state_save=0",
        "--output-format=terse",
    ];
    run("fio", &mixed);
}

#[test]
fn several_clients_at_once_each_find_their_own_data() {
    if !installed(&["qemu-io", "nbdcopy"]) {
        return;
    }
    let runner = Runner::start(Setup::default());
    std::thread::scope(|scope| {
        for n in 0..6u32 {
            let uri = runner.uri();
            scope.spawn(move || {
                let write = format!("write -P {} {}M 8M", n + 1, n * 8);
                let read = format!("read -P {} {}M 8M", n + 1, n * 8);
                for _ in 0..5 {
                    let output = run("qemu-io", &["-f", "raw", "-c", &write, "-c", &read, &uri]);
                    assert!(!output.contains("failed"), "{output}");
                }
            });
        }
    });
}
