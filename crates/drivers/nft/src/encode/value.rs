use std::net::IpAddr;

use caracal_net::Family;
use caracal_rules::ir::{KeyType, Span};

use super::EncodeError;

/// Bytes of an interface name in the kernel.
const IF_NAME: usize = 16;

/// Bytes of a value of this type.
pub(crate) fn width(kind: KeyType, family: Family) -> usize {
    match kind {
        KeyType::Addr => usize::from(family.bits() / 8),
        KeyType::Proto | KeyType::IcmpType | KeyType::IcmpCode => 1,
        KeyType::Port => 2,
        KeyType::IfName => IF_NAME,
        KeyType::Mark => 4,
    }
}

/// Bytes it takes within a concatenation, where every field fills whole registers.
pub(crate) fn padded(kind: KeyType, family: Family) -> usize {
    caracal_netlink::align4(width(kind, family))
}

/// The number by which `nft` knows the type.
pub(crate) fn type_number(kind: KeyType, family: Family) -> u32 {
    match (kind, family) {
        (KeyType::Addr, Family::V4) => 7,
        (KeyType::Addr, Family::V6) => 8,
        (KeyType::Proto, _) => 12,
        (KeyType::Port, _) => 13,
        (KeyType::IcmpType, Family::V4) => 14,
        (KeyType::Mark, _) => 19,
        (KeyType::IcmpType, Family::V6) => 29,
        (KeyType::IcmpCode, Family::V4) => 32,
        (KeyType::IcmpCode, Family::V6) => 33,
        (KeyType::IfName, _) => 41,
    }
}

/// Whether `nft` shall read values of the type in the host's byte order.
pub(crate) fn host_order(kind: KeyType) -> bool {
    matches!(kind, KeyType::Mark | KeyType::IfName)
}

pub(crate) fn addr_bytes(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// A span's first and last value, as bytes in the order in which the kernel compares them.
pub(crate) fn ends(span: &Span, family: Family) -> Result<(Vec<u8>, Vec<u8>), EncodeError> {
    if span.family().is_some_and(|f| f != family) {
        return Err(EncodeError(format!("{span} has no place in a table of {family}")));
    }
    let one = |bytes: Vec<u8>| Ok((bytes.clone(), bytes));
    match span {
        Span::V4(a, b) => Ok((a.octets().to_vec(), b.octets().to_vec())),
        Span::V6(a, b) => Ok((a.octets().to_vec(), b.octets().to_vec())),
        Span::Port(a, b) => Ok((a.to_be_bytes().to_vec(), b.to_be_bytes().to_vec())),
        Span::Proto(p) => one(vec![p.0]),
        Span::IcmpType(n) | Span::IcmpCode(n) => one(vec![*n]),
        Span::Mark(m) => one(m.to_ne_bytes().to_vec()),
        Span::If(name) => {
            let mut first = name.text().as_bytes().to_vec();
            let mut last = first.clone();
            first.resize(IF_NAME, 0);
            last.resize(IF_NAME, if name.is_prefix() { 0xff } else { 0 });
            Ok((first, last))
        }
    }
}

/// The next value when the bytes are read as one big number; `None` behind the highest.
pub(crate) fn successor(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut next = bytes.to_vec();
    for byte in next.iter_mut().rev() {
        let (sum, carry) = byte.overflowing_add(1);
        *byte = sum;
        if !carry {
            return Some(next);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_behind() {
        assert_eq!(successor(&[0, 255]), Some(vec![1, 0]));
        assert_eq!(successor(&[255, 255]), None);
    }

    #[test]
    fn a_family_has_no_place_for_the_other_ones_addresses() {
        let span = Span::addr("fd00::1".parse().expect("an address"));
        let error = ends(&span, Family::V4).expect_err("an IPv6 address");
        assert_eq!(error.to_string(), "fd00::1 has no place in a table of IPv4");
    }
}
