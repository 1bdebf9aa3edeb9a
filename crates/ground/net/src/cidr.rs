use std::{
    cmp::Ordering,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{Family, IpRange};

/// A text that is no CIDR: says what is wrong and what is expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a CIDR: {why}")]
pub struct BadCidr {
    /// The text that was refused.
    pub text: String,
    /// What is wrong with it.
    pub why: String,
}

fn to_bits(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

fn from_bits(family: Family, bits: u128) -> IpAddr {
    match family {
        // The callers keep IPv4 bits within 32 bits; the cast drops nothing.
        Family::V4 => IpAddr::V4(Ipv4Addr::from(bits as u32)),
        Family::V6 => IpAddr::V6(Ipv6Addr::from(bits)),
    }
}

fn mask(family: Family, len: u8) -> u128 {
    let bits = u32::from(family.bits());
    let all = if bits == 128 {
        u128::MAX
    } else {
        (1u128 << bits) - 1
    };
    if len == 0 {
        0
    } else {
        all & (all << (bits - u32::from(len)))
    }
}

fn parse(text: &str) -> Result<(IpAddr, u8), BadCidr> {
    let bad = |why: &str| BadCidr {
        text: text.chars().take(80).collect(),
        why: why.to_owned(),
    };
    let (addr, len) = match text.split_once('/') {
        Some((a, l)) => (a, Some(l)),
        None => (text, None),
    };
    let addr: IpAddr = addr.parse().map_err(|_| {
        bad("an IPv4 or IPv6 address is expected, optionally followed by / and a prefix length")
    })?;
    let max = Family::of(addr).bits();
    let len = match len {
        None => max,
        Some(l) if !l.is_empty() && l.bytes().all(|b| b.is_ascii_digit()) => match l.parse::<u8>() {
            Ok(n) if n <= max => n,
            _ => return Err(bad(&format!("the prefix length must be 0 to {max}"))),
        },
        Some(_) => return Err(bad("the prefix length must be a number")),
    };
    Ok((addr, len))
}

/// An IP prefix, always masked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    addr: IpAddr,
    len: u8,
}

impl Cidr {
    /// The prefix of length `len` that holds `addr`; host bits are cleared and a length beyond the family's is cut.
    #[must_use]
    pub fn new(addr: IpAddr, len: u8) -> Self {
        let family = Family::of(addr);
        let len = len.min(family.bits());
        Self {
            addr: from_bits(family, to_bits(addr) & mask(family, len)),
            len,
        }
    }

    /// The prefix that holds one address only.
    #[must_use]
    pub fn host(addr: IpAddr) -> Self {
        Self {
            addr,
            len: Family::of(addr).bits(),
        }
    }

    /// The first address.
    #[must_use]
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// The prefix length in bits.
    #[must_use]
    #[allow(
        clippy::len_without_is_empty,
        reason = "a prefix length, not a count of things"
    )]
    pub fn len(&self) -> u8 {
        self.len
    }

    /// The family.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.addr)
    }

    /// Whether the prefix is a single address.
    #[must_use]
    pub fn is_host(&self) -> bool {
        self.len == self.family().bits()
    }

    /// Whether the prefix is the whole family (`0.0.0.0/0`, `::/0`).
    #[must_use]
    pub fn is_catch_all(&self) -> bool {
        self.len == 0
    }

    /// The last address.
    #[must_use]
    pub fn last(&self) -> IpAddr {
        let family = self.family();
        let all = mask(family, family.bits());
        from_bits(family, to_bits(self.addr) | (all & !mask(family, self.len)))
    }

    /// From the first address to the last.
    #[must_use]
    pub fn range(&self) -> IpRange {
        IpRange {
            first: self.addr,
            last: self.last(),
        }
    }

    /// Whether `addr` is inside.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        Family::of(addr) == self.family()
            && to_bits(addr) & mask(self.family(), self.len) == to_bits(self.addr)
    }

    /// Whether all of `other` is inside.
    #[must_use]
    pub fn covers(&self, other: &Cidr) -> bool {
        self.len <= other.len && self.contains(other.addr)
    }

    /// Whether the two share an address.
    #[must_use]
    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// How many addresses the prefix holds; `None` for `::/0`, whose count does not fit.
    #[must_use]
    pub fn size(&self) -> Option<u128> {
        1u128.checked_shl(u32::from(self.family().bits() - self.len))
    }

    /// The address `n` places after the first, if it is inside.
    #[must_use]
    pub fn nth(&self, n: u128) -> Option<IpAddr> {
        let inside = self.size().is_none_or(|s| n < s);
        inside.then(|| from_bits(self.family(), to_bits(self.addr) + n))
    }

    /// How far `addr` is behind the first address, if it is inside.
    #[must_use]
    pub fn offset_of(&self, addr: IpAddr) -> Option<u128> {
        self.contains(addr).then(|| to_bits(addr) - to_bits(self.addr))
    }

    /// The prefixes of length `len` inside this one, in order. Empty when `len` is shorter than the prefix's own.
    pub fn subnets(&self, len: u8) -> impl Iterator<Item = Cidr> + use<> {
        let (family, first, own) = (self.family(), to_bits(self.addr), self.len);
        let fits = len >= own && len <= family.bits();
        let step = if fits {
            1u128.checked_shl(u32::from(family.bits() - len)).unwrap_or(0)
        } else {
            0
        };
        let count = if fits {
            1u128.checked_shl(u32::from(len - own)).unwrap_or(u128::MAX)
        } else {
            0
        };
        (0..count).map(move |i| Cidr {
            addr: from_bits(family, first + i * step),
            len,
        })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl PartialOrd for Cidr {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Cidr {
    fn cmp(&self, other: &Self) -> Ordering {
        self.addr.cmp(&other.addr).then(self.len.cmp(&other.len))
    }
}

impl FromStr for Cidr {
    type Err = BadCidr;
    /// An address with or without a prefix length; host bits are cleared.
    fn from_str(s: &str) -> Result<Self, BadCidr> {
        parse(s).map(|(a, l)| Cidr::new(a, l))
    }
}

impl TryFrom<String> for Cidr {
    type Error = BadCidr;
    fn try_from(s: String) -> Result<Self, BadCidr> {
        s.parse()
    }
}

impl From<Cidr> for String {
    fn from(c: Cidr) -> String {
        c.to_string()
    }
}

/// An address of an interface with its prefix length: host bits are kept (`10.0.0.5/24`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IfAddr {
    /// The address.
    pub addr: IpAddr,
    /// The prefix length in bits.
    pub len: u8,
}

impl IfAddr {
    /// The network the address is in.
    #[must_use]
    pub fn network(&self) -> Cidr {
        Cidr::new(self.addr, self.len)
    }
}

impl fmt::Display for IfAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl fmt::Debug for IfAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for IfAddr {
    type Err = BadCidr;
    fn from_str(s: &str) -> Result<Self, BadCidr> {
        parse(s).map(|(addr, len)| IfAddr { addr, len })
    }
}

impl TryFrom<String> for IfAddr {
    type Error = BadCidr;
    fn try_from(s: String) -> Result<Self, BadCidr> {
        s.parse()
    }
}

impl From<IfAddr> for String {
    fn from(c: IfAddr) -> String {
        c.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn masks_and_reads() {
        assert_eq!("10.1.2.3/8".parse::<Cidr>().unwrap().to_string(), "10.0.0.0/8");
        assert_eq!("fd00::1".parse::<Cidr>().unwrap().to_string(), "fd00::1/128");
        assert_eq!("10.1.2.3/8".parse::<IfAddr>().unwrap().to_string(), "10.1.2.3/8");
        for bad in [
            "",
            "10.0.0.0/33",
            "10.0.0/8",
            "::/129",
            "1.2.3.4/",
            "1.2.3.4/+3",
            "1.2.3.4/ 3",
        ] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
        assert_eq!("::/0".parse::<Cidr>().unwrap().size(), None);
        assert_eq!(
            "::/0".parse::<Cidr>().unwrap().last(),
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
                .parse::<IpAddr>()
                .unwrap()
        );
    }

    #[test]
    fn subnets_of_a_pool() {
        let pool: Cidr = "10.0.0.0/24".parse().unwrap();
        let subs: Vec<_> = pool.subnets(26).map(|c| c.to_string()).collect();
        assert_eq!(
            subs,
            ["10.0.0.0/26", "10.0.0.64/26", "10.0.0.128/26", "10.0.0.192/26"]
        );
        assert_eq!(pool.subnets(23).count(), 0);
        assert_eq!("::/0".parse::<Cidr>().unwrap().subnets(0).count(), 1);
    }

    proptest! {
        #[test]
        fn last_and_offsets_agree(bits in any::<u32>(), len in 0u8..=32, n in 0u32..1000) {
            let c = Cidr::new(IpAddr::V4(Ipv4Addr::from(bits)), len);
            prop_assert!(c.contains(c.addr()) && c.contains(c.last()));
            prop_assert_eq!(c.to_string().parse::<Cidr>().unwrap(), c);
            if let Some(a) = c.nth(u128::from(n)) {
                prop_assert_eq!(c.offset_of(a), Some(u128::from(n)));
            }
        }
    }
}
