//! Packets as bytes, each with a tag at its end by which it is known again.

use std::net::IpAddr;

use caracal_net::Proto;
use caracal_oracle::Trip;

use crate::prober::crc32c;

/// How long a tag is.
const TAG: usize = 16;

/// What tags begin with.
const MAGIC: [u8; 4] = *b"crcl";

/// The longest packet that is sent, and more.
pub(super) const LONGEST: usize = 512;

/// Which packet of which case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag {
    /// Counts cases.
    pub(super) case: u32,
    /// The packet's place in it.
    pub(super) packet: u32,
    /// Counts what is sent, where that matters.
    pub(super) time: u32,
}

impl Tag {
    fn bytes(self) -> [u8; TAG] {
        let mut out = [0; TAG];
        out[..4].copy_from_slice(&MAGIC);
        out[4..8].copy_from_slice(&self.case.to_be_bytes());
        out[8..12].copy_from_slice(&self.packet.to_be_bytes());
        out[12..].copy_from_slice(&self.time.to_be_bytes());
        out
    }

    /// The tag at the end of what was received.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let tag = bytes.get(bytes.len().checked_sub(TAG)?..)?;
        let word = |at: usize| Some(u32::from_be_bytes(tag.get(at..at + 4)?.try_into().ok()?));
        (tag.get(..4)? == MAGIC).then_some(())?;
        Some(Self {
            case: word(4)?,
            packet: word(8)?,
            time: word(12)?,
        })
    }
}

/// The number by which the node knows which packets it translates: an IPv4 id, or an IPv6 flow label.
pub(super) fn number(packet: usize) -> u16 {
    // Cases have far fewer packets.
    u16::try_from(packet + 1).unwrap_or(u16::MAX)
}

/// A packet as its sender writes it, before its destination is translated.
pub(super) fn encode(trip: &Trip, tag: Tag) -> Vec<u8> {
    let p = &trip.packet;
    let (dst, dport) = trip.original.unwrap_or((p.dst, p.dport));
    let number = number(tag.packet as usize);
    let mut body = match p.proto {
        Proto::TCP => tcp(p.sport, dport),
        Proto::UDP => udp(p.sport, dport),
        Proto::SCTP => sctp(p.sport, dport),
        Proto::ICMP | Proto::ICMPV6 => icmp(p.icmp.unwrap_or_default(), number),
        // A GRE header without anything.
        _ => vec![0, 0, 8, 0],
    };
    body.extend(tag.bytes());
    finish(&mut body, p.proto, p.src, dst);
    let mut out = header(&body, p.proto, p.src, dst, number);
    out.extend(body);
    out
}

fn tcp(sport: u16, dport: u16) -> Vec<u8> {
    let mut out = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    // A sequence number, none acknowledged, five words of header, SYN, a window.
    out.extend([0, 0, 1, 0, 0, 0, 0, 0, 0x50, 0x02, 0x20, 0, 0, 0, 0, 0]);
    out
}

fn udp(sport: u16, dport: u16) -> Vec<u8> {
    let length = 8 + TAG;
    let mut out = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    // Small.
    out.extend([0, u8::try_from(length).unwrap_or(u8::MAX), 0, 0]);
    out
}

/// An INIT, with the tag in a parameter that a receiver must skip.
fn sctp(sport: u16, dport: u16) -> Vec<u8> {
    let mut out = [sport.to_be_bytes(), dport.to_be_bytes()].concat();
    out.extend([0; 8]);
    out.extend([1, 0, 0, 40, 0, 0, 0, 7, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 7]);
    out.extend([0x80, 1, 0, 20]);
    out
}

fn icmp((kind, code): (u8, u8), number: u16) -> Vec<u8> {
    let mut out = vec![kind, code, 0, 0];
    out.extend(number.to_be_bytes());
    out.extend([0, 1]);
    out
}

/// Fills in the checksum.
fn finish(body: &mut [u8], proto: Proto, src: IpAddr, dst: IpAddr) {
    let at = match proto {
        Proto::TCP => 16,
        Proto::UDP => 6,
        Proto::ICMP | Proto::ICMPV6 => 2,
        Proto::SCTP => {
            let sum = crc32c(body).to_le_bytes();
            body[8..12].copy_from_slice(&sum);
            return;
        }
        _ => return,
    };
    let mut sum = add(0, body);
    if proto != Proto::ICMP {
        for address in [src, dst] {
            sum = match address {
                IpAddr::V4(a) => add(sum, &a.octets()),
                IpAddr::V6(a) => add(sum, &a.octets()),
            };
        }
        // A body is short, so its length is in the last two bytes.
        sum += u64::from(proto.0) + body.len() as u64;
    }
    body[at..at + 2].copy_from_slice(&fold(sum).to_be_bytes());
}

fn add(sum: u64, bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u64::from(*b));
    sum + bytes.chunks(2).map(word).sum::<u64>()
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // At most 16 bits are left.
    !u16::try_from(sum).unwrap_or_default()
}

fn header(body: &[u8], proto: Proto, src: IpAddr, dst: IpAddr, number: u16) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            // At most 512.
            let length = u16::try_from(20 + body.len()).unwrap_or_default();
            let mut out = vec![0x45, 0];
            out.extend(length.to_be_bytes());
            out.extend(number.to_be_bytes());
            out.extend([0, 0, 64, proto.0, 0, 0]);
            out.extend(src.octets());
            out.extend(dst.octets());
            let sum = fold(add(0, &out));
            out[10..12].copy_from_slice(&sum.to_be_bytes());
            out
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut out = vec![0x60, 0];
            out.extend(number.to_be_bytes());
            out.extend(u16::try_from(body.len()).unwrap_or_default().to_be_bytes());
            // Neighbour discovery is heard with 255 only.
            out.extend([proto.0, 255]);
            out.extend(src.octets());
            out.extend(dst.octets());
            out
        }
        // No case has such a packet; the kernel refuses it.
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use caracal_policy_fuzz::Case;

    use super::*;

    fn checked(body: &[u8], src: IpAddr, dst: IpAddr, proto: Proto) -> u16 {
        let mut sum = add(0, body);
        for address in [src, dst] {
            sum = match address {
                IpAddr::V4(a) => add(sum, &a.octets()),
                IpAddr::V6(a) => add(sum, &a.octets()),
            };
        }
        fold(sum + u64::from(proto.0) + body.len() as u64)
    }

    #[test]
    fn packets_are_whole_and_known_again() {
        let case = Case::random(1, 300);
        for (n, trip) in case.trips.iter().enumerate() {
            let tag = Tag {
                case: 7,
                packet: u32::try_from(n).unwrap(),
                time: 9,
            };
            let bytes = encode(trip, tag);
            assert_eq!(Tag::read(&bytes), Some(tag));
            assert!(bytes.len() < LONGEST);
            let p = &trip.packet;
            let dst = trip.original.map_or(p.dst, |o| o.0);
            let body = match p.src {
                IpAddr::V4(_) => &bytes[20..],
                IpAddr::V6(_) => &bytes[40..],
            };
            if p.src.is_ipv4() {
                assert_eq!(fold(add(0, &bytes[..20])), 0);
                assert_eq!(usize::from(bytes[2]) << 8 | usize::from(bytes[3]), bytes.len());
            }
            // What is summed with its own sum is nothing.
            match p.proto {
                Proto::TCP | Proto::UDP | Proto::ICMPV6 => assert_eq!(checked(body, p.src, dst, p.proto), 0),
                Proto::ICMP => assert_eq!(fold(add(0, body)), 0),
                _ => {}
            }
        }
        assert_eq!(Tag::read(b"crcl"), None);
        assert_eq!(Tag::read(&[0; 40]), None);
    }
}
