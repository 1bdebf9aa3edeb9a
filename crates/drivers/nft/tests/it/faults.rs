//! A kernel that refuses, and packets that never stop.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use caracal_net::{PortRange, Proto};
use caracal_netlink::{Message, Refusal, Request};
use caracal_nft::{Batch, Config, Echo, NetlinkTx, Nft, NftTx, Object, TxError, Wait};
use caracal_rules::ir::{
    BaseChain, Chain, ChainKind, ChainName, Element, Field, Hook, IfName, Key, KeyType, Match, Policy, Rule,
    SetDef, Statement, TableDelta, TableState, Verdict,
};
use caracal_testkit::{needs, netns};

use super::kit::*;

/// The real kernel, but for one object that it refuses with a number of its own.
struct Refusing {
    inner: NetlinkTx,
    errno: i32,
    guilty: fn(&Object) -> bool,
    commits: usize,
}

impl NftTx for Refusing {
    fn commit(&mut self, batch: &mut Batch) -> Result<Vec<Echo>, TxError> {
        self.commits += 1;
        let guilty = batch
            .objects()
            .iter()
            .position(|(_, object)| (self.guilty)(object));
        match guilty {
            Some(place) => Err(TxError::Refused(vec![Refusal {
                errno: self.errno,
                seq: u32::try_from(place + 1).expect("small"),
                text: None,
                offset: None,
            }])),
            None => self.inner.commit(batch),
        }
    }

    fn dump<T>(
        &mut self,
        request: &Request,
        parse: impl FnMut(Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, caracal_netlink::Error> {
        self.inner.dump(request, parse)
    }

    fn get(
        &mut self,
        request: &Request,
        each: impl FnMut(Message<'_>),
    ) -> Result<(), caracal_netlink::Error> {
        self.inner.get(request, each)
    }

    fn port(&self) -> u32 {
        self.inner.port()
    }
}

fn refusing(errno: i32, guilty: fn(&Object) -> bool) -> Nft<Refusing> {
    let inner = NetlinkTx::open().expect("root in a fresh namespace");
    Nft::with_tx(
        Refusing {
            inner,
            errno,
            guilty,
            commits: 0,
        },
        Config::default(),
    )
}

#[test]
fn netns_one_refused_rule_closes_its_chain_only() {
    netns!();
    needs!("nft");
    // The second rule of the chain `pol` is refused whenever it is tried; the closed chain has one rule only.
    let guilty = |o: &Object| *o == Object::Rule("pol".into(), 1);
    for errno in [libc::EOPNOTSUPP, libc::ENOENT] {
        let mut driver = refusing(errno, guilty);
        let report = driver.start(v4(small()), &token()).expect("the rest is in force");
        assert_eq!(report.problems.len(), 1, "{report:?}");
        assert_eq!(report.problems[0].object, Object::Chain("pol".into()));
        assert!(report.refused_batches <= 3, "{report:?}");
        let listed = ruleset();
        assert!(
            listed.contains(
                "chain pol {\n\t\tcounter drop comment \"closed: the kernel refused rule 2 of chain pol"
            ),
            "{listed}"
        );
        assert!(listed.contains("oifname vmap @endpoints"), "{listed}");
        // At rest: what was refused is not tried again and again.
        assert!(!driver.wait(Wait::For(Duration::from_millis(20))).expect("a wait"));
        // It changes to something that is taken.
        let put = TableDelta::PutChain("pol".into(), Chain::regular([allow(80)]));
        let report = driver.apply(change([put]), &token()).expect("a change");
        assert_eq!(report.problems, []);
        driver.cleanup().expect("all is ours");
    }
}

#[test]
fn netns_a_refused_rule_of_a_hook_is_left_out() {
    netns!();
    needs!("nft");
    let mut state = small();
    let rules = &mut state.chains.get_mut("forward").expect("the hook").rules;
    rules.insert(0, Rule::new([], [Statement::Counter], "marked"));
    rules.push(Rule::new([], [Statement::Counter], "last"));
    let mut driver = refusing(libc::EOPNOTSUPP, |o| *o == Object::Rule("forward".into(), 2));
    let report = driver.start(v4(state), &token()).expect("the rest is in force");
    assert_eq!(report.problems.len(), 1, "{report:?}");
    let listed = ruleset();
    assert!(
        listed.contains("comment \"marked\"") && !listed.contains("comment \"last\""),
        "{listed}"
    );
}

#[test]
fn netns_a_kernel_that_refuses_everything_is_not_asked_again_at_once() {
    netns!();
    needs!("nft");
    let mut driver = open();
    driver.start(v4(small()), &token()).expect("a first load");
    let mut driver = refusing(libc::ENOMEM, |o| matches!(o, Object::Table(_) | Object::Chain(_)));
    driver.start(v4(small()), &token()).expect("nothing to write");
    script("flush ruleset");
    let mut tries = 0;
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(400) {
        if driver.wait(Wait::For(Duration::from_millis(10))).expect("a wait") {
            driver.repair().expect_err("the kernel refuses");
            tries += 1;
        }
    }
    assert!((1..=3).contains(&tries), "{tries} tries in 400 ms");
}

/// Input hook: port 1001 passes by the set of ports, 1002 never does.
fn input(noise: u16) -> TableState {
    let mut state = TableState::default();
    let base = BaseChain {
        kind: ChainKind::Filter,
        hook: Hook::Input,
        priority: 0,
        policy: Policy::Accept,
    };
    state.chains.insert(
        "into".into(),
        Chain::base(base, [Rule::new([], [Statement::jump("pol")], "")]),
    );
    let mut set = caracal_rules::ir::Set::empty(SetDef::new([KeyType::Port]));
    for port in [1001, noise] {
        set.elements
            .insert(PortRange::single(port).into(), Default::default());
    }
    state.sets.insert("open".into(), set);
    let udp = Match::is(Field::Proto, Proto::UDP);
    let mut rules: Vec<Rule> = (0..noise % 7).map(|n| allow(noise + n)).collect();
    rules.push(Rule::new(
        [udp.clone(), Match::in_set([Field::Dport], "open")],
        [Statement::ACCEPT],
        "open",
    ));
    rules.push(Rule::new([udp], [Statement::DROP], "closed"));
    state.chains.insert("pol".into(), Chain::regular(rules));
    state
}

#[test]
fn netns_no_packet_sees_half_of_a_change() {
    netns!();
    needs!("nft");
    loopback_up();
    let bind = |port: u16| UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], port))).expect("a free port");
    let (open_port, closed_port) = (bind(1001), bind(1002));
    for socket in [&open_port, &closed_port] {
        socket.set_nonblocking(true).expect("a plain option");
    }
    let mut driver = open();
    driver.start(v4(input(2000)), &token()).expect("a first load");
    let stop = AtomicBool::new(false);
    let (sent, passed, leaked) = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let from = UdpSocket::bind("127.0.0.1:0").expect("a free port");
            let (mut sent, mut passed, mut leaked) = (0u32, 0u32, 0u32);
            let mut byte = [0];
            while !stop.load(Ordering::Relaxed) {
                // A packet to the loopback is delivered, or dropped, before the call returns.
                from.send_to(&[1], "127.0.0.1:1001").expect("a datagram");
                let _ = from.send_to(&[1], "127.0.0.1:1002");
                sent += 1;
                passed += u32::from(open_port.recv_from(&mut byte).is_ok());
                leaked += u32::from(closed_port.recv_from(&mut byte).is_ok());
            }
            (sent, passed, leaked)
        });
        let start = Instant::now();
        let mut layout = 1;
        while start.elapsed() < Duration::from_secs(2) {
            let noise = 2000 + u16::try_from(layout % 50).expect("small");
            let next = input(noise);
            let elements = next.sets["open"].elements.clone().into_iter().collect();
            let deltas = [
                TableDelta::PutChain("pol".into(), next.chains["pol"].clone()),
                TableDelta::ReplaceElements("open".into(), elements),
            ];
            driver.apply(change(deltas), &token()).expect("a change");
            layout += 1;
            if layout % 5 == 0 {
                driver = Nft::open(Config {
                    layout,
                    ..Config::default()
                })
                .expect("root");
                driver.start(v4(next), &token()).expect("a whole new table");
            }
        }
        stop.store(true, Ordering::Relaxed);
        sender.join().expect("the sender ends")
    });
    assert!(sent > 1000, "only {sent} sent");
    assert_eq!((passed, leaked), (sent, 0), "of {sent}");
}

/// An input hook whose map leads packets of the loopback to a chain of this number, which lets nothing in to port 1002.
fn dispatch(number: u32) -> (Vec<TableDelta>, TableState) {
    let name = ChainName::from(format!("list-{number}"));
    let udp = Match::is(Field::Proto, Proto::UDP);
    let closed = Match::is(Field::Dport, PortRange::single(1002));
    let chain = Chain::regular([Rule::new([udp, closed], [Statement::DROP], "closed")]);
    let base = BaseChain {
        kind: ChainKind::Filter,
        hook: Hook::Input,
        priority: 0,
        policy: Policy::Accept,
    };
    let map = Statement::VerdictMap {
        fields: vec![Field::Iif],
        map: "who".into(),
    };
    let lo = Key::from(IfName::exact("lo").expect("short"));
    let to = Element::verdict(Verdict::Jump(name.clone()));
    let mut who = caracal_rules::ir::Set::empty(SetDef::verdict_map([KeyType::IfName]));
    who.elements.insert(lo.clone(), to.clone());
    let mut state = TableState::default();
    state.sets.insert("who".into(), who);
    state
        .chains
        .insert("into".into(), Chain::base(base, [Rule::new([], [map], "")]));
    state.chains.insert(name.clone(), chain.clone());
    let deltas = vec![
        TableDelta::PutChain(name, chain),
        TableDelta::AddElements("who".into(), vec![(lo, to)]),
    ];
    (deltas, state)
}

#[test]
fn netns_no_packet_meets_a_new_chain_without_its_rules() {
    netns!();
    loopback_up();
    let closed = UdpSocket::bind("127.0.0.1:1002").expect("a free port");
    closed.set_nonblocking(true).expect("a plain option");
    let mut driver = open();
    driver.start(v4(dispatch(0).1), &token()).expect("a first load");
    let stop = AtomicBool::new(false);
    let (changes, sent, leaked) = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let from = UdpSocket::bind("127.0.0.1:0").expect("a free port");
            let (mut sent, mut leaked) = (0u32, 0u32);
            while !stop.load(Ordering::Relaxed) {
                // The error is that it was dropped.
                let _ = from.send_to(&[1], "127.0.0.1:1002");
                sent += 1;
                leaked += u32::from(closed.recv_from(&mut [0]).is_ok());
            }
            (sent, leaked)
        });
        let start = Instant::now();
        let mut number = 0;
        while start.elapsed() < Duration::from_secs(3) {
            let old = ChainName::from(format!("list-{number}"));
            number += 1;
            let mut deltas = dispatch(number).0;
            deltas.push(TableDelta::RemoveChain(old));
            driver.apply(change(deltas), &token()).expect("a change");
        }
        stop.store(true, Ordering::Relaxed);
        let (sent, leaked) = sender.join().expect("the sender ends");
        (number, sent, leaked)
    });
    assert!(changes > 20 && sent > 1000, "{changes} changes, {sent} sent");
    assert_eq!(leaked, 0, "of {sent} in {changes} changes");
}

fn loopback_up() {
    use caracal_netlink::{Protocol, Socket};
    let mut socket = Socket::open(Protocol::Route).expect("a route socket");
    // struct ifinfomsg: family, pad, type, index 1 (loopback), flags and change IFF_UP.
    let mut fixed = [0u8; 16];
    fixed[4..8].copy_from_slice(&1i32.to_ne_bytes());
    fixed[8..12].copy_from_slice(&1u32.to_ne_bytes());
    fixed[12..16].copy_from_slice(&1u32.to_ne_bytes());
    socket
        .request(&Request::new(16, 0, &fixed))
        .expect("the loopback comes up");
}

#[test]
fn netns_a_dispatch_that_is_refused_closes_the_workloads() {
    netns!();
    needs!("nft");
    // A chain that the kernel's validation refuses once a hook leads to it: NAT in a filter.
    let mut state = small();
    let nat = Rule::new(
        [],
        [Statement::Masquerade {
            ports: None,
            fully_random: false,
        }],
        "out",
    );
    state
        .chains
        .insert("pol".into(), Chain::regular([allow(80), nat]));
    let report = open().start(v4(state), &token()).expect("the rest is in force");
    assert!(!report.problems.is_empty());
    let listed = ruleset();
    let closed = listed.contains("chain pol {\n\t\tcounter drop comment \"closed: ")
        || listed.contains("oifname \"cali*\" counter drop comment \"closed: ");
    assert!(closed, "{listed}");
}
