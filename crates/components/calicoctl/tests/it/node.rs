use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;

use caracal_calicoctl::Io;

use crate::rig::{Ran, run};

fn node(dir: &Path, line: &str) -> Ran {
    let words: Vec<&str> = ["calicoctl", "node"].into_iter().chain(line.split(' ')).collect();
    let io = Io {
        run: dir.to_owned(),
        ..Io::process()
    };
    run(&words, io)
}

/// A daemon that answers every connection with a text, once it was asked.
fn bird(path: &Path, answer: &'static str) {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.write_all(b"0001 BIRD 1.6.8 ready.\n");
            let mut asked = [0; 64];
            let n = stream.read(&mut asked).unwrap_or(0);
            assert_eq!(&asked[..n], b"show protocols\n");
            let _ = stream.write_all(answer.as_bytes());
        }
    });
}

#[test]
fn the_status_of_a_node_and_its_peers() {
    let dir = tempfile::tempdir().unwrap();
    let down = node(dir.path(), "status");
    assert_eq!((down.code, down.out.as_str()), (1, ""));
    assert!(down.err.contains("Calico process is not running"), "{down:?}");
    let _agent = UnixListener::bind(dir.path().join("agent.sock")).unwrap();
    assert_eq!(
        node(dir.path(), "status").ok(),
        "Calico process is running.\n\nNone of the BGP backend processes (BIRD or GoBGP) are running.\n"
    );
    bird(
        &dir.path().join("bird.ctl"),
        "2002-name     proto    table    state  since       info\n\
         1002-static1  Static   master   up     16:17:24\n\
         \x20Mesh_172_17_8_102 BGP      master   up     16:17:25    Established\n\
         \x20Global_10_0_0_9 BGP      master   start  16:17:26    Active  Socket: Connection refused\n\
         0000 \n",
    );
    let peers = node(dir.path(), "status").ok();
    assert_eq!(
        peers,
        "Calico process is running.\n\nIPv4 BGP status\n\
         +--------------+-------------------+-------+----------+-----------------------------------+\n\
         | PEER ADDRESS |     PEER TYPE     | STATE |  SINCE   |               INFO                |\n\
         +--------------+-------------------+-------+----------+-----------------------------------+\n\
         | 172.17.8.102 | node-to-node mesh | up    | 16:17:25 | Established                       |\n\
         | 10.0.0.9     | global            | start | 16:17:26 | Active Socket: Connection refused |\n\
         +--------------+-------------------+-------+----------+-----------------------------------+\n\
         \nIPv6 BGP status\nNo IPv6 peers found.\n"
    );
    bird(&dir.path().join("bird6.ctl"), "9001 syntax error\n");
    let e = node(dir.path(), "status");
    assert!(
        e.code == 1 && e.err.contains("bird6.ctl") && e.err.contains("syntax error"),
        "{e:?}"
    );
}

#[test]
fn what_a_kernel_lacks_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config");
    let options = [
        "NF_TABLES",
        "NF_CONNTRACK",
        "NF_NAT",
        "NFT_CT",
        "NFT_FIB",
        "NFT_LOG",
        "NFT_MASQ",
        "NFT_NAT",
        "NFT_REJECT",
        "VETH",
        "VXLAN",
    ];
    let write = |options: &[&str]| {
        let text: String = options.iter().map(|o| format!("CONFIG_{o}=m\n")).collect();
        std::fs::write(&file, text).unwrap();
    };
    write(&options);
    let check = format!("checksystem --kernel-config={}", file.display());
    let good = node(dir.path(), &check).ok();
    assert!(
        good.ends_with("System meets minimum system requirements to run Calico!\n"),
        "{good}"
    );
    assert_eq!(good.matches("OK").count(), options.len() + 1, "{good}");
    write(&options[..10]);
    let bad = node(dir.path(), &check);
    assert!(
        bad.code == 1 && bad.err.contains("vxlan (CONFIG_VXLAN)"),
        "{bad:?}"
    );
    assert!(bad.out.contains("vxlan               \t\tFAIL"), "{bad:?}");
}

#[test]
fn diagnostics_are_one_file() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("felix.log"), "a line\n").unwrap();
    let saved = node(dir.path(), &format!("diags --log-dir={}", dir.path().display()));
    assert_eq!(saved.code, 0, "{saved:?}");
    let path = saved
        .out
        .lines()
        .find_map(|l| l.strip_prefix("Diags saved to "))
        .unwrap()
        .to_owned();
    let packed = Path::new(&path);
    let top = packed.parent().unwrap();
    if path.ends_with(".tar.gz") {
        let list = std::process::Command::new("tar")
            .args(["-tzf", &path])
            .output()
            .unwrap();
        let list = String::from_utf8_lossy(&list.stdout).into_owned();
        for file in [
            "diagnostics/routes",
            "diagnostics/log_felix.log",
            "diagnostics/proc_version",
        ] {
            assert!(list.contains(file), "{file} is not in {list}");
        }
    }
    std::fs::remove_dir_all(top).unwrap();
}
