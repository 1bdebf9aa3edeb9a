//! The testkit tested: it must fail where a test fails, and leave the machine alone.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use caracal_testkit::{
    Background, Etcd, NetNs, Vm, eventually, find_tool, free_port, isolate, missing, needs, netns,
    private_dir, vm,
};

#[test]
fn netns_is_empty_and_private() {
    let outside = NetNs::current().unwrap().id();
    println!("outside {outside:?}");
    netns!();
    // No route but loopback's, and loopback works.
    assert!(
        UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .connect("192.0.2.1:9")
            .is_err()
    );
    let listener = TcpListener::bind("[::1]:0").unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    // Names made here are not those of the machine.
    assert!(NetNs::list().unwrap().is_empty());
    NetNs::create("made-here").unwrap();
    assert_eq!(NetNs::list().unwrap(), ["made-here"]);
    private_dir(Path::new("/mnt")).unwrap();
    std::fs::write("/mnt/only-here", "x").unwrap();
}

#[test]
fn nothing_leaks_out_of_a_namespace() {
    assert!(!NetNs::list().unwrap().contains(&"made-here".to_owned()));
    assert!(!Path::new("/mnt/only-here").exists());
}

/// Run only by the next tests, inside out: each shows what a broken test looks like.
mod broken {
    use super::*;

    #[test]
    #[ignore = "fails on purpose"]
    fn netns_fails() {
        netns!();
        panic!("the message of the failure");
    }

    #[test]
    #[ignore = "fails on purpose"]
    fn vm_fails() {
        vm!(Vm::new());
        panic!("the message of the failure in the machine");
    }

    #[test]
    #[ignore = "run by a_skip_in_a_virtual_machine_is_a_line_in_the_ledger"]
    fn vm_skips() {
        vm!(Vm::new());
        needs!("no-such-tool-anywhere");
        panic!("the skip did not end the test");
    }

    #[test]
    #[ignore = "hangs on purpose"]
    fn vm_hangs() {
        vm!(Vm::new().limit(Duration::from_secs(2)));
        Command::new("sleep").arg("1000").status().unwrap();
    }

    #[test]
    #[ignore = "hangs on purpose"]
    fn netns_hangs() {
        netns!();
        let mut child = Background::spawn(Command::new("sleep").arg("1000"));
        println!("sleeper {} waits", child.pid());
        child.child().wait().unwrap();
    }
}

fn panic_of(work: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let panic = std::panic::catch_unwind(work).expect_err("it should have failed");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn a_failure_inside_is_a_failure_outside() {
    let text = panic_of(|| assert!(isolate("broken::netns_fails", Duration::from_secs(30))));
    assert!(text.contains("the message of the failure"), "{text}");
}

#[test]
fn vm_has_what_this_kernel_may_lack() {
    needs!("ip", "nft", "wg");
    vm!(Vm::new().tools(&["ip", "nft", "wg"]));
    assert!(
        std::fs::read_to_string("/proc/cmdline")
            .unwrap()
            .contains("console=ttyS0")
    );
    for link in [
        "ipip local 192.0.2.1 remote 192.0.2.2",
        "wireguard",
        "vxlan id 1 dstport 4789",
    ] {
        let args = format!("link add t-{} type {link}", link.len());
        let add = Command::new("ip").args(args.split(' ')).status();
        assert!(add.unwrap().success(), "{args}");
    }
    let nft = "add table inet t; add chain inet t c { type filter hook input priority 0; };
               add rule inet t c fib daddr type local meta nfproto ipv6 ct state established counter accept";
    assert!(Command::new("nft").arg(nft).status().unwrap().success());
    let listener = TcpListener::bind("[::1]:0").unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    NetNs::create("made-here").unwrap();
    assert_eq!(NetNs::list().unwrap(), ["made-here"]);
}

#[test]
fn a_failure_in_a_virtual_machine_is_a_failure_outside() {
    needs!("vm");
    let text = panic_of(|| assert!(caracal_testkit::vm::enter("broken::vm_fails", Vm::new)));
    assert!(text.contains("broken::vm_fails failed"), "{text}");
    assert!(
        text.contains("the message of the failure in the machine"),
        "{text}"
    );
}

#[test]
fn a_virtual_machine_that_hangs_is_ended() {
    needs!("vm");
    let hang = || Vm::new().limit(Duration::from_secs(2));
    let text = panic_of(move || assert!(caracal_testkit::vm::enter("broken::vm_hangs", hang)));
    assert!(text.contains("took longer"), "{text}");
}

#[test]
fn a_name_that_matches_no_test_is_a_failure() {
    let text = panic_of(|| assert!(isolate("broken::netns_nowhere", Duration::from_secs(30))));
    assert!(text.contains("did not run"), "{text}");
}

#[test]
fn a_test_that_hangs_is_killed_with_what_it_started() {
    let begin = Instant::now();
    let text = panic_of(|| assert!(isolate("broken::netns_hangs", Duration::from_secs(2))));
    assert!(text.contains("took longer"), "{text}");
    assert!(begin.elapsed() < Duration::from_secs(20));
    let sleeper = text.split_once("sleeper ").unwrap().1.split_once(' ').unwrap().0;
    let status = format!("/proc/{sleeper}/stat");
    eventually(Duration::from_secs(5), || {
        match std::fs::read_to_string(&status) {
            Ok(text) if !text.contains(") Z ") => Err(format!("still there: {text}")),
            _ => Ok(()),
        }
    });
}

/// What a test writes to a ledger of its own.
fn ledger_of(test: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let ledger = dir.path().join("ledger.txt");
    // In a process of its own: the environment of this one is shared with the other tests.
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--include-ignored"])
        .env("CARACAL_SKIP_LEDGER", &ledger)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    std::fs::read_to_string(&ledger).unwrap()
}

#[test]
fn a_skip_is_a_line_in_the_ledger() {
    let text = ledger_of("skipped_for_lack_of_a_tool");
    assert_eq!(text, "skipped_for_lack_of_a_tool\tno-such-tool-anywhere\n");
    assert_eq!(caracal_testkit::ledger::unexpected(&text, "").len(), 1);
}

#[test]
fn a_skip_in_a_virtual_machine_is_a_line_in_the_ledger() {
    needs!("vm");
    let text = ledger_of("broken::vm_skips");
    assert_eq!(text, "broken::vm_skips\tno-such-tool-anywhere\n");
}

#[test]
#[ignore = "run by a_skip_is_a_line_in_the_ledger"]
fn skipped_for_lack_of_a_tool() {
    needs!("sh", "no-such-tool-anywhere");
    panic!("the skip did not end the test");
}

#[test]
fn netns_background_lives_in_the_other_namespace() {
    netns!();
    let other = NetNs::create("other").unwrap();
    let mut command = Command::new(find_tool("sleep").unwrap());
    let child = Background::spawn_in(&other, command.arg("1000").stdout(Stdio::null()));
    assert_eq!(NetNs::of_process(child.pid()).unwrap().id(), other.id());
    assert_ne!(NetNs::current().unwrap().id(), other.id());
}

#[test]
fn netns_etcd_serves_and_keeps_its_data_over_a_kill() {
    netns!();
    needs!("etcd", "etcdctl");
    let mut etcd = Etcd::start();
    let ctl = |endpoint: &str, args: &[&str]| {
        let output = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", endpoint])
            .args(args)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    ctl(&etcd.endpoint(), &["put", "k", "v"]);
    etcd.kill();
    etcd.restart();
    assert_eq!(ctl(&etcd.endpoint(), &["get", "k", "--print-value-only"]), "v\n");
}

#[test]
fn netns_link_kinds_are_asked_of_the_kernel() {
    netns!();
    needs!("ip");
    assert_eq!(missing(&["root", "link:veth", "link:bridge"]), None);
    assert_eq!(
        missing(&["link:veth", "link:nosuchkind"]),
        Some("link:nosuchkind".to_owned())
    );
}

#[test]
#[should_panic(expected = "never")]
fn eventually_gives_up() {
    eventually(Duration::from_millis(5), || Err::<(), _>("never".to_owned()));
}

#[test]
fn free_ports_can_be_bound() {
    TcpListener::bind(("127.0.0.1", free_port())).unwrap();
}
