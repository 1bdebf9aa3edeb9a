use std::{collections::BTreeSet, process::Command};

use crate::{Etcd, EtcdCluster, find_tool};

impl EtcdCluster {
    /// Cuts a member off from its peers, but not from its clients, by rules in the calling thread's network namespace: the
    /// test is in one of its own and says `needs!("nft")` first.
    pub fn cut_off(&self, member: usize) {
        let (cut, peers): (Vec<_>, Vec<_>) = self.members.iter().enumerate().partition(|(i, _)| *i == member);
        let cut = cut[0].1;
        nft("add table inet partition");
        nft("add chain inet partition out { type filter hook output priority 0 ; }");
        for side in ["dport", "sport"] {
            let port = cut.peer_port();
            nft(&format!("add rule inet partition out tcp {side} {port} drop"));
        }
        // What it opened to the others cannot be told from what they open to each other, but by its sockets.
        let ports: Vec<u16> = peers.iter().map(|(_, peer)| peer.peer_port()).collect();
        for (own, peer) in outgoing(cut, &ports) {
            for (from, to) in [(own, peer), (peer, own)] {
                nft(&format!(
                    "add rule inet partition out tcp sport {from} tcp dport {to} drop"
                ));
            }
        }
    }

    /// Ends what [`EtcdCluster::cut_off`] began.
    pub fn heal(&self) {
        nft("delete table inet partition");
    }
}

impl Etcd {
    /// Runs `etcdctl` on it, which must succeed. A test that does so says `needs!("etcdctl")` first.
    pub fn ctl(&self, args: &[&str]) {
        let tool = find_tool("etcdctl").expect("the test said needs!(\"etcdctl\")");
        let mut command = Command::new(tool);
        command
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &self.endpoint()])
            .args(["--dial-timeout", "30s", "--command-timeout", "60s"]);
        command.args(args).stdin(std::process::Stdio::null());
        run(command, &format!("etcdctl {args:?}"));
    }
}

fn nft(line: &str) {
    let mut command = Command::new(find_tool("nft").expect("the test said needs!(\"nft\")"));
    command.args(line.split(' '));
    run(command, &format!("nft {line}"));
}

fn run(mut command: Command, what: &str) {
    let done = command.output().unwrap_or_else(|e| panic!("{what}: {e}"));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{what}: {said}");
}

/// Ports of the connections that a process has opened to these ports.
fn outgoing(process: &Etcd, to: &[u16]) -> Vec<(u16, u16)> {
    let own = format!("/proc/{}", process.pid());
    let mut inodes = BTreeSet::new();
    for fd in std::fs::read_dir(format!("{own}/fd"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let target = std::fs::read_link(fd.path()).unwrap_or_default();
        let text = target.to_string_lossy().into_owned();
        inodes.extend(
            text.strip_prefix("socket:[")
                .map(|t| t.trim_end_matches(']').to_owned()),
        );
    }
    let table = std::fs::read_to_string(format!("{own}/net/tcp")).unwrap_or_default();
    let port = |text: &str| u16::from_str_radix(text.rsplit(':').next().unwrap_or_default(), 16).unwrap_or(0);
    let mut found = Vec::new();
    for line in table.lines().skip(1) {
        let columns: Vec<_> = line.split_whitespace().collect();
        if columns.len() > 9 && inodes.contains(columns[9]) && to.contains(&port(columns[2])) {
            found.push((port(columns[1]), port(columns[2])));
        }
    }
    found
}
