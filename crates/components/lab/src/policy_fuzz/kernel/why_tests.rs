//! `caracal why` says of random packets what becomes of them: what the objects say, and what a kernel did to them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use caracal_api::{HostEndpointSpec, NodeAddress, NodeSpec, Object, Resource, WorkloadEndpointSpec};
use caracal_net::{Cidr, Family, Proto};
use caracal_oracle::{Packet, Reading, Stage, Trip, Way, travel};
use caracal_policy_fuzz::{Case, NODE, Reference, desired};
use caracal_store::Store;
use caracal_store_memory::MemoryStore;
use caracal_testkit::{needs, netns};
use serde_json::Value;

use super::hands::{Hands, settings};
use super::network::Network;
use super::{BASE, NETNS, Node, Temporary};
use crate::asking::{is_night, why};

const LINKS: [&str; 2] = ["eth0", "eth1"];

/// How many packets `why` judged, and why others could not be asked about.
#[derive(Debug, Default)]
struct Tally {
    judged: usize,
    /// How many of them get through.
    allowed: usize,
    left_out: BTreeMap<&'static str, usize>,
}

impl Tally {
    /// Prints it; most packets have to be judged.
    fn most(&self, at_least: usize) {
        let out: usize = self.left_out.values().sum();
        println!("-- {self:?}; {out} left out");
        assert!(self.judged >= at_least && self.judged > out, "{self:?}");
        let tenth = self.judged / 10;
        assert!((tenth..self.judged - tenth).contains(&self.allowed), "{self:?}");
    }
}

/// The seed of the first case: one of its own each night, the same every day, or what is asked for.
fn first_seed() -> u64 {
    let given = std::env::var("FUZZ_SEED").ok().and_then(|t| t.parse().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let by_night = now.map_or(1, |t| t.as_secs() * 1000);
    let seed = given.unwrap_or(if is_night() { by_night } else { 1 });
    println!("-- FUZZ_SEED={seed}");
    seed
}

/// A case as `why` can be asked about it: the datastore has no endpoints of services, and a packet is judged as it
/// arrives, so nothing is translated.
fn askable(seed: u64, packets: usize) -> Case {
    // What is in force is what is asked about; that an agent refuses the rest is for others to show.
    let mut case = Case::random(seed, packets).in_force().into_owned();
    case.slices.clear();
    case.trips.iter_mut().for_each(|t| t.original = None);
    case
}

/// The host endpoints of the node, by name.
fn host_endpoints(case: &Case) -> Vec<&Object<HostEndpointSpec>> {
    let of_node = case.objects.iter().filter_map(|o| match o {
        Resource::HostEndpoint(h) if h.spec.node == NODE => Some(&**h),
        _ => None,
    });
    let mut all: Vec<_> = of_node.collect();
    all.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    all
}

/// Whether an address that a host endpoint expects is an interface's.
fn expects(case: &Case, endpoint: &HostEndpointSpec, interface: &str) -> bool {
    let held = &case.host.interfaces[interface];
    let mut expected = endpoint.expected_ips.iter().filter_map(|t| t.parse().ok());
    expected.any(|a| held.contains(&a))
}

/// Whether what `why` takes for the way to others is this interface, if that has the node's addresses: it knows
/// interfaces by host endpoints alone.
fn is_uplink(case: &Case, interface: &str) -> bool {
    let all = host_endpoints(case);
    let mistaken = all.iter().map(|h| &h.spec).any(|h| {
        let named = LINKS.contains(&h.interface_name.as_str());
        named && !h.expected_ips.is_empty() && !expects(case, h, &h.interface_name)
    });
    let is_own = |h: &HostEndpointSpec| match h.interface_name.as_str() {
        "" => expects(case, h, interface),
        name => name == interface,
    };
    let fits = |h: &HostEndpointSpec| {
        h.interface_name != "*" && (h.expected_ips.is_empty() || expects(case, h, interface))
    };
    let own = all.iter().position(|h| is_own(&h.spec));
    !mistaken && own == all.iter().position(|h| fits(&h.spec))
}

/// What one asks for a packet, and the interface whose addresses the node has as its own.
struct Question {
    words: Vec<String>,
    near: &'static str,
}

fn pod<'a>(case: &'a Case, interface: &str) -> Option<&'a Object<WorkloadEndpointSpec>> {
    case.objects.iter().find_map(|o| match o {
        Resource::WorkloadEndpoint(w) if w.spec.node == NODE && w.spec.interface_name == interface => {
            Some(&**w)
        }
        _ => None,
    })
}

/// What to call who has the address behind an interface; nothing is behind none but the host.
fn party(case: &Case, interface: Option<&str>, address: std::net::IpAddr) -> Result<String, &'static str> {
    match interface {
        None => Ok(format!("node:{NODE}")),
        Some(link) if LINKS.contains(&link) => Ok(address.to_string()),
        Some(interface) => {
            let pod = pod(case, interface).ok_or("of an interface without pod")?;
            let mut own = pod.spec.ip_networks.iter().filter_map(|t| t.parse::<Cidr>().ok());
            if !own.any(|c| c.addr() == address) {
                return Err("of an address that the pod does not have");
            }
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            Ok(format!("pod:{namespace}/{}", pod.metadata.name))
        }
    }
}

fn traffic(p: &Packet) -> String {
    match (p.proto, p.icmp) {
        (Proto::ICMP | Proto::ICMPV6, Some((kind, code))) => format!("icmp/{kind}/{code}"),
        (proto, _) if proto.has_ports() => format!("{}/{proto}", p.dport),
        (proto, _) => format!("proto/{}", proto.0),
    }
}

/// The question, or why `why` knows none for this packet.
fn question(case: &Case, trip: &Trip) -> Result<Question, &'static str> {
    let p = &trip.packet;
    let (from, to) = match &trip.way {
        Way::Forward { from, to } => (Some(from.as_str()), Some(to.as_str())),
        Way::In { from } => (Some(from.as_str()), None),
        Way::Out { to } => (None, Some(to.as_str())),
    };
    if trip.spoofed {
        return Err("from an address of others");
    }
    let mut links = LINKS.into_iter().filter(|l| [from, to].contains(&Some(l)));
    let link = links.next();
    if links.next().is_some() {
        return Err("between two who are elsewhere");
    }
    let mine = from.is_none().then_some(p.src).or(to.is_none().then_some(p.dst));
    let mut of_host = LINKS
        .into_iter()
        .filter(|l| mine.is_some_and(|a| case.host.interfaces[*l].contains(&a)));
    let (near, told_apart) = match (link, of_host.next()) {
        (Some(link), Some(held)) => (held, link == held),
        (Some(near), None) | (None, Some(near)) => (near, true),
        (None, None) => (LINKS[0], true),
    };
    // Without host endpoints of their own, all interfaces are one.
    let alike = host_endpoints(case).iter().all(|h| h.spec.interface_name == "*");
    if !alike && !told_apart {
        return Err("by another interface than has the host's address");
    }
    if !alike && link.is_some() && !is_uplink(case, near) {
        return Err("by an interface that is not known to be the node's way to others");
    }
    let family = if p.family() == Family::V4 { "-4" } else { "-6" };
    let words = [
        party(case, from, p.src)?,
        party(case, to, p.dst)?,
        traffic(p),
        format!("--source-port={}", p.sport),
        family.to_owned(),
        "--kernel=never".to_owned(),
        "--output=json".to_owned(),
    ];
    Ok(Question {
        words: words.to_vec(),
        near,
    })
}

/// A datastore with the case, its settings, and the node with the addresses of an interface.
fn store(case: &Case, near: &str) -> Arc<dyn Store> {
    let address = |a: &std::net::IpAddr| NodeAddress {
        address: a.to_string(),
        address_type: "InternalIP".to_owned(),
    };
    let node = NodeSpec {
        addresses: case.host.interfaces[near].iter().map(address).collect(),
        ..NodeSpec::default()
    };
    let own = [
        settings(&case.host).expect("settings"),
        Object::new(NODE, node).into(),
    ];
    let store = MemoryStore::etcd();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime");
    for object in case.objects.iter().cloned().chain(own) {
        runtime
            .block_on(store.create(object))
            .expect("an object of its own");
    }
    Arc::new(store)
}

/// What was decided, and in which direction; of a host endpoint also which one.
type Decided = (Option<String>, Option<(String, String)>);

fn decided_by_why(places: &[&Value]) -> Vec<Decided> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let one = |p: &&Value| {
        let at = p["at"].as_str().and_then(|a| a.strip_prefix("host endpoint "));
        let verdict = p["verdict"].is_string();
        let decided = verdict.then(|| (text(&p["direction"]), text(&p["verdict"])));
        (at.map(str::to_owned), decided)
    };
    places.iter().map(one).collect()
}

fn decided_by_model(case: &Case, trip: &Trip) -> Vec<Decided> {
    let journey = travel(&desired(case).0, &case.host, Reading::Enforced, trip);
    let one = |(stage, decision): (Stage, Option<caracal_oracle::Decision>)| {
        let at = match stage {
            Stage::Host(name, _) => Some(name.to_string()),
            _ => None,
        };
        (
            at,
            decision.map(|d| (d.direction.to_string(), d.verdict.to_string())),
        )
    };
    journey.stages.into_iter().map(one).collect()
}

/// Asks about every packet of a case; `through` is what becomes of them.
fn ask(case: &Case, through: &[bool], tally: &mut Tally) {
    let stores = LINKS.map(|near| store(case, near));
    for (n, (trip, through)) in case.trips.iter().zip(through).enumerate() {
        let mut leave_out = |why| *tally.left_out.entry(why).or_default() += 1;
        let question = match question(case, trip) {
            Ok(question) => question,
            Err(why) => {
                leave_out(why);
                continue;
            }
        };
        let store = &stores[usize::from(question.near == LINKS[1])];
        let (code, text) = why(store, &question.words);
        let show = || {
            format!(
                "seed {}, packet {n}: {:?}\n{trip:?}\n{text}",
                case.seed, question.words
            )
        };
        assert!(code == 0 || code == 1, "{code}, {}", show());
        let answers: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {}", show()));
        let [answer] = answers.as_array().map_or(&[][..], Vec::as_slice) else {
            panic!("not one answer: {}", show());
        };
        let all = answer["places"].as_array().map_or(&[][..], Vec::as_slice);
        let is_blocked = |p: &&Value| p["verdict"] == "blocked";
        assert_eq!(code == 1, all.iter().any(|p| is_blocked(&p)), "{}", show());
        assert_eq!(code == 1, answer["verdict"] == "blocked", "{}", show());
        let here: Vec<&Value> = all.iter().filter(|p| p["node"] == NODE).collect();
        let comes_from_elsewhere = all.first().is_some_and(|p| p["node"] != NODE);
        if comes_from_elsewhere && here.is_empty() && code == 1 {
            leave_out("blocked by the sender's own node");
            continue;
        }
        let blocked_here = here.iter().any(is_blocked);
        assert_eq!(!blocked_here, *through, "arrived: {through}; {}", show());
        assert_eq!(decided_by_why(&here), decided_by_model(case, trip), "{}", show());
        tally.judged += 1;
        tally.allowed += usize::from(*through);
    }
}

/// Goes on with cases by day until there were so many, at night until the time is over.
fn cases(by_day: u64, packets: usize, mut one: impl FnMut(&Case)) {
    let (seed, start) = (first_seed(), Instant::now());
    let is_over = |n: u64| match is_night() {
        true => n >= by_day && start.elapsed() > Duration::from_secs(50),
        false => n >= by_day,
    };
    (0..)
        .take_while(|n| !is_over(*n))
        .for_each(|n| one(&askable(seed.wrapping_add(n), packets)));
}

#[test]
fn why_says_of_random_packets_what_the_objects_say() {
    let mut tally = Tally::default();
    cases(40, 20, |case| {
        let reference = Reference::new(case, None);
        let through: Vec<bool> = case.trips.iter().map(|t| reference.allows(t)).collect();
        ask(case, &through, &mut tally);
    });
    tally.most(400);
}

#[test]
fn netns_why_says_of_random_packets_what_becomes_of_them() {
    netns!(300);
    needs!("root", "ip", "nft");
    let run = Temporary::start(BASE, NETNS).expect("a directory");
    let node = Network::make(&run, "alone").and_then(|network| {
        let hands = Hands::driver(&network.host)?;
        Node::new(network, hands)
    });
    let mut node = node.expect("a host");
    let mut tally = Tally::default();
    cases(12, 40, |case| {
        node.apply(case).expect("a case in force");
        let through = node.measure(case).expect("packets");
        ask(case, &through, &mut tally);
    });
    drop(node);
    run.end(&[]);
    tally.most(240);
}
