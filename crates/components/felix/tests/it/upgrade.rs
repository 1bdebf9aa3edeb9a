//! From one layout of the tables to the next and back, under packets that are counted.

use std::{
    net::{IpAddr, Ipv6Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use caracal_api::{Action, TierDefaultAction};
use caracal_desired::{Delta, Policy, Profile, Rule, TierPolicies, WorkloadEndpoint};
use caracal_ids::{PolicyId, PolicyKind, ProfileName, TierName, WorkloadId};
use caracal_net::{Cidr, Family, PerFamily, PortRange, Proto};
use caracal_nft::{Config, LAYOUT, Nft};
use caracal_rules::{Compiler, RulesConfig};
use caracal_testkit::{eventually, needs, netns};
use caracal_update::InSync;

use crate::{
    traffic::Sink,
    world::{LONG, Node, Pod, World},
};

const ALLOWED: u16 = 9000;
const DENIED: u16 = 9001;

fn udp(action: Action, port: u16) -> Rule {
    let mut rule = Rule::new(action);
    rule.protocol = Some(Proto::UDP);
    rule.dst.ports = [PortRange::single(port)].into();
    rule
}

fn endpoint(pod: &Pod, policies: &[PolicyId]) -> Delta {
    let host = |a: IpAddr| vec![Cidr::host(a)];
    Delta::Workload(Arc::new(WorkloadEndpoint {
        id: WorkloadId::new("default", &pod.name),
        interface: pod.interface.as_str().into(),
        container_id: "".into(),
        mac: None,
        addresses: PerFamily {
            v4: host(pod.v4),
            v6: host(pod.v6),
        },
        nats: vec![],
        allowed_sources: vec![],
        tiers: vec![TierPolicies {
            name: TierName::default_tier(),
            default_action: TierDefaultAction::Deny,
            ingress: policies.to_vec(),
            egress: vec![],
        }],
        profiles: vec![ProfileName::new("open").unwrap()],
        qos: None,
    }))
}

/// A table of the version of this layout, over whatever there is.
fn start(node: &Node, layout: u32, compiler: &mut Compiler) -> Nft {
    let tables = compiler.full_state();
    let start = || {
        let config = Config {
            layout,
            ..Config::default()
        };
        let mut nft = Nft::open(config).unwrap();
        nft.start(tables, &InSync::after_complete_snapshot()).unwrap();
        nft
    };
    node.ns.run(start).unwrap()
}

fn counted(nft: &mut Nft, family: Family) -> u64 {
    let counters = nft.counters(family).unwrap();
    let found = counters
        .into_iter()
        .find(|(name, _)| name.as_str().starts_with("gnp/p.in."));
    found.expect("it is counted").1.0
}

#[test]
fn netns_a_version_gives_way_to_the_next_and_comes_back_without_a_packet_lost_or_let_through() {
    netns!(120);
    needs!("root", "ip", "nft", "sh");
    let world = World::new();
    let node = world.node("n1");
    let (a, b) = (
        node.pod("a", "10.65.0.1", "fd65::1"),
        node.pod("b", "10.65.0.2", "fd65::2"),
    );
    node.sh(
        "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
         for i in a b; do echo 1 > /proc/sys/net/ipv4/conf/cali$i/proxy_arp; echo 1 > /proc/sys/net/ipv4/conf/cali$i/forwarding; done
         ip route add 10.65.0.1 dev calia; ip route add 10.65.0.2 dev calib
         ip -6 route add fd65::1 dev calia; ip -6 route add fd65::2 dev calib",
    );
    let id = PolicyId::global(PolicyKind::GlobalNetworkPolicy, "p");
    let mut compiler = Compiler::new(RulesConfig::default());
    compiler.apply_all(&[
        Delta::Policy(Arc::new(Policy {
            id: id.clone(),
            tier: TierName::default_tier(),
            ingress: vec![udp(Action::Allow, ALLOWED), Rule::new(Action::Deny)],
            egress: vec![],
            untracked: false,
            pre_dnat: false,
        })),
        Delta::Profile(Arc::new(Profile {
            name: ProfileName::new("open").unwrap(),
            ingress: vec![Rule::new(Action::Allow)],
            egress: vec![Rule::new(Action::Allow)],
        })),
        endpoint(&a, &[]),
        endpoint(&b, &[id]),
    ]);
    let (good, bad) = (Sink::new(&b.ns, ALLOWED), Sink::new(&b.ns, DENIED));
    let mut nft = start(&node, LAYOUT, &mut compiler);
    // Each datagram is the first packet of a connection of its own.
    let once = |from: &Pod, to: IpAddr, port: u16| {
        let to = match to {
            IpAddr::V4(a) => a.to_ipv6_mapped(),
            IpAddr::V6(a) => a,
        };
        let socket = from.ns.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)));
        socket.unwrap().unwrap().send_to(b"n", (to, port)).unwrap();
    };
    eventually(LONG, || {
        b.both().into_iter().for_each(|to| once(&a, to, ALLOWED));
        let seen = good.arrived();
        let both = seen.contains(&a.v4) && seen.contains(&a.v6);
        if both {
            Ok(())
        } else {
            Err(format!("{seen:?} arrived"))
        }
    });
    while !good.arrived().is_empty() {}
    let (stop, sent, arrived) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let number = |n: &AtomicU64| n.load(Ordering::SeqCst);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                // What the receiver's buffer has no room for is no loss of the tables'.
                if number(&sent).saturating_sub(number(&arrived)) > 60 {
                    std::thread::yield_now();
                    continue;
                }
                for to in b.both() {
                    once(&a, to, DENIED);
                    sent.fetch_add(1, Ordering::SeqCst);
                    once(&a, to, ALLOWED);
                }
            }
        });
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                arrived.fetch_add(good.arrived().len() as u64, Ordering::SeqCst);
                std::thread::park_timeout(std::time::Duration::from_micros(200));
            }
        });
        let more = |n: u64| {
            let goal = number(&sent) + n;
            let enough = || match number(&sent) {
                now if now >= goal => Ok(()),
                now => Err(format!("{now} of {goal} sent, {} arrived", number(&arrived))),
            };
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| eventually(LONG, enough)));
            if let Err(panic) = outcome {
                stop.store(true, Ordering::SeqCst);
                std::panic::resume_unwind(panic);
            }
        };
        for step in 0..6 {
            more(100);
            let before = Family::BOTH.map(|f| counted(&mut nft, f));
            let since = nft.since(Family::V4).unwrap();
            nft = start(&node, LAYOUT + (step + 1) % 2, &mut compiler);
            let after = Family::BOTH.map(|f| counted(&mut nft, f));
            let goes_on = before.iter().zip(&after).all(|(b, a)| a >= b && *b > 0);
            if !goes_on || nft.since(Family::V4).unwrap() != since {
                stop.store(true, Ordering::SeqCst);
                panic!("{after:?} after {before:?}");
            }
        }
        more(100);
        stop.store(true, Ordering::SeqCst);
    });
    let (mut arrived, sent) = (number(&arrived), number(&sent));
    eventually(LONG, || {
        arrived += good.arrived().len() as u64;
        if arrived >= sent {
            Ok(())
        } else {
            Err(format!("{arrived} of {sent} arrived"))
        }
    });
    assert_eq!(arrived, sent, "none lost, none twice");
    assert_eq!(bad.arrived(), Vec::<IpAddr>::new(), "none let through");
}
