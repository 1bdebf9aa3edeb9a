//! Files, and the real kernel in namespaces of our own.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use caracal_net::Family;
use caracal_sys::{
    MountPlan, NetNs, ProcessId, SysError, Sysctl, SysctlDir, processes_in, read_mtu_file, read_optional,
    remove_optional, spawn_in, write_atomic, write_mtu_file,
};
use caracal_testkit::{Background, netns};

#[test]
fn a_file_is_replaced_whole_with_its_mode() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/file");
    assert_eq!(read_optional(&path).unwrap(), None);
    write_atomic(&path, b"one", 0o600).unwrap();
    write_atomic(&path, b"two", 0o644).unwrap();
    assert_eq!(read_optional(&path).unwrap().as_deref(), Some(&b"two"[..]));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(
        fs::read_dir(path.parent().unwrap()).unwrap().count(),
        1,
        "a temporary file is left"
    );
    assert!(remove_optional(&path).unwrap());
    assert!(!remove_optional(&path).unwrap());
}

#[test]
fn a_write_that_cannot_finish_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    // A directory cannot be replaced by a file.
    let path = dir.path().join("taken");
    fs::create_dir_all(path.join("x")).unwrap();
    let error = write_atomic(&path, b"new", 0o600).unwrap_err();
    assert!(error.to_string().contains("taken"), "{error}");
    assert_eq!(
        fs::read_dir(dir.path()).unwrap().count(),
        1,
        "a temporary file is left"
    );
}

#[test]
fn the_mtu_file_is_checked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mtu");
    assert_eq!(read_mtu_file(&path).unwrap(), None);
    assert!(write_mtu_file(&path, 1450).unwrap());
    assert!(!write_mtu_file(&path, 1450).unwrap());
    assert_eq!(read_mtu_file(&path).unwrap(), Some(1450));
    for bad in ["", "x", "12", "70000", "1450 1500"] {
        fs::write(&path, bad).unwrap();
        assert!(
            matches!(read_mtu_file(&path), Err(SysError::Content { .. })),
            "{bad:?}"
        );
    }
    assert!(write_mtu_file(&path, 1500).unwrap(), "a damaged file is replaced");
}

#[test]
fn netns_named_namespaces_come_and_go() {
    netns!();
    assert!(NetNs::list().unwrap().is_empty());
    let one = NetNs::create("one").unwrap();
    let two = NetNs::create("two").unwrap();
    assert_ne!(one.id(), two.id());
    assert!(matches!(NetNs::create("one"), Err(SysError::NetNsExists(_))));
    assert_eq!(NetNs::list().unwrap(), ["one", "two"]);
    assert_eq!(NetNs::named("one").unwrap().id(), one.id());
    let own = NetNs::current().unwrap().id();
    assert_eq!(two.run(|| NetNs::current().unwrap().id()).unwrap(), two.id());
    assert_eq!(
        NetNs::current().unwrap().id(),
        own,
        "run changed its caller's namespace"
    );
    assert!(NetNs::delete("one").unwrap());
    assert!(!NetNs::delete("one").unwrap());
    assert!(matches!(NetNs::named("one"), Err(SysError::NetNsMissing(_))));
    // Still usable through the open handle.
    assert_eq!(one.run(|| NetNs::current().unwrap().id()).unwrap(), one.id());
}

#[test]
fn netns_bad_names_and_paths_are_refused() {
    netns!();
    for bad in ["", ".", "..", "a/b", "../x", "a\0b"] {
        assert!(
            matches!(NetNs::create(bad), Err(SysError::NetNsName(_))),
            "{bad:?}"
        );
        assert!(
            matches!(NetNs::delete(bad), Err(SysError::NetNsName(_))),
            "{bad:?}"
        );
    }
    assert!(matches!(
        NetNs::open(Path::new("/proc/self/status")),
        Err(SysError::NotNetNs(_))
    ));
    assert!(matches!(
        NetNs::open(Path::new("/nowhere")),
        Err(SysError::NetNsMissing(_))
    ));
}

#[test]
fn netns_what_an_interrupted_create_left_is_taken_over() {
    netns!();
    fs::create_dir_all("/run/netns").unwrap();
    fs::write("/run/netns/half", "").unwrap();
    let half = NetNs::create("half").unwrap();
    assert_ne!(half.id(), NetNs::current().unwrap().id());
    assert!(NetNs::delete("half").unwrap());
    fs::write("/run/netns/half", "").unwrap();
    assert!(NetNs::delete("half").unwrap(), "a plain leftover is removed too");
}

#[test]
fn netns_sysctls_are_those_of_the_threads_namespace() {
    netns!();
    let other = NetNs::anonymous().unwrap();
    let forwarding = Sysctl::new(&["net", "ipv4", "ip_forward"]).unwrap();
    let there = other.run(|| {
        assert!(forwarding.ensure("1").unwrap());
        assert!(!forwarding.ensure("1").unwrap());
        forwarding.read().unwrap()
    });
    assert_eq!(there.unwrap(), "1");
    assert_eq!(forwarding.read().unwrap(), "0");
    let proxy = Sysctl::conf(Family::V4, "lo", "proxy_arp").unwrap();
    proxy.write("1").unwrap();
    assert_eq!(proxy.read().unwrap(), "1");
    let missing = Sysctl::conf(Family::V6, "cali0", "forwarding").unwrap();
    assert!(!missing.exists());
    assert!(missing.write("1").unwrap_err().to_string().contains("cali0"));
}

#[test]
fn netns_an_open_folder_is_that_of_its_namespace_and_knows_links_that_come_later() {
    netns!();
    let other = NetNs::anonymous().unwrap();
    let own = SysctlDir::all_conf(Family::V4).unwrap();
    let theirs = other.run(|| SysctlDir::all_conf(Family::V4).unwrap()).unwrap();
    assert!(own.folder("cali0").is_err() && theirs.folder("lo").is_ok());
    let add = Command::new("ip")
        .args(["link", "add", "cali0", "type", "veth", "peer", "name", "inner0"])
        .status();
    assert!(add.unwrap().success());
    assert!(theirs.folder("cali0").is_err());
    let cali = own.folder("cali0").unwrap();
    assert!(cali.ensure("proxy_arp", "1").unwrap());
    assert!(!cali.ensure("proxy_arp", "1").unwrap());
    let by_path = Sysctl::conf(Family::V4, "cali0", "proxy_arp").unwrap();
    assert_eq!(by_path.read().unwrap(), "1");
    assert!(theirs.folder("lo").unwrap().ensure("proxy_arp", "1").unwrap());
    assert_eq!(own.folder("lo").unwrap().read("proxy_arp").unwrap(), "0");
    let odd = cali.ensure("proxy_arp", "often").unwrap_err().to_string();
    assert!(odd.contains("write") && odd.contains("cali0/proxy_arp"), "{odd}");
}

#[test]
fn netns_processes_are_found_by_namespace() {
    netns!();
    let other = NetNs::create("other").unwrap();
    assert!(processes_in(other.id()).unwrap().is_empty());
    let mut sleeper = Background::spawn_in(&other, Command::new("sleep").arg("600"));
    let id = ProcessId::of(sleeper.pid()).unwrap().unwrap();
    assert_eq!(processes_in(other.id()).unwrap(), [id]);
    sleeper.kill();
    assert!(processes_in(other.id()).unwrap().is_empty());
}

#[test]
fn netns_a_mount_plan_shows_its_own_directories_only_inside() {
    netns!();
    let other = NetNs::create("node").unwrap();
    let state = Path::new("/run/lab/node1");
    fs::create_dir_all("/run/calico").unwrap();
    fs::write("/run/calico/outside", "").unwrap();
    let plan = MountPlan {
        binds: vec![
            (state.to_owned(), "/run/calico".into()),
            (state.join("e"), "/run/made/by/plan".into()),
        ],
        empty: vec!["/mnt".into()],
    };
    let script = "ls /run/calico /mnt; echo hello > /run/calico/inside; readlink /proc/self/ns/net";
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdout(Stdio::piped());
    let output = spawn_in(&mut command, Some(&other), Some(&plan))
        .unwrap()
        .wait_with_output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("outside"), "{text}");
    assert!(text.contains(&format!("net:[{}]", other.id().inode)), "{text}");
    assert_eq!(fs::read_to_string(state.join("inside")).unwrap(), "hello\n");
    assert!(!Path::new("/run/calico/inside").exists());
    let missing = spawn_in(&mut Command::new("/no/such/program"), None, None).unwrap_err();
    assert!(missing.to_string().contains("/no/such/program"), "{missing}");
}

#[test]
fn netns_a_deleted_namespace_is_not_kept_alive_by_a_mount_plan() {
    netns!();
    NetNs::create("short").unwrap();
    let plan = MountPlan::default();
    let mut command = Command::new("sleep");
    let mut child = spawn_in(command.arg("600"), None, Some(&plan)).unwrap();
    let seen = format!("/proc/{}/root/run/netns/short", child.id());
    assert!(NetNs::open(Path::new(&seen)).is_ok());
    NetNs::delete("short").unwrap();
    let after = NetNs::open(Path::new(&seen));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(after, Err(SysError::NetNsMissing(_))), "{after:?}");
}

#[test]
fn netns_a_visit_comes_back() {
    netns!();
    let own = NetNs::current().unwrap();
    let other = NetNs::anonymous().unwrap();
    let there = other.visit(|| NetNs::current().unwrap().id()).unwrap();
    assert_eq!(there, other.id());
    assert_eq!(NetNs::current().unwrap().id(), own.id());
    let panicked = std::panic::catch_unwind(|| other.visit(|| panic!("inside")));
    assert!(panicked.is_err());
    assert_eq!(NetNs::current().unwrap().id(), own.id());
    // What is no network namespace is not entered, and nothing is done there.
    let uts = NetNs::open(std::path::Path::new("/proc/self/ns/uts")).unwrap();
    let refused: Result<(), _> = uts.visit(|| panic!("it is not entered"));
    assert!(refused.is_err());
    assert_eq!(NetNs::current().unwrap().id(), own.id());
}
