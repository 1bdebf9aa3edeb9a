//! The agent assigns addresses and writes endpoints for the plugin, and takes them away: many in one transaction, and
//! killed in the middle of it.

use std::{collections::BTreeSet, process::Command, time::Duration};

use caracal_testkit::{Background, NetNs, eventually, netns};
use serde_json::Value;

use super::{
    Machine,
    bursts::{BLOCKS, HANDLES, held, node_with_agent, range, writes},
    conf, links,
    storm::agent,
};

const ENDPOINTS: &str = "/calico/resources/v3/projectcalico.org/workloadendpoints/";
/// How long a slow machine may take.
const LONG: Duration = Duration::from_secs(60);

fn signal(name: &str, pid: u32) {
    let done = Command::new("kill")
        .args([name, &pid.to_string()])
        .status()
        .unwrap();
    assert!(done.success());
}

/// The revisions at which what belongs to these pods was written last, and those of blocks.
fn revisions(pods: &[String]) -> (BTreeSet<i64>, BTreeSet<i64>) {
    let of = |prefix: &str| {
        let all = range(prefix).into_iter();
        let own = all.filter(|kv| {
            let key = String::from_utf8_lossy(&kv.key).into_owned();
            pods.iter()
                .any(|p| key.contains(p.as_str()) || key.contains(&p.replace('-', "--")))
        });
        own.map(|kv| kv.mod_revision).collect::<BTreeSet<_>>()
    };
    let (endpoints, handles) = (of(ENDPOINTS), of(HANDLES));
    assert_eq!(endpoints, handles, "an endpoint is written with its handle");
    (
        endpoints,
        range(BLOCKS).iter().map(|kv| kv.mod_revision).collect(),
    )
}

#[test]
fn netns_pods_that_start_at_once_are_written_together() {
    netns!(240);
    const PODS: usize = 12;
    let machine = Machine::new();
    let _felix = node_with_agent(&machine);
    let pods: Vec<String> = (0..PODS).map(|i| format!("pod-{i}")).collect();
    for pod in pods.iter().map(String::as_str).chain(["first"]) {
        NetNs::create(pod).unwrap();
    }
    // The node's first blocks are there.
    machine.ok("ADD", "first", &conf());
    let blocks: i64 = writes(BLOCKS).values().sum();
    std::thread::scope(|scope| {
        for pod in &pods {
            let machine = &machine;
            scope.spawn(move || machine.ok("ADD", pod, &conf()));
        }
    });
    let (written, of_blocks) = revisions(&pods);
    let blocks = writes(BLOCKS).values().sum::<i64>() - blocks;
    println!(
        "{PODS} ADDs at once: {} transactions, {blocks} writes of blocks",
        written.len()
    );
    // A block of each family, in the same transactions.
    assert_eq!(blocks, 2 * written.len() as i64);
    assert!(of_blocks.is_subset(&written), "{of_blocks:?} {written:?}");
    // The first one's addresses came with new blocks, one after the other.
    let handles = writes(HANDLES);
    assert!(
        handles.iter().all(|(key, n)| *n == 1 || key.contains("first")),
        "{handles:?}"
    );
    let held = held();
    for pod in &pods {
        assert_eq!(held[&format!("net.container-of-{pod}")].len(), 2);
    }
    std::thread::scope(|scope| {
        for pod in &pods {
            let machine = &machine;
            scope.spawn(move || machine.ok("DEL", pod, &conf()));
        }
    });
    machine.ok("DEL", "first", &conf());
    assert_eq!(
        (machine.pods(), links(), super::bursts::held().len()),
        (vec![], vec![], 0)
    );
    assert_eq!(writes(HANDLES).len(), 0);
}

/// A store that answers nothing until it is let go.
struct Held(u32);

impl Held {
    fn new(machine: &Machine) -> Self {
        let pid = machine.store.as_ref().map(Background::pid).unwrap();
        signal("-STOP", pid);
        Self(pid)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        signal("-CONT", self.0);
    }
}

fn links_are(wanted: usize) {
    eventually(LONG, || match links().len() {
        n if n == wanted => Ok(()),
        n => Err(format!("{n} links")),
    });
}

#[test]
fn netns_the_agent_is_killed_in_the_middle_of_attach() {
    netns!(240);
    let machine = Machine::new();
    let mut felix = node_with_agent(&machine);
    for pod in ["first", "web"] {
        NetNs::create(pod).unwrap();
    }
    machine.ok("ADD", "first", &conf());
    let mut next = None;
    let (code, answer) = std::thread::scope(|scope| {
        let held = Held::new(&machine);
        let add = scope.spawn(|| machine.call("ADD", "web", &conf()));
        // The plugin has made the link: the agent was asked, and waits for the store.
        links_are(2);
        felix.kill();
        drop(held);
        next = Some(agent(&machine));
        add.join().unwrap()
    });
    // On a slow machine the next agent may come too late for this ADD, which then has left nothing.
    if code != 0 {
        assert_eq!(answer["code"], 11, "{answer}");
        assert_eq!((machine.pods(), links().len()), (vec!["first".to_owned()], 1));
        machine.ok("ADD", "web", &conf());
    }
    assert_eq!(machine.pods().len(), 2);
    let own = super::bursts::held();
    let web: BTreeSet<String> = own["net.container-of-web"].clone();
    let first = &own["net.container-of-first"];
    assert!(web.len() >= 2 && web.is_disjoint(first), "{web:?} {first:?}");
    machine.ok("DEL", "web", &conf());
    machine.ok("DEL", "first", &conf());
    assert_eq!(
        (machine.pods(), links(), super::bursts::held().len()),
        (vec![], vec![], 0)
    );
    assert_eq!(writes(HANDLES).len(), 0);
}

#[test]
fn netns_the_agent_is_killed_in_the_middle_of_detach() {
    netns!(240);
    let machine = Machine::new();
    let mut felix = node_with_agent(&machine);
    for pod in ["stays", "web"] {
        NetNs::create(pod).unwrap();
        machine.ok("ADD", pod, &conf());
    }
    let before = super::bursts::held();
    let answer: (i32, Value) = std::thread::scope(|scope| {
        let held = Held::new(&machine);
        let del = scope.spawn(|| machine.call("DEL", "web", &conf()));
        // The agent has deleted the link and waits for the store.
        links_are(1);
        felix.kill();
        drop(held);
        del.join().unwrap()
    });
    assert_eq!(answer.0, 0, "{}", answer.1);
    // What a store that was away too long has not heard yet is written down, and done by the next call.
    machine.ok("DEL", "web", &conf());
    assert_eq!(
        (machine.pods(), links().len(), super::pending()),
        (vec!["stays".to_owned()], 1, 0)
    );
    let mut left = before;
    left.remove("net.container-of-web");
    assert_eq!(super::bursts::held(), left);
    assert_eq!(writes(HANDLES).len(), 1);
    let _next = agent(&machine);
    machine.ok("DEL", "stays", &conf());
    assert_eq!(writes(HANDLES).len(), 0);
}
