//! What a caged process can still do, tried by one: a program of its own, because giving
//! things up takes a process with a single thread, which the test harness does not have.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test may stop on the first surprise and says what it saw"
)]

use std::fs;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;

use decnet::netns::cage;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::{Pid, Uid, chroot, execv, setresuid};

/// The user of this test: nobody's.
const ID: u32 = 1_879_100_000;

fn main() {
    if let Ok(dir) = std::env::var("DECNET_TEST_CAGE") {
        in_the_cage(&dir);
        return;
    }
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: a_caged_process_can_do_nothing_but_serve: needs root");
        return;
    }
    if fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|l| l.contains("landlock")) {
        println!("landlock is there");
    } else {
        println!("skipped: landlock: this kernel has none; the rest of the cage is tried without");
    }
    a_caged_process_can_do_nothing_but_serve();
    println!("test a_caged_process_can_do_nothing_but_serve ... ok");
}

/// What the caged process tries; each must be refused by the call filter (EPERM), not
/// by chance.
const REFUSED: &[&str] = &[
    "execute",
    "raw socket",
    "packet socket",
    "netlink",
    "new user",
    "new network",
    "another root",
    "another user",
    "another limit",
    "signal to others",
    "connect",
];

fn in_the_cage(dir: &str) {
    std::env::set_current_dir(dir).unwrap();
    cage::become_user(ID).unwrap();
    cage::enter(ID).unwrap();
    cage::shut_in().unwrap();
    cage::lock(Path::new("/"), false).unwrap();
    let program = c"/program";
    let open = |family, kind| socket(family, kind, SockFlag::empty(), None).err();
    let root = Uid::from_raw(0);
    // Without the filter it would be that there is no route.
    let called = std::net::TcpStream::connect(("127.0.0.1", 1)).unwrap_err();
    let tries = [
        execv(program, &[program]).err(),
        open(AddressFamily::Inet, SockType::Raw),
        open(AddressFamily::Packet, SockType::Datagram),
        open(AddressFamily::Netlink, SockType::Raw),
        unshare(CloneFlags::CLONE_NEWUSER).err(),
        unshare(CloneFlags::CLONE_NEWNET).err(),
        chroot("/").err(),
        setresuid(root, root, root).err(),
        setrlimit(Resource::RLIMIT_NOFILE, 1 << 20, 1 << 20).err(),
        nix::sys::signal::kill(Pid::from_raw(1), None).err(),
        called.raw_os_error().map(Errno::from_raw),
    ];
    for (what, refused) in REFUSED.iter().zip(tries) {
        println!("{what}: {refused:?}");
    }
    // What serving needs still works.
    std::net::TcpListener::bind(("0.0.0.0", 0)).unwrap();
    fs::write("/mine", "x").unwrap();
    assert_eq!(fs::read_to_string("/mine").unwrap(), "x");
    std::thread::spawn(|| {}).join().unwrap();
    let (_one, _two) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(!Path::new("/etc/passwd").exists(), "a file of the host's");
    println!("served");
}

fn a_caged_process_can_do_nothing_but_serve() {
    let dir = tempfile::tempdir().unwrap();
    chown(dir.path(), Some(ID), Some(ID)).unwrap();
    // A program it could run, if it could.
    fs::copy("/bin/true", dir.path().join("program")).unwrap();
    let ran = Command::new(std::env::current_exe().unwrap())
        .env("DECNET_TEST_CAGE", dir.path())
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&ran.stdout),
        String::from_utf8_lossy(&ran.stderr)
    );
    for what in REFUSED {
        assert!(
            said.contains(&format!("{what}: Some(EPERM)")),
            "{what}: {said}"
        );
    }
    assert!(ran.status.success() && said.contains("served"), "{said}");
    let mine = fs::read_to_string(dir.path().join("mine"));
    assert_eq!(mine.expect("it writes into its own directory"), "x");
}
