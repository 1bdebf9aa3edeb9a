//! IPAM databases broken by hand, one thing at a time: `ipam check` names it, `--fix` repairs it, pods keep their addresses.

use std::{collections::BTreeSet, net::IpAddr};

use caracal_api::{
    AllocationAttribute, IpPoolSpec, IpReservationSpec, IpamBlockSpec, IpamHandleSpec, Kind, NodeSpec,
    Object, ResourceKey, WorkloadEndpointSpec,
};
use caracal_ipam_plan::{Block, Holder, handle_with};
use caracal_net::Cidr;

use crate::ipam::{Shop, owner};

/// What is broken, how, and the kinds of problems that are named.
type Case = (&'static str, fn(&Shop), &'static [&'static str]);

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

/// A block changed behind everybody's back.
fn change(s: &Shop, range: &str, change: impl FnOnce(&mut IpamBlockSpec)) {
    let all = s.all::<IpamBlockSpec>(Kind::IpamBlock);
    let mut b = all.into_iter().find(|b| b.spec.cidr == range).unwrap();
    change(&mut b.spec);
    s.put(b);
}

/// A block of a node whose pods run.
fn running(s: &Shop, range: &str, node: &str, pods: &[&str]) -> Vec<IpAddr> {
    let got = s.block(range, node, pods);
    for (pod, addr) in pods.iter().zip(&got) {
        s.endpoint(node, pod, *addr);
    }
    got
}

/// An allocation of `holder` in the place of what is there.
fn give(s: &Shop, range: &str, addr: IpAddr, holder: Option<&str>, released: Option<&str>) {
    change(s, range, |spec| {
        let attribute = AllocationAttribute {
            handle_id: holder.map(|h| format!("net.{h}")),
            secondary: owner("n1", holder.unwrap_or("was")).attributes,
            released_at: released.map(str::to_owned),
            ..AllocationAttribute::default()
        };
        let ordinal = cidr(range).offset_of(addr).unwrap() as usize;
        spec.attributes.push(attribute);
        spec.allocations[ordinal] = Some(spec.attributes.len() - 1);
        spec.unallocated.retain(|o| *o != ordinal);
        let mut whole = Object::new("", spec.clone());
        whole.metadata.name = IpamBlockSpec::object_name(&cidr(range));
        *spec = Block::read(whole).unwrap().into_object().spec;
    });
}

fn old_and_new() -> (String, String) {
    ("a".repeat(64), "b".repeat(64))
}

const REPAIRED: &[Case] = &[
    (
        "an address that nobody uses, in each family",
        |s| {
            s.block("10.0.1.0/26", "n1", &["dead"]);
            s.block("fd00::40/122", "n1", &["dead6"]);
        },
        &["leaked"],
    ),
    (
        "a handle is missing",
        |s| {
            running(s, "10.0.1.0/26", "n1", &["b"]);
            s.gone(Kind::IpamHandle, "net.b");
        },
        &["handle-missing"],
    ),
    (
        "a handle counts in a block that is not there",
        |s| s.handle("stale", &cidr("10.0.9.0/26"), 2),
        &["handle-leaked"],
    ),
    (
        "a handle counts nothing at all",
        |s| {
            let mut h = handle_with(None, "net.empty", &cidr("10.0.9.0/26"), 1);
            h.spec.block.clear();
            s.put(h);
        },
        &["handle-leaked"],
    ),
    (
        "a handle writes its range in another way",
        |s| {
            running(s, "fd00::40/122", "n1", &["b"]);
            let mut h = handle_with(None, "net.b", &cidr("fd00::40/122"), 1);
            h.spec.block = [("fd00:0:0::40/122".to_owned(), 1)].into();
            s.put(h);
        },
        &["handle-missing", "unreadable"],
    ),
    (
        "a handle in use is marked for deletion",
        |s| {
            running(s, "10.0.1.0/26", "n1", &["b"]);
            let all = s.all::<IpamHandleSpec>(Kind::IpamHandle);
            let mut h = all.into_iter().find(|h| h.metadata.name == "net.b").unwrap();
            h.spec.deleted = true;
            s.put(h);
        },
        &["half-deleted"],
    ),
    (
        "a block in use is marked for deletion",
        |s| {
            running(s, "10.0.1.0/26", "n1", &["b", "c"]);
            change(s, "10.0.1.0/26", |spec| spec.deleted = true);
        },
        &["half-deleted", "handle-leaked", "not-allocated"],
    ),
    (
        "a block's owner has no claim",
        |s| {
            running(s, "10.0.1.0/26", "n2", &["b"]);
            s.gone(Kind::BlockAffinity, "n2-10-0-1-0-26");
        },
        &["affinity-missing"],
    ),
    (
        "two nodes have claims on one block",
        |s| {
            running(s, "10.0.1.0/26", "n1", &["b"]);
            s.affinity("n2", &cidr("10.0.1.0/26"));
        },
        &["affinity-orphan"],
    ),
    (
        "the node of a block is gone, and others' pods are in it",
        |s| {
            let got = s.block("10.0.1.0/26", "lost", &["b", "c"]);
            s.endpoint("n1", "b", got[0]);
            s.endpoint("n2", "c", got[1]);
        },
        &["affinity-orphan"],
    ),
    (
        "a claim under another's name",
        |s| {
            let mut claim = Holder::Host("n2".into()).claim(None, &cidr("10.0.7.0/26"), "confirmed");
            claim.metadata.name = "n1-10-0-8-0-26".into();
            s.put(claim);
        },
        &["unreadable"],
    ),
    (
        "a claim and a handle that are no JSON",
        |s| {
            running(s, "10.0.1.0/26", "n1", &["b"]);
            let claim = ResourceKey::global(Kind::BlockAffinity, "n1-10-0-1-0-26");
            s.0.put_malformed(&claim, "not JSON");
            s.0.put_malformed(&ResourceKey::global(Kind::IpamHandle, "net.b"), "not JSON");
        },
        &["affinity-missing", "unreadable"],
    ),
    (
        "three blocks, each inside the next, with pods in all of them",
        |s| {
            let wide = s.block("10.0.4.0/24", "n1", &["p", "q", "r", "s"]);
            s.endpoint("n1", "s", wide[3]);
            for gone in ["p", "q", "r"] {
                s.gone(Kind::IpamHandle, &format!("net.{gone}"));
            }
            change(s, "10.0.4.0/24", |spec| {
                for o in 0..3 {
                    spec.allocations[o] = None;
                    spec.unallocated.push(o);
                }
            });
            let middle = s.block("10.0.4.0/26", "n2", &["t", "u"]);
            s.endpoint("n2", "u", middle[1]);
            let narrow = s.block("10.0.4.0/28", "n1", &["v"]);
            s.endpoint("n1", "v", narrow[0]);
        },
        &["double-holder", "overlapping-blocks"],
    ),
    (
        "an address rests in one block and is held in the block around it",
        |s| {
            s.block("10.0.4.0/26", "n1", &[]);
            let narrow = running(s, "10.0.4.0/28", "n2", &["b"]);
            give(s, "10.0.4.0/26", narrow[0], None, Some("2026-01-01T00:00:00Z"));
            give(s, "10.0.4.0/26", "10.0.4.40".parse().unwrap(), Some("c"), None);
            s.handle("c", &cidr("10.0.4.0/26"), 1);
            s.endpoint("n1", "c", "10.0.4.40".parse().unwrap());
        },
        &["overlapping-blocks"],
    ),
    (
        "one handle holds one address in two blocks",
        |s| {
            let narrow = running(s, "10.0.4.0/28", "n2", &["b"]);
            s.block("10.0.4.0/26", "n1", &[]);
            give(s, "10.0.4.0/26", narrow[0], Some("b"), None);
            s.handle("b", &cidr("10.0.4.0/26"), 1);
        },
        &["overlapping-blocks"],
    ),
    (
        "a pod's address is still its older container's",
        |s| {
            let (old, new) = old_and_new();
            let got = s.block("10.0.1.0/26", "n1", &[&old]);
            let mut e = endpoint(&new, got[0]);
            // The same pod, in a new container.
            e.spec.pod.clone_from(&old);
            s.put(e);
        },
        &["wrong-holder"],
    ),
    (
        "an address is allocated to another pod",
        |s| {
            let got = s.block("10.0.1.0/26", "n1", &["other"]);
            s.endpoint("n1", "b", got[0]);
        },
        &["wrong-holder"],
    ),
    (
        "an address in use rests",
        |s| {
            s.block("10.0.1.0/26", "n1", &[]);
            let addr = "10.0.1.5".parse().unwrap();
            give(s, "10.0.1.0/26", addr, None, Some("2026-01-01T00:00:00Z"));
            s.endpoint("n1", "b", addr);
        },
        &["wrong-holder"],
    ),
    (
        "addresses in use are not allocated, in a block and where there is none",
        |s| {
            running(s, "10.0.1.0/26", "n2", &["b"]);
            s.endpoint("n1", "c", "10.0.1.9".parse().unwrap());
            s.endpoint("n1", "d", "fd00::77".parse().unwrap());
        },
        &["not-allocated"],
    ),
    (
        "empty blocks of nobody and of no pool",
        |s| {
            s.block("10.0.1.0/26", "n1", &[]);
            change(s, "10.0.1.0/26", |spec| spec.affinity = None);
            s.gone(Kind::BlockAffinity, "n1-10-0-1-0-26");
            s.block("172.16.0.0/26", "n1", &[]);
        },
        &["block-orphan"],
    ),
];

/// What a person has to decide: it is named, nothing is made worse, and the rest is repaired.
const BY_HAND: &[Case] = &[
    (
        "two pods use one address",
        |s| {
            let got = running(s, "10.0.1.0/26", "n1", &["b"]);
            s.endpoint("n2", "c", got[0]);
        },
        &["double-holder"],
    ),
    (
        "a tunnel uses a pod's address",
        |s| {
            let got = s.block("10.0.1.0/26", "n1", &["b"]);
            let spec = NodeSpec {
                ipv4_vxlan_tunnel_addr: got[0].to_string(),
                ..NodeSpec::default()
            };
            s.put(Object::new("n2", spec));
        },
        &["wrong-holder"],
    ),
    (
        "the lists of a block do not fit together",
        |s| {
            running(s, "10.0.1.0/26", "n1", &["b"]);
            change(s, "10.0.1.0/26", |spec| spec.unallocated.push(0));
        },
        &["unreadable"],
    ),
    (
        "a block under another's name",
        |s| {
            let b = Block::new(
                cidr("10.0.1.0/26"),
                &Holder::Host("n1".into()),
                Default::default(),
                None,
            );
            let mut b = b.into_object();
            b.metadata.name = "10-0-2-0-26".into();
            s.put(b);
            s.affinity("n1", &cidr("10.0.1.0/26"));
        },
        &["unreadable"],
    ),
    (
        "a pool and a reservation without a range",
        |s| {
            s.put(Object::new(
                "bad",
                IpPoolSpec {
                    cidr: "10.0.0/33".into(),
                    ..IpPoolSpec::default()
                },
            ));
            let reserved_cidrs = vec!["10.0.0.300/32".to_owned(), "10.0.0.30/32".to_owned()];
            s.put(Object::new("few", IpReservationSpec { reserved_cidrs }));
        },
        &["unreadable"],
    ),
    (
        "pools that overlap",
        |s| s.pool("young", "10.0.8.0/21"),
        &["overlapping-pools"],
    ),
    (
        "an address of no pool is used",
        |s| s.endpoint("n1", "b", "192.0.2.9".parse().unwrap()),
        &["not-in-pool"],
    ),
];

fn endpoint(container: &str, addr: IpAddr) -> Object<WorkloadEndpointSpec> {
    let spec = WorkloadEndpointSpec {
        node: "n1".into(),
        pod: container.into(),
        container_id: container.into(),
        ip_networks: vec![addr.to_string()],
        ..WorkloadEndpointSpec::default()
    };
    Object::namespaced("default", format!("n1-k8s-{container}-eth0"), spec)
}

/// A cluster in order, in which one pod runs.
fn shop() -> Shop {
    let s = Shop::new();
    s.pool("p", "10.0.0.0/16");
    s.pool("six", "fd00::/112");
    running(&s, "10.0.0.0/26", "n1", &["a"]);
    s
}

fn kinds(s: &Shop, line: &str) -> (i32, BTreeSet<String>) {
    let ran = s.run(line);
    let v: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {}", ran.out));
    let problems = v["problems"].as_array().unwrap();
    for p in problems {
        assert!(!p["repair"].as_str().unwrap().is_empty(), "{p:#}");
    }
    let kinds = problems.iter().map(|p| p["kind"].as_str().unwrap().to_owned());
    (ran.code, kinds.collect())
}

/// Every address in use, with the handle of its user.
fn pods(s: &Shop) -> Vec<(IpAddr, String)> {
    let all = s.all::<WorkloadEndpointSpec>(Kind::WorkloadEndpoint);
    let of = |e: &Object<WorkloadEndpointSpec>| {
        (
            e.spec.ip_networks[0].parse().unwrap(),
            format!("net.{}", e.spec.container_id),
        )
    };
    let mut pods: Vec<_> = all.iter().map(of).collect();
    pods.sort();
    pods
}

/// Each look waits a second for operations under way to end.
fn at_once(cases: &'static [Case], check: fn(&Case)) {
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || check(case));
        }
    });
}

#[test]
fn each_broken_database_is_named_and_repaired() {
    at_once(REPAIRED, |(what, break_it, expected)| {
        let s = shop();
        break_it(&s);
        let wanted: BTreeSet<String> = expected.iter().map(|k| (*k).to_owned()).collect();
        assert_eq!(kinds(&s, "ipam check -o json"), (1, wanted), "{what}");
        let before = (s.held(), pods(&s));
        assert_eq!(s.run("ipam check --fix").code, 1, "{what}: only told");
        assert_eq!((s.held(), pods(&s)), before, "{what}: nothing was changed");
        let fixed = s.run("ipam check --fix --apply");
        assert_eq!(fixed.code, 0, "{what}: {}{}", fixed.out, fixed.err);
        assert_eq!(kinds(&s, "ipam check -o json"), (0, BTreeSet::new()), "{what}");
        // Each pod has the address that it had, once, and nobody else has any.
        assert_eq!(pods(&s), before.1, "{what}");
        let resting = |(_, handle): &(IpAddr, String)| !handle.is_empty();
        let held: Vec<_> = s.held().into_iter().filter(resting).collect();
        assert_eq!(held, before.1, "{what}");
    });
}

#[test]
fn what_a_person_must_decide_is_named_and_left() {
    at_once(BY_HAND, |(what, break_it, expected)| {
        let s = shop();
        break_it(&s);
        // Beside it something that can be repaired.
        s.handle("stale", &cidr("10.0.9.0/26"), 2);
        let mut wanted: BTreeSet<String> = expected.iter().map(|k| (*k).to_owned()).collect();
        wanted.insert("handle-leaked".to_owned());
        assert_eq!(kinds(&s, "ipam check -o json"), (1, wanted.clone()), "{what}");
        let before = (s.held(), pods(&s));
        let fixed = s.run("ipam check --fix --apply");
        assert_eq!(fixed.code, 1, "{what}: {}{}", fixed.out, fixed.err);
        wanted.remove("handle-leaked");
        assert_eq!(kinds(&s, "ipam check -o json"), (1, wanted), "{what}");
        assert_eq!((s.held(), pods(&s)), before, "{what}");
    });
}

/// A pod runs, one address is leaked, and a third entry of their block points nowhere.
#[test]
fn a_block_with_one_bad_entry_is_named_and_nothing_of_it_is_freed() {
    let s = shop();
    let got = running(&s, "10.0.1.0/26", "n1", &["b"]);
    s.block("10.0.2.0/26", "n1", &["leak"]);
    change(&s, "10.0.1.0/26", |spec| {
        let leaked = spec.attributes[0].clone();
        spec.attributes.push(AllocationAttribute {
            handle_id: Some("net.gone".into()),
            ..leaked
        });
        spec.allocations[1] = Some(1);
        spec.allocations[5] = Some(9);
        spec.allocations[6] = Some(9);
        spec.unallocated.retain(|o| ![1, 5, 6].contains(o));
    });
    let raw = || {
        s.all::<IpamBlockSpec>(Kind::IpamBlock)
            .into_iter()
            .find(|b| b.spec.cidr == "10.0.1.0/26")
    };
    let before = raw().unwrap();
    let entry = "10.0.1.5 has attribute 9, and there are 2; and 1 more";
    let checked = s.run("ipam check");
    assert!(
        checked.code == 1 && checked.out.contains(entry),
        "{}",
        checked.out
    );
    let wanted: BTreeSet<String> = ["leaked", "unreadable"].map(str::to_owned).into();
    assert_eq!(kinds(&s, "ipam check -o json"), (1, wanted));
    for line in [
        "ipam show",
        "ipam show --show-blocks",
        "ipam show --show-borrowed",
    ] {
        let shown = s.run(line);
        assert!(
            shown.code == 0 && shown.out.contains(entry),
            "{line}: {}",
            shown.out
        );
    }
    // Whoever asks for an address of it is told why there is no answer.
    for line in ["ipam show --ip", "ipam release --ip"] {
        let asked = s.run(&format!("{line}={}", got[0]));
        assert!(
            asked.code != 0 && asked.err.contains("10.0.1.0/26"),
            "{line}: {}{}",
            asked.out,
            asked.err
        );
    }
    // The rest is repaired; of this block nothing is touched.
    let fixed = s.run("ipam check --fix --apply");
    assert_eq!(fixed.code, 1, "{}{}", fixed.out, fixed.err);
    let wanted: BTreeSet<String> = ["unreadable".to_owned()].into();
    assert_eq!(kinds(&s, "ipam check -o json"), (1, wanted));
    assert_eq!(raw().unwrap().spec, before.spec);
}
