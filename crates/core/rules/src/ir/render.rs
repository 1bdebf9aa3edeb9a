use std::fmt::{self, Write};

use caracal_net::Family;

use super::{
    key::{Data, Field, KeyType, Span},
    rule::{
        CtState, CtStatus, FibKey, LogTo, Match, NatTo, Per, PktType, RejectWith, Rule, Statement, Verdict,
    },
    table::{BaseChain, ChainKind, DataType, Hook, Policy, Set, SetDef, TableState},
};

/// The table as `nft` text: for golden tests and diagnostics. `nft -f` takes it.
#[must_use]
pub fn render(family: Family, table_name: &str, table: &TableState) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = Text {
        family,
        out: &mut out,
    }
    .table(table_name, table);
    out
}

struct Text<'a> {
    family: Family,
    out: &'a mut String,
}

impl Text<'_> {
    fn table(&mut self, name: &str, table: &TableState) -> fmt::Result {
        writeln!(self.out, "table {} {name} {{", self.ip())?;
        for name in &table.counters {
            writeln!(self.out, "\tcounter {name} {{ }}")?;
        }
        for (name, set) in &table.sets {
            self.set(name.as_str(), set)?;
        }
        for (name, chain) in &table.chains {
            writeln!(self.out, "\tchain {name} {{")?;
            if let Some(base) = &chain.base {
                writeln!(self.out, "\t\t{}", hook_line(base))?;
            }
            for rule in &chain.rules {
                self.out.push_str("\t\t");
                self.rule(rule)?;
                self.out.push('\n');
            }
            self.out.push_str("\t}\n");
        }
        self.out.push_str("}\n");
        Ok(())
    }

    fn ip(&self) -> &'static str {
        match self.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
        }
    }

    fn icmp(&self) -> &'static str {
        match self.family {
            Family::V4 => "icmp",
            Family::V6 => "icmpv6",
        }
    }

    fn type_name(&self, t: KeyType) -> &'static str {
        match (t, self.family) {
            (KeyType::Addr, Family::V4) => "ipv4_addr",
            (KeyType::Addr, Family::V6) => "ipv6_addr",
            (KeyType::Proto, _) => "inet_proto",
            (KeyType::Port, _) => "inet_service",
            (KeyType::IfName, _) => "ifname",
            (KeyType::Mark, _) => "mark",
            (KeyType::IcmpType, Family::V4) => "icmp_type",
            (KeyType::IcmpType, Family::V6) => "icmpv6_type",
            (KeyType::IcmpCode, Family::V4) => "icmp_code",
            (KeyType::IcmpCode, Family::V6) => "icmpv6_code",
        }
    }

    fn types(&self, types: &[KeyType]) -> String {
        types
            .iter()
            .map(|t| self.type_name(*t))
            .collect::<Vec<_>>()
            .join(" . ")
    }

    fn set(&mut self, name: &str, set: &Set) -> fmt::Result {
        let SetDef {
            key,
            data,
            interval,
            size,
            counters,
            comment: _,
            about: _,
        } = &set.def;
        let word = if data.is_some() { "map" } else { "set" };
        write!(self.out, "\t{word} {name} {{\n\t\ttype {}", self.types(key))?;
        match data {
            Some(DataType::Verdict) => self.out.push_str(" : verdict"),
            Some(DataType::Value(types)) => write!(self.out, " : {}", self.types(types))?,
            Some(DataType::Counter) => self.out.push_str(" : counter"),
            None => {}
        }
        self.out.push('\n');
        if let Some(size) = size {
            writeln!(self.out, "\t\tsize {size}")?;
        }
        if *interval {
            self.out.push_str("\t\tflags interval\n");
        }
        if *counters {
            self.out.push_str("\t\tcounter\n");
        }
        let told = set.def.told();
        if !told.is_empty() {
            writeln!(self.out, "\t\tcomment {}", quoted(told))?;
        }
        if !set.elements.is_empty() {
            self.out.push_str("\t\telements = {");
            for (i, (key, element)) in set.elements.iter().enumerate() {
                self.out.push_str(if i > 0 { ",\n\t\t\t" } else { " " });
                write!(self.out, "{key}")?;
                if let Some(comment) = element.comment() {
                    write!(self.out, " comment {}", quoted(comment))?;
                }
                match element.data() {
                    Some(Data::Verdict(v)) => write!(self.out, " : {}", verdict(v))?,
                    Some(Data::Value(v)) => write!(self.out, " : {v}")?,
                    Some(Data::Counter(name)) => write!(self.out, " : {}", quoted(name.as_str()))?,
                    None => {}
                }
            }
            self.out.push_str(" }\n");
        }
        self.out.push_str("\t}\n");
        Ok(())
    }

    fn rule(&mut self, rule: &Rule) -> fmt::Result {
        let mut words: Vec<String> = rule.matches.iter().map(|m| self.condition(m)).collect();
        words.extend(rule.statements.iter().map(|s| self.statement(s)));
        if !rule.comment.is_empty() {
            words.push(format!("comment {}", quoted(&rule.comment)));
        }
        self.out.push_str(&words.join(" "));
        Ok(())
    }

    fn field(&self, field: Field) -> String {
        let ip = self.ip();
        match field {
            Field::Iif => "iifname".into(),
            Field::Oif => "oifname".into(),
            Field::Saddr => format!("{ip} saddr"),
            Field::Daddr => format!("{ip} daddr"),
            Field::OrigDaddr => format!("ct original {ip} daddr"),
            Field::Proto => "meta l4proto".into(),
            Field::Sport => "th sport".into(),
            Field::Dport => "th dport".into(),
            Field::OrigDport => "ct original proto-dst".into(),
            Field::Mark => "meta mark".into(),
            Field::CtMark => "ct mark".into(),
            Field::IcmpType => format!("{} type", self.icmp()),
            Field::IcmpCode => format!("{} code", self.icmp()),
        }
    }

    fn fields(&self, fields: &[Field]) -> String {
        fields
            .iter()
            .map(|f| self.field(*f))
            .collect::<Vec<_>>()
            .join(" . ")
    }

    fn condition(&self, m: &Match) -> String {
        let ne = |not: bool| if not { "!= " } else { "" };
        match m {
            Match::Is { field, not, span } => {
                let value = match span {
                    Span::Mark(v) => format!("0x{v:x}"),
                    other => other.to_string(),
                };
                format!("{} {}{value}", self.field(*field), ne(*not))
            }
            Match::InSet { fields, not, set } => format!("{} {}@{set}", self.fields(fields), ne(*not)),
            Match::Counted { fields, map } => format!("counter name {} map @{map}", self.fields(fields)),
            Match::Mark { mask, value, not } => masked("meta mark", *mask, *value, *not),
            Match::CtMark { mask, value, not } => masked("ct mark", *mask, *value, *not),
            Match::CtState { any, not } => format!("ct state {}{}", ne(*not), state(*any)),
            Match::CtStatus { any, not } => format!("ct status {}{}", ne(*not), status(*any)),
            Match::NoReversePath(FibKey::Iif) => "fib saddr . iif oif missing".into(),
            Match::NoReversePath(FibKey::IifMark) => "fib saddr . mark . iif oif missing".into(),
            Match::Local { field, not } => {
                let which = if *field == Field::Saddr { "saddr" } else { "daddr" };
                format!("fib {which} type {}local", ne(*not))
            }
            Match::PktType { kind, not } => {
                let kind = match kind {
                    PktType::Host => "host",
                    PktType::Broadcast => "broadcast",
                    PktType::Multicast => "multicast",
                    PktType::Other => "other",
                };
                format!("meta pkttype {}{kind}", ne(*not))
            }
            Match::TcpFlags { mask, value, not } => {
                let op = if *not { "!=" } else { "==" };
                format!("tcp flags & 0x{mask:02x} {op} 0x{value:02x}")
            }
            Match::ConnectionsOver(n) => format!("ct count over {n}"),
        }
    }

    fn statement(&self, s: &Statement) -> String {
        match s {
            Statement::Counter => "counter".into(),
            Statement::Count(name) => format!("counter name {}", quoted(name.as_str())),
            Statement::Verdict(v) => verdict(v),
            Statement::VerdictMap { fields, map } => format!("{} vmap @{map}", self.fields(fields)),
            Statement::Reject(RejectWith::TcpReset) => "reject with tcp reset".into(),
            Statement::Reject(RejectWith::PortUnreachable) => {
                format!("reject with {} port-unreachable", self.icmp())
            }
            Statement::Reject(RejectWith::AdminProhibited) => {
                format!("reject with {} admin-prohibited", self.icmp())
            }
            Statement::Log { to, prefix } => {
                let prefix = if prefix.is_empty() {
                    String::new()
                } else {
                    format!(" prefix {}", quoted(prefix))
                };
                match to {
                    LogTo::Kernel(level) => {
                        let name = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];
                        format!("log{prefix} level {}", name[usize::from((*level).min(7))])
                    }
                    LogTo::Group { group, snaplen: 0 } => format!("log{prefix} group {group}"),
                    LogTo::Group { group, snaplen } => format!("log{prefix} group {group} snaplen {snaplen}"),
                }
            }
            Statement::Limit {
                rate,
                per,
                burst,
                over,
            } => {
                let per = match per {
                    Per::Second => "second",
                    Per::Minute => "minute",
                    Per::Hour => "hour",
                    Per::Day => "day",
                };
                let over = if *over { "over " } else { "" };
                format!("limit rate {over}{rate}/{per} burst {burst} packets")
            }
            Statement::SetMark { mask, value } => set_mark("meta mark", *mask, *value),
            Statement::SetCtMark { mask, value } => set_mark("ct mark", *mask, *value),
            Statement::SetMarkFromMap { fields, map } => {
                format!("meta mark set {} map @{map}", self.fields(fields))
            }
            Statement::SaveMark { mask: u32::MAX } => "ct mark set meta mark".into(),
            Statement::SaveMark { mask } => format!("ct mark set meta mark & 0x{mask:08x}"),
            Statement::SetDscp(n) => format!("{} dscp set 0x{n:02x}", self.ip()),
            Statement::NoTrack => "notrack".into(),
            Statement::Masquerade { ports, fully_random } => {
                let ports = ports
                    .map(|p| format!(" to :{}", Span::from(p)))
                    .unwrap_or_default();
                format!("masquerade{ports}{}", random(*fully_random))
            }
            Statement::Snat(to) => format!("snat to {}", self.nat(to)),
            Statement::Dnat(to) => format!("dnat to {}", self.nat(to)),
        }
    }

    fn nat(&self, to: &NatTo) -> String {
        let bracket = self.family == Family::V6 && to.ports.is_some();
        let one = |a: std::net::IpAddr| if bracket { format!("[{a}]") } else { a.to_string() };
        let mut text = one(to.first);
        if to.last != to.first {
            text += &format!("-{}", one(to.last));
        }
        if let Some(ports) = to.ports {
            text += &format!(":{}", Span::from(ports));
        }
        text + random(to.fully_random)
    }
}

fn random(fully: bool) -> &'static str {
    if fully { " fully-random" } else { "" }
}

fn verdict(v: &Verdict) -> String {
    match v {
        Verdict::Accept => "accept".into(),
        Verdict::Drop => "drop".into(),
        Verdict::Return => "return".into(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
    }
}

fn masked(what: &str, mask: u32, value: u32, not: bool) -> String {
    let op = if not { "!=" } else { "==" };
    if mask == u32::MAX {
        format!("{what} {}0x{value:08x}", if not { "!= " } else { "" })
    } else {
        format!("{what} & 0x{mask:08x} {op} 0x{value:08x}")
    }
}

fn set_mark(what: &str, mask: u32, value: u32) -> String {
    match !mask {
        0 => format!("{what} set 0x{value:08x}"),
        _ if value == mask => format!("{what} set {what} | 0x{value:08x}"),
        keep if value == 0 => format!("{what} set {what} & 0x{keep:08x}"),
        keep => format!("{what} set {what} & 0x{keep:08x} | 0x{value:08x}"),
    }
}

fn state(any: CtState) -> String {
    let names = [
        (CtState::INVALID, "invalid"),
        (CtState::ESTABLISHED, "established"),
        (CtState::RELATED, "related"),
        (CtState::NEW, "new"),
        (CtState::UNTRACKED, "untracked"),
    ];
    join(names.iter().filter(|(s, _)| any.0 & s.0 != 0).map(|(_, n)| *n))
}

fn status(any: CtStatus) -> String {
    let names = [(CtStatus::SNAT, "snat"), (CtStatus::DNAT, "dnat")];
    join(names.iter().filter(|(s, _)| any.0 & s.0 != 0).map(|(_, n)| *n))
}

fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(",")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace(['"', '\n'], "'"))
}

fn hook_line(base: &BaseChain) -> String {
    let kind = match base.kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
        ChainKind::Route => "route",
    };
    let hook = match base.hook {
        Hook::Prerouting => "prerouting",
        Hook::Input => "input",
        Hook::Forward => "forward",
        Hook::Output => "output",
        Hook::Postrouting => "postrouting",
    };
    let policy = match base.policy {
        Policy::Accept => "accept",
        Policy::Drop => "drop",
    };
    format!(
        "type {kind} hook {hook} priority {}; policy {policy};",
        base.priority
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Chain, Element, IfName, Key, TableDelta};
    use caracal_net::{Cidr, PortRange, Proto};

    fn table(net: &str) -> TableState {
        let cali = IfName::exact("cali1").expect("short");
        let base = BaseChain {
            kind: ChainKind::Filter,
            hook: Hook::Forward,
            priority: -10,
            policy: Policy::Accept,
        };
        let net: Cidr = net.parse().expect("a prefix");
        let mut table = TableState::default();
        let deltas = [
            TableDelta::PutSet(
                "nets".into(),
                SetDef::new([KeyType::Addr]).intervals().commented("ns \"a\""),
            ),
            TableDelta::AddElements("nets".into(), vec![(net.into(), Element::plain())]),
            TableDelta::PutSet("to".into(), SetDef::verdict_map([KeyType::IfName]).counted()),
            TableDelta::AddElements(
                "to".into(),
                vec![
                    (
                        cali.into(),
                        Element::verdict(Verdict::Goto("ep".into())).commented("pod x"),
                    ),
                    (Key::Any, Element::verdict(Verdict::Drop)),
                ],
            ),
            TableDelta::PutChain(
                "ep".into(),
                Chain::regular([
                    Rule::new(
                        [
                            Match::not_in_set([Field::Saddr], "nets"),
                            Match::is(Field::Proto, Proto::TCP),
                            Match::is(Field::Dport, PortRange { first: 80, last: 90 }),
                        ],
                        [Statement::Counter, Statement::ACCEPT],
                        "pol rule 1",
                    ),
                    Rule::new(
                        [],
                        [
                            Statement::SetMark {
                                mask: 0xf0,
                                value: 0x20,
                            },
                            Statement::DROP,
                        ],
                        "",
                    ),
                ]),
            ),
            TableDelta::PutChain(
                "fwd-hook".into(),
                Chain::base(
                    base,
                    [
                        Rule::new(
                            [Match::CtState {
                                any: CtState::ESTABLISHED.or(CtState::RELATED),
                                not: false,
                            }],
                            [Statement::ACCEPT],
                            "",
                        ),
                        Rule::new(
                            [],
                            [Statement::VerdictMap {
                                fields: vec![Field::Oif],
                                map: "to".into(),
                            }],
                            "",
                        ),
                    ],
                ),
            ),
        ];
        table.apply_all(deltas).expect("sets come first");
        table
    }

    const GOLDEN: &str = r#"table ip caracal {
	set nets {
		type ipv4_addr
		flags interval
		comment "ns 'a'"
		elements = { 10.0.0.0/8 }
	}
	map to {
		type ifname : verdict
		counter
		elements = { "cali1" comment "pod x" : goto ep,
			* : drop }
	}
	chain ep {
		ip saddr != @nets meta l4proto tcp th dport 80-90 counter accept comment "pol rule 1"
		meta mark set meta mark & 0xffffff0f | 0x00000020 drop
	}
	chain fwd-hook {
		type filter hook forward priority -10; policy accept;
		ct state established,related accept
		oifname vmap @to
	}
}
"#;

    #[test]
    fn the_text_of_both_families() {
        assert_eq!(render(Family::V4, "caracal", &table("10.0.0.0/8")), GOLDEN);
        let six = GOLDEN
            .replace("table ip ", "table ip6 ")
            .replace("ip saddr", "ip6 saddr")
            .replace("ipv4_addr", "ipv6_addr")
            .replace("10.0.0.0/8", "fd00::/8");
        assert_eq!(render(Family::V6, "caracal", &table("fd00::/8")), six);
    }

    #[test]
    fn an_empty_table() {
        assert_eq!(
            render(Family::V4, "t", &TableState::default()),
            "table ip t {\n}\n"
        );
    }
}
