//! What is sent: `PORT/PROTO` and its other forms.

use std::net::IpAddr;

use caracal_net::{Family, Proto};
use caracal_oracle::Packet;

use super::party::Party;
use crate::failure::Failure;

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Traffic {
    /// To a port.
    Port(Proto, u16),
    /// To a port of the receiver that has this name.
    Named(Option<Proto>, String),
    /// ICMP of the packet's family; an echo request where nothing is said.
    Icmp(Option<(u8, u8)>),
    /// A protocol without ports.
    Other(Proto),
}

/// Reads `8080/tcp`, `tcp/8080`, `http/tcp`, `8080` (TCP), `icmp`, `icmp/TYPE[/CODE]` or `proto/NUMBER`.
pub(super) fn parse(text: &str) -> Result<Traffic, Failure> {
    let bad = |why: &str| {
        Failure::input(format!(
            "{text:?} is no PORT/PROTO ({why}); examples: 8080/tcp, http/tcp, 53/udp, icmp, icmp/8/0, proto/47"
        ))
    };
    let parts: Vec<&str> = text.split('/').collect();
    let is_icmp = |p: &str| p.eq_ignore_ascii_case("icmp") || p.eq_ignore_ascii_case("icmpv6");
    let number = |t: &str| {
        t.parse::<u8>()
            .map_err(|_| bad("ICMP types and codes are numbers from 0 to 255"))
    };
    match parts.as_slice() {
        [p] if is_icmp(p) => Ok(Traffic::Icmp(None)),
        [p, n] if p.eq_ignore_ascii_case("proto") => match Proto::parse(n) {
            Some(p) if p.has_ports() || is_icmp(&p.to_string()) => Err(bad("of this protocol say more")),
            Some(p) => Ok(Traffic::Other(p)),
            None => Err(bad("a protocol is a name or a number from 1 to 255")),
        },
        [p, t] if is_icmp(p) => Ok(Traffic::Icmp(Some((number(t)?, 0)))),
        [t, p] if is_icmp(p) => Ok(Traffic::Icmp(Some((number(t)?, 0)))),
        [p, t, c] if is_icmp(p) => Ok(Traffic::Icmp(Some((number(t)?, number(c)?)))),
        [one] => match one.parse::<u16>() {
            Ok(port) => Ok(Traffic::Port(Proto::TCP, port)),
            Err(_) if one.is_empty() || one.bytes().all(|b| b.is_ascii_digit()) => {
                Err(bad("a port is a number from 0 to 65535"))
            }
            Err(_) => match Proto::parse(one) {
                Some(p) if p.has_ports() => Err(bad("the port is missing")),
                Some(p) => Ok(Traffic::Other(p)),
                None => Ok(Traffic::Named(None, (*one).to_owned())),
            },
        },
        [port, proto] => {
            let named = |t: &str| Proto::parse(t).filter(|_| t.parse::<u8>().is_err());
            // The protocol's name says which way round it was written.
            let (port, proto) = match (named(port), named(proto)) {
                (Some(p), None) => (proto, p),
                (_, Some(p)) => (port, p),
                (None, None) => return Err(bad("there is no such protocol")),
            };
            if !proto.has_ports() {
                return Err(bad("only TCP, UDP and SCTP have ports"));
            }
            match port.parse::<u16>() {
                Ok(n) => Ok(Traffic::Port(proto, n)),
                Err(_) if port.is_empty() || port.bytes().all(|b| b.is_ascii_digit()) => {
                    Err(bad("a port is a number from 0 to 65535"))
                }
                Err(_) => Ok(Traffic::Named(Some(proto), (*port).to_owned())),
            }
        }
        _ => Err(bad("there are too many parts")),
    }
}

impl Traffic {
    /// The first packet between two addresses.
    pub(super) fn packet(&self, src: IpAddr, dst: IpAddr, sport: u16, to: &Party) -> Result<Packet, Failure> {
        let bare = |proto, icmp| Packet {
            src,
            dst,
            proto,
            sport: 0,
            dport: 0,
            icmp,
        };
        Ok(match self {
            Self::Port(proto, port) => Packet::with_ports(src, dst, *proto, sport, *port),
            Self::Named(proto, name) => {
                let (proto, port) = to.named_port(*proto, name)?;
                Packet::with_ports(src, dst, proto, sport, port)
            }
            Self::Icmp(kind) => match Family::of(dst) {
                Family::V4 => bare(Proto::ICMP, Some(kind.unwrap_or((8, 0)))),
                Family::V6 => bare(Proto::ICMPV6, Some(kind.unwrap_or((128, 0)))),
            },
            Self::Other(proto) => bare(*proto, None),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        let good = [
            ("80/tcp", Traffic::Port(Proto::TCP, 80)),
            ("80", Traffic::Port(Proto::TCP, 80)),
            ("UDP/53", Traffic::Port(Proto::UDP, 53)),
            ("http/tcp", Traffic::Named(Some(Proto::TCP), "http".into())),
            ("http", Traffic::Named(None, "http".into())),
            ("icmp", Traffic::Icmp(None)),
            ("icmp/3/1", Traffic::Icmp(Some((3, 1)))),
            ("8/icmp", Traffic::Icmp(Some((8, 0)))),
            ("udplite", Traffic::Other(Proto::UDPLITE)),
            ("proto/47", Traffic::Other(Proto(47))),
        ];
        for (text, meaning) in good {
            assert_eq!(parse(text).unwrap(), meaning, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_the_reason() {
        for (text, why) in [
            ("", "number"),
            ("tcp", "missing"),
            ("70000/tcp", "65535"),
            ("70000", "65535"),
            ("80/xyz", "protocol"),
            ("80/udplite", "ports"),
            ("icmp/999", "255"),
            ("1/2/3", "parts"),
            ("proto/0", "255"),
            ("proto/6", "say more"),
            ("/tcp", "65535"),
        ] {
            let e = parse(text).unwrap_err().to_string();
            assert!(e.contains(why) && e.contains("8080/tcp"), "{text}: {e}");
        }
    }
}
