use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use caracal_net::{Cidr, Family, IpRange, PortRange, Proto};

use super::{
    name::{CounterName, IfName},
    rule::Verdict,
};

/// What one field of a set's key holds. Addresses and ICMP types are those of the table's family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// An address of the table's family.
    Addr,
    /// A transport protocol number.
    Proto,
    /// A port.
    Port,
    /// An interface name.
    IfName,
    /// A packet mark.
    Mark,
    /// A type of ICMP or ICMPv6.
    IcmpType,
    /// A code of ICMP or ICMPv6.
    IcmpCode,
}

/// What is read from a packet, to be compared with a value or looked up in a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// Name of the interface the packet came in by.
    Iif,
    /// Name of the interface the packet leaves by.
    Oif,
    /// Source address.
    Saddr,
    /// Destination address.
    Daddr,
    /// Destination address before translation, as the connection was opened.
    OrigDaddr,
    /// Transport protocol, behind extension headers.
    Proto,
    /// Source port. Only meaningful once the protocol is known to have ports.
    Sport,
    /// Destination port. Only meaningful once the protocol is known to have ports.
    Dport,
    /// Destination port before translation.
    OrigDport,
    /// Packet mark.
    Mark,
    /// Connection mark.
    CtMark,
    /// Type of an ICMP message of the table's family.
    IcmpType,
    /// Code of an ICMP message of the table's family.
    IcmpCode,
}

impl Field {
    /// The type of key that this field is looked up in.
    #[must_use]
    pub fn key_type(self) -> KeyType {
        match self {
            Self::Iif | Self::Oif => KeyType::IfName,
            Self::Saddr | Self::Daddr | Self::OrigDaddr => KeyType::Addr,
            Self::Proto => KeyType::Proto,
            Self::Sport | Self::Dport | Self::OrigDport => KeyType::Port,
            Self::Mark | Self::CtMark => KeyType::Mark,
            Self::IcmpType => KeyType::IcmpType,
            Self::IcmpCode => KeyType::IcmpCode,
        }
    }
}

/// A run of values of one field, both ends inside; a single value has equal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Span {
    /// IPv4 addresses.
    V4(Ipv4Addr, Ipv4Addr),
    /// IPv6 addresses.
    V6(Ipv6Addr, Ipv6Addr),
    /// A protocol.
    Proto(Proto),
    /// Ports.
    Port(u16, u16),
    /// An interface, or a prefix of names.
    If(IfName),
    /// A mark.
    Mark(u32),
    /// A type of ICMP.
    IcmpType(u8),
    /// A code of ICMP.
    IcmpCode(u8),
}

impl Span {
    /// One address.
    #[must_use]
    pub fn addr(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(a) => Self::V4(a, a),
            IpAddr::V6(a) => Self::V6(a, a),
        }
    }

    /// The type of key this is a value of.
    #[must_use]
    pub fn key_type(&self) -> KeyType {
        match self {
            Self::V4(..) | Self::V6(..) => KeyType::Addr,
            Self::Proto(_) => KeyType::Proto,
            Self::Port(..) => KeyType::Port,
            Self::If(_) => KeyType::IfName,
            Self::Mark(_) => KeyType::Mark,
            Self::IcmpType(_) => KeyType::IcmpType,
            Self::IcmpCode(_) => KeyType::IcmpCode,
        }
    }

    /// Whether it is one value only.
    #[must_use]
    pub fn is_single(&self) -> bool {
        match self {
            Self::V4(a, b) => a == b,
            Self::V6(a, b) => a == b,
            Self::Port(a, b) => a == b,
            Self::If(name) => !name.is_prefix(),
            Self::Proto(_) | Self::Mark(_) | Self::IcmpType(_) | Self::IcmpCode(_) => true,
        }
    }

    /// The addresses as a range, when it holds addresses.
    #[must_use]
    pub fn ip_range(&self) -> Option<IpRange> {
        match *self {
            Self::V4(a, b) => Some(IpRange {
                first: a.into(),
                last: b.into(),
            }),
            Self::V6(a, b) => Some(IpRange {
                first: a.into(),
                last: b.into(),
            }),
            _ => None,
        }
    }

    /// The addresses as one prefix, when they are exactly one.
    #[must_use]
    pub fn prefix(&self) -> Option<Cidr> {
        let range = self.ip_range()?;
        let differ = match *self {
            Self::V4(a, b) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            Self::V6(a, b) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            _ => return None,
        };
        let cidr = Cidr::new(range.first, u8::try_from(differ).ok()?);
        (cidr.range() == range).then_some(cidr)
    }

    /// The family, when it holds addresses.
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        self.ip_range().map(|r| Family::of(r.first))
    }
}

impl From<Cidr> for Span {
    fn from(cidr: Cidr) -> Self {
        match (cidr.addr(), cidr.last()) {
            (IpAddr::V6(a), IpAddr::V6(b)) => Self::V6(a, b),
            (IpAddr::V4(a), IpAddr::V4(b)) => Self::V4(a, b),
            // A prefix's last address is of the family of its first.
            (a, _) => Self::addr(a),
        }
    }
}

impl From<PortRange> for Span {
    fn from(ports: PortRange) -> Self {
        Self::Port(ports.first, ports.last)
    }
}

impl From<Proto> for Span {
    fn from(proto: Proto) -> Self {
        Self::Proto(proto)
    }
}

impl From<IfName> for Span {
    fn from(name: IfName) -> Self {
        Self::If(name)
    }
}

/// The key of an element.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The only field.
    One(Span),
    /// Several fields, in the order of the set's key.
    Concat(Box<[Span]>),
    /// What no other element matches (`*`); needs a map, where it gives the default.
    Any,
}

impl Key {
    /// The key of one field or several.
    #[must_use]
    pub fn of(spans: &[Span]) -> Self {
        match spans {
            [one] => Self::One(*one),
            many => Self::Concat(many.into()),
        }
    }

    /// The fields; none for [`Key::Any`].
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        match self {
            Self::One(span) => std::slice::from_ref(span),
            Self::Concat(spans) => spans,
            Self::Any => &[],
        }
    }
}

impl<T: Into<Span>> From<T> for Key {
    fn from(span: T) -> Self {
        Self::One(span.into())
    }
}

/// What a map gives for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Data<'a> {
    /// A verdict.
    Verdict(&'a Verdict),
    /// A value, of one field or several.
    Value(&'a Key),
    /// A counter.
    Counter(&'a CounterName),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Gives {
    Nothing,
    Verdict(Verdict),
    Value(Key),
    Counter(CounterName),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Body {
    gives: Gives,
    comment: Option<Arc<str>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Held {
    #[default]
    Nothing,
    // in place: there are as many as rules
    Counter(CounterName),
    Body(Box<Body>),
}

/// What belongs to a key: nothing in a plain set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Element(Held);

impl Element {
    /// A member of a plain set.
    #[must_use]
    pub fn plain() -> Self {
        Self(Held::Nothing)
    }

    /// An entry of a verdict map.
    #[must_use]
    pub fn verdict(verdict: Verdict) -> Self {
        Self::with(Gives::Verdict(verdict), None)
    }

    /// An entry of a map of values.
    #[must_use]
    pub fn value(value: impl Into<Key>) -> Self {
        Self::with(Gives::Value(value.into()), None)
    }

    /// An entry of a map of counters.
    #[must_use]
    pub fn counter(counter: CounterName) -> Self {
        Self(Held::Counter(counter))
    }

    fn with(gives: Gives, comment: Option<Arc<str>>) -> Self {
        Self(Held::Body(Box::new(Body { gives, comment })))
    }

    /// The same with a comment, which says what the element is for (at most 127 bytes are kept by the kernel driver).
    #[must_use]
    pub fn commented(self, comment: impl Into<Arc<str>>) -> Self {
        let gives = match self.0 {
            Held::Nothing => Gives::Nothing,
            Held::Counter(counter) => Gives::Counter(counter),
            Held::Body(body) => body.gives,
        };
        Self::with(gives, Some(comment.into()))
    }

    /// What the map gives.
    #[must_use]
    pub fn data(&self) -> Option<Data<'_>> {
        match &self.0 {
            Held::Nothing => None,
            Held::Counter(counter) => Some(Data::Counter(counter)),
            Held::Body(body) => match &body.gives {
                Gives::Nothing => None,
                Gives::Verdict(v) => Some(Data::Verdict(v)),
                Gives::Value(v) => Some(Data::Value(v)),
                Gives::Counter(c) => Some(Data::Counter(c)),
            },
        }
    }

    /// What it is for.
    #[must_use]
    pub fn comment(&self) -> Option<&str> {
        match &self.0 {
            Held::Nothing | Held::Counter(_) => None,
            Held::Body(body) => body.comment.as_deref(),
        }
    }
}

/// The elements of a set or map.
pub type Elements = BTreeMap<Key, Element>;

impl fmt::Display for Span {
    /// As nftables writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn run<T: PartialEq + fmt::Display>(f: &mut fmt::Formatter<'_>, a: T, b: T) -> fmt::Result {
            if a == b {
                write!(f, "{a}")
            } else {
                write!(f, "{a}-{b}")
            }
        }
        if let Some(cidr) = self.prefix().filter(|c| !c.is_host()) {
            return write!(f, "{cidr}");
        }
        match *self {
            Self::V4(a, b) => run(f, a, b),
            Self::V6(a, b) => run(f, a, b),
            Self::Port(a, b) => run(f, a, b),
            Self::Proto(p) => write!(f, "{}", proto_name(p)),
            Self::If(name) => write!(f, "\"{name}\""),
            Self::Mark(m) => write!(f, "0x{m:08x}"),
            Self::IcmpType(n) | Self::IcmpCode(n) => write!(f, "{n}"),
        }
    }
}

fn proto_name(p: Proto) -> String {
    match p.0 {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        58 => "ipv6-icmp".into(),
        132 => "sctp".into(),
        136 => "udplite".into(),
        n => n.to_string(),
    }
}

impl fmt::Display for Key {
    /// As nftables writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::Any {
            return f.write_str("*");
        }
        for (i, span) in self.spans().iter().enumerate() {
            write!(f, "{}{span}", if i > 0 { " . " } else { "" })?;
        }
        Ok(())
    }
}
