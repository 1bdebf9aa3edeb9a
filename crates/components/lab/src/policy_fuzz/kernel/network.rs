//! The host of all cases in a network namespace, and a namespace behind each of its interfaces. Nothing there has an
//! address or answers: what arrives is counted, and everything that is sent is sent as it is written.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, bail};
use caracal_net::Family;
use caracal_oracle::{Host, Trip};
use caracal_sys::NetNs;

use super::packet::number;
use super::wire::MARK;
use crate::cluster::fabric::ensure_netns;
use crate::cluster::temporary::Temporary;

/// The link-layer address of every interface of the host.
const HOST_MAC: &str = "ee:ee:ee:ee:ee:ee";
/// The link-local address that follows from it: the gateway of everybody.
const GATEWAY_V6: &str = "fe80::ecee:eeff:feee:eeee";
const GATEWAY_V4: &str = "169.254.1.1";

/// The routing table that is asked last: it leads to every pod, known to the agent or not.
const LAST_TABLE: u32 = 77;

/// Pods that a case has on its host: `cali0` and so on.
const PODS: usize = 4;

/// What is behind `eth0` and `eth1`: `Case` sends nothing else there.
const BEHIND: [(&str, &str); 2] = [
    (
        "eth0",
        "192.0.2.0/24 198.51.100.0/24 10.0.0.5 10.0.0.6 2001:db8::/48 2001:db8:1::/48 fd00::5 fd00::6",
    ),
    (
        "eth1",
        "203.0.113.0/24 10.0.0.7 10.0.0.8 2001:db8:2::/48 fd00::7 fd00::8",
    ),
];

/// The host and what is behind its interfaces.
pub(super) struct Network {
    /// The host's namespace.
    pub(super) host: NetNs,
    /// By interface.
    pub(super) behind: Vec<(String, NetNs)>,
}

/// Runs a program's lines; what it says when it fails.
fn sh(line: &str) -> anyhow::Result<()> {
    let output = Command::new("sh")
        .args(["-ec", line])
        .output()
        .context("starting sh")?;
    if !output.status.success() {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

impl Network {
    /// Makes it; `name` tells hosts of one run apart.
    pub(super) fn make(run: &Temporary, name: &str) -> anyhow::Result<Self> {
        let host_name = run.netns(name);
        let host = ensure_netns(&host_name)?;
        host.run(|| prepare(true))??;
        let mut script = format!("ip -n {host_name} link set lo up\n");
        let mut behind = Vec::new();
        let pods = (0..PODS).map(|n| {
            let addresses = format!("10.0.0.{} fd00::{}", n + 1, n + 1);
            (format!("cali{n}"), addresses)
        });
        let links = BEHIND.map(|(interface, nets)| (interface.to_owned(), nets.to_owned()));
        for (number, (interface, nets)) in pods.chain(links).enumerate() {
            let there = run.netns(&format!("{name}-{interface}"));
            let netns = ensure_netns(&there)?;
            netns.run(|| prepare(false))??;
            link(&mut script, (&host_name, &interface), &there, number, &nets);
            behind.push((interface, netns));
        }
        for (interface, addresses) in [
            ("eth0", ["172.16.0.1/24", "fd16::1/64"]),
            ("eth1", ["172.16.1.1/24", "fd16:1::1/64"]),
        ] {
            for address in addresses {
                writeln!(script, "ip -n {host_name} address add {address} dev {interface}")?;
            }
        }
        for family in ["-4", "-6"] {
            writeln!(
                script,
                "ip {family} -n {host_name} rule add pref 40000 lookup {LAST_TABLE}"
            )?;
        }
        sh(&script).context("making links, addresses and routes by ip (iproute2)")?;
        Ok(Self { host, behind })
    }

    /// The host as policy sees it, but for what a case says about it.
    pub(super) fn fits(&self, host: &Host) -> anyhow::Result<()> {
        let known: Vec<&str> = BEHIND.iter().map(|(name, _)| *name).collect();
        if let Some(name) = host.interfaces.keys().find(|n| !known.contains(&n.as_str())) {
            bail!("no such interface on the host: {name}");
        }
        Ok(())
    }

    /// Takes all tables of nftables away, whoever made them.
    pub(super) fn forget_tables(&self) -> anyhow::Result<()> {
        self.host.run(|| sh("nft flush ruleset"))?
    }

    /// Our tables as text that is the same for the same rules.
    pub(super) fn ruleset(&self) -> anyhow::Result<String> {
        let list = || Command::new("nft").args(["-s", "-y", "list", "ruleset"]).output();
        let output = self.host.run(list)?.context("nft list ruleset")?;
        Ok(canonical(&String::from_utf8_lossy(&output.stdout)))
    }

    /// Has the host translate destinations, by tables of somebody else's.
    pub(super) fn translate(&self, trips: &[Trip]) -> anyhow::Result<()> {
        let mut rules = [String::new(), String::new()];
        for (n, trip) in trips.iter().enumerate() {
            if trip.original.is_none() {
                continue;
            }
            let p = &trip.packet;
            let (proto, dst, port, number) = (p.proto.0, p.dst, p.dport, number(n));
            match p.family() {
                Family::V4 => writeln!(
                    rules[0],
                    "ip id {number} meta l4proto {proto} dnat to {dst}:{port}"
                )?,
                Family::V6 => writeln!(
                    rules[1],
                    "ip6 flowlabel {number} meta l4proto {proto} dnat to [{dst}]:{port}"
                )?,
            }
        }
        let mut text = String::new();
        for (family, rules) in ["ip", "ip6"].iter().zip(rules) {
            // A table that is there already is no error, and one that is not there cannot be deleted.
            write!(
                text,
                "table {family} elsewhere\ndelete table {family} elsewhere\ntable {family} elsewhere {{\n\
                 chain translate {{\n{rules}}}\n\
                 chain in {{\ntype nat hook prerouting priority -100\njump translate\n}}\n\
                 chain out {{\ntype nat hook output priority -100\njump translate\n}}\n\
                 chain silence {{\ntype filter hook output priority -500\noifname lo accept\nmeta mark != {MARK} drop\n}}\n}}\n"
            )?;
        }
        let script = format!("nft -f - <<'END'\n{text}END");
        self.host
            .run(|| sh(&script))?
            .context("translating destinations by nft")
    }
}

/// The listing of our tables: elements and objects in order, tables without the letter that tells them apart.
fn canonical(text: &str) -> String {
    let mut tables = Vec::new();
    for table in text.split("\ntable ") {
        let table = table.trim_start_matches("table ");
        let Some((head, body)) = table.split_once(" {") else {
            continue;
        };
        let Some(family) = head.split_once(" caracal").map(|(family, _)| family) else {
            continue;
        };
        // The table's own comment comes before its first object.
        let body = body
            .split_once("\n\tcomment ")
            .and_then(|(_, rest)| rest.split_once('\n'))
            .map_or(body, |(_, rest)| rest);
        let mut objects: Vec<String> = body.split("\n\t}").map(object).collect();
        objects.sort();
        tables.push(format!("table {family} caracal\n{}", objects.join("\n")));
    }
    tables.sort();
    tables.join("\n")
}

/// A chain as it is, a set with its elements in order.
fn object(text: &str) -> String {
    let Some((head, elements)) = text.split_once("elements = {") else {
        return text.trim().to_owned();
    };
    let mut elements: Vec<&str> = elements
        .split([',', '}'])
        .map(str::trim)
        .filter(|e| !e.is_empty())
        .collect();
    elements.sort_unstable();
    format!("{} elements {}", head.trim(), elements.join(", "))
}

/// A link of the host, `nets` behind it.
fn link(script: &mut String, (host, interface): (&str, &str), there: &str, number: usize, nets: &str) {
    let mac = format!("02:00:00:00:00:{:02x}", number + 1);
    let gateways = (
        format!("172.16.255.{}", number + 1),
        format!("fe80::77:{}", number + 1),
    );
    let mut say = |line: &str| {
        script.push_str(line);
        script.push('\n');
    };
    say(&format!(
        "ip link add {interface} netns {host} address {HOST_MAC} type veth peer name eth0 netns {there} address {mac}
         ip -n {host} link set {interface} up
         ip -n {there} link set lo up
         ip -n {there} link set eth0 up
         ip -n {there} route add default via {GATEWAY_V4} dev eth0 onlink
         ip -n {there} -6 route add default via {GATEWAY_V6} dev eth0 onlink
         ip -n {there} neighbour add {GATEWAY_V4} lladdr {HOST_MAC} dev eth0 nud permanent
         ip -n {there} neighbour add {GATEWAY_V6} lladdr {HOST_MAC} dev eth0 nud permanent
         ip -n {host} neighbour add {} lladdr {mac} dev {interface} nud permanent
         ip -n {host} neighbour add {} lladdr {mac} dev {interface} nud permanent",
        gateways.0, gateways.1
    ));
    let is_pod = interface.starts_with("cali");
    for net in nets.split(' ') {
        let (family, gateway) = if net.contains(':') {
            ("-6", &gateways.1)
        } else {
            ("-4", &gateways.0)
        };
        if is_pod {
            // As the agent routes to pods: directly.
            say(&format!(
                "ip -n {host} neighbour add {net} lladdr {mac} dev {interface} nud permanent"
            ));
            say(&format!(
                "ip {family} -n {host} route add {net} dev {interface} table {LAST_TABLE}"
            ));
        } else {
            say(&format!(
                "ip {family} -n {host} route add {net} via {gateway} dev {interface} onlink"
            ));
        }
    }
}

/// Settings of the calling thread's namespace.
fn prepare(forward: bool) -> anyhow::Result<()> {
    let set = |path: &str, value: &str| {
        let path = format!("/proc/sys/net/{path}");
        std::fs::write(&path, value).with_context(|| format!("writing {path}"))
    };
    for interface in ["all", "default"] {
        set(&format!("ipv6/conf/{interface}/accept_dad"), "0")?;
        set(&format!("ipv6/conf/{interface}/accept_ra"), "0")?;
        // Packets come from anywhere; that is for policy to judge.
        set(&format!("ipv4/conf/{interface}/rp_filter"), "0")?;
    }
    if forward {
        set("ipv4/ip_forward", "1")?;
        set("ipv6/conf/all/forwarding", "1")?;
    }
    Ok(())
}
