//! The headers of a packet, from its bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use caracal_net::Proto;

/// What a packet's headers tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Headers {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) proto: Proto,
    /// 0 without ports, or where they are not in these bytes.
    pub(crate) sport: u16,
    pub(crate) dport: u16,
    /// Type and code of ICMP and ICMPv6.
    pub(crate) icmp: Option<(u8, u8)>,
    /// The packet's whole length.
    pub(crate) length: u32,
}

/// Reads the headers; nothing when the bytes are none of a packet.
pub(crate) fn headers(bytes: &[u8]) -> Option<Headers> {
    match bytes.first()? >> 4 {
        4 => v4(bytes),
        6 => v6(bytes),
        _ => None,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn v4(bytes: &[u8]) -> Option<Headers> {
    let addr = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets).into())
    };
    let length = usize::from(bytes[0] & 15) * 4;
    // Ports are in the first fragment only.
    let first = word(bytes, 6)? & 0x1fff == 0;
    let rest = bytes.get(length..).filter(|_| first).unwrap_or_default();
    Some(transport(
        Headers {
            src: addr(12)?,
            dst: addr(16)?,
            proto: Proto(*bytes.get(9)?),
            sport: 0,
            dport: 0,
            icmp: None,
            length: u32::from(word(bytes, 2)?),
        },
        rest,
    ))
}

fn v6(bytes: &[u8]) -> Option<Headers> {
    let addr = |at: usize| -> Option<IpAddr> {
        let octets: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
        Some(Ipv6Addr::from(octets).into())
    };
    let (mut next, mut rest) = (*bytes.get(6)?, bytes.get(40..)?);
    // Hop-by-hop, routing, fragment and destination options stand before the transport.
    while matches!(next, 0 | 43 | 44 | 60) {
        let [after, length, ..] = *rest else { break };
        let is_fragment = next == 44;
        let later = is_fragment && word(rest, 2)? & 0xfff8 != 0;
        let length = if is_fragment {
            8
        } else {
            (usize::from(length) + 1) * 8
        };
        next = after;
        rest = rest.get(length..).filter(|_| !later).unwrap_or_default();
    }
    Some(transport(
        Headers {
            src: addr(8)?,
            dst: addr(24)?,
            proto: Proto(next),
            sport: 0,
            dport: 0,
            icmp: None,
            length: u32::from(word(bytes, 4)?) + 40,
        },
        rest,
    ))
}

fn transport(mut headers: Headers, rest: &[u8]) -> Headers {
    if headers.proto.has_ports() {
        headers.sport = word(rest, 0).unwrap_or(0);
        headers.dport = word(rest, 2).unwrap_or(0);
    } else if let (Proto::ICMP | Proto::ICMPV6, [kind, code, ..]) = (headers.proto, rest) {
        headers.icmp = Some((*kind, *code));
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_over_ipv4_with_options() {
        let mut packet = vec![
            0x46, 0, 0, 44, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 1, 1, 0,
        ];
        packet.extend([0x9c, 0x40, 0, 80]);
        let h = headers(&packet).unwrap();
        assert_eq!(
            (h.sport, h.dport, h.length, h.proto),
            (40_000, 80, 44, Proto::TCP)
        );
        assert_eq!(
            (h.src, h.dst),
            ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap())
        );
        packet[7] = 5;
        assert_eq!(headers(&packet).unwrap().dport, 0, "a later fragment");
    }

    #[test]
    fn icmpv6_behind_hop_by_hop_options() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 16, 0, 64];
        let (src, dst): (Ipv6Addr, Ipv6Addr) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        packet.extend(src.octets());
        packet.extend(dst.octets());
        packet.extend([58, 0, 5, 2, 0, 0, 0, 0, 128, 3, 0, 0]);
        let h = headers(&packet).unwrap();
        assert_eq!((h.proto, h.icmp, h.length), (Proto::ICMPV6, Some((128, 3)), 56));
        assert_eq!((h.src, h.dst), (IpAddr::from(src), IpAddr::from(dst)));
    }

    #[test]
    fn bytes_that_are_no_packet() {
        for len in 0..44 {
            for first in [0x45, 0x60, 0x4f, 0x10] {
                let mut bytes = vec![0xff; len];
                if let Some(b) = bytes.first_mut() {
                    *b = first;
                }
                // Whatever it says, it must not panic.
                let _ = headers(&bytes);
            }
        }
        assert_eq!(headers(&[0x10; 60]), None);
    }
}
