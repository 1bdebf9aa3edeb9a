use std::net::IpAddr;
use std::time::Duration;

use caracal_lab::prober::{LAST_PORT, Listen, Outcome, Patience, Prober, Responder, Target, Transport};
use caracal_link::{AddressSpec, LinkChange, Rtnl, VethSpec};
use caracal_testkit::{NetNs, netns};

const TRANSPORTS: [Transport; 3] = [Transport::Tcp, Transport::Udp, Transport::Sctp];

const PATIENCE: Patience = Patience {
    wait: Duration::from_millis(300),
    tries: 3,
};

/// Two namespaces joined by a cable, `a` with 10.9.0.1 and fd09::1, `b` with .2 and ::2.
fn pair() {
    for name in ["a", "b"] {
        NetNs::create(name).unwrap();
    }
    let (a, b) = (NetNs::named("a").unwrap(), NetNs::named("b").unwrap());
    let mut rtnl = Rtnl::open_in(&a).unwrap();
    rtnl.create_veth(&VethSpec {
        name: "eth0",
        peer_name: "eth0",
        peer_netns: Some(&b),
        ..VethSpec::default()
    })
    .unwrap();
    for (ns, last) in [(&a, 1), (&b, 2)] {
        let mut rtnl = Rtnl::open_in(ns).unwrap();
        rtnl.set_link("lo", &LinkChange::up()).unwrap();
        rtnl.set_link("eth0", &LinkChange::up()).unwrap();
        let link = rtnl.require_link("eth0").unwrap().index;
        for text in [format!("10.9.0.{last}/24"), format!("fd09::{last}/64")] {
            rtnl.set_address(link, &AddressSpec::new(text.parse().unwrap()))
                .unwrap();
        }
    }
}

fn targets(addr: &str, port: u16) -> Vec<Target> {
    let addr: IpAddr = addr.parse().unwrap();
    let target = |protocol| Target { protocol, addr, port };
    TRANSPORTS.map(target).to_vec()
}

#[test]
fn netns_who_listens_answers_in_both_families_and_nobody_else() {
    netns!();
    pair();
    let listen = TRANSPORTS.map(|protocol| Listen { protocol, port: 80 });
    let responder = Responder::start(NetNs::named("b").unwrap(), &listen).unwrap();
    // The ports come round after the first two.
    let prober = Prober::start(NetNs::named("a").unwrap(), LAST_PORT - 1).unwrap();
    let ask = |targets, patience: Patience| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(prober.probe(targets, patience)).0
    };
    for addr in ["10.9.0.2", "fd09::2"] {
        let open = ask(targets(addr, 80), Patience::LONG);
        assert!(open.iter().all(Outcome::allowed), "{addr}: {open:?}");
        let closed = ask(targets(addr, 81), PATIENCE);
        assert_eq!(closed[..2], [Outcome::Refused, Outcome::Refused], "{addr}");
        // The raw socket has the packet, so the kernel says nothing about it.
        assert_eq!(closed[2], Outcome::Silent, "{addr}");
        let many: Vec<Target> = (0..400).flat_map(|_| targets(addr, 80)).collect();
        let answers = ask(many, Patience::LONG);
        let failed: Vec<_> = answers.iter().filter(|o| !o.allowed()).collect();
        assert!(failed.is_empty(), "{addr}: {failed:?}");
    }
    let nobody = ask(targets("10.9.0.3", 80), PATIENCE);
    assert!(nobody.iter().all(|o| !o.allowed()), "{nobody:?}");
    drop(responder);
    let gone = ask(targets("10.9.0.2", 80), PATIENCE);
    assert!(gone.iter().all(|o| !o.allowed()), "{gone:?}");
    // The ports are free again.
    Responder::start(NetNs::named("b").unwrap(), &listen).unwrap();
}

#[test]
fn netns_a_port_that_is_taken_is_named() {
    netns!();
    let netns = || NetNs::current().unwrap();
    let listen = [Listen {
        protocol: Transport::Tcp,
        port: 8080,
    }];
    let first = Responder::start(netns(), &listen).unwrap();
    let error = Responder::start(netns(), &listen).unwrap_err().to_string();
    assert!(error.contains("TCP 0.0.0.0:8080"), "{error}");
    drop(first);
}
