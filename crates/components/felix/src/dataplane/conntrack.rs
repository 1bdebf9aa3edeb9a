//! Makes the kernel forget connections of addresses that changed hands: what a pod was allowed must not be inherited by
//! the next one with its address.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use caracal_net::{Family, Proto};
use caracal_netlink::{Attrs, Error, Message, Protocol, Request, Socket};

/// `NFNL_SUBSYS_CTNETLINK` with `IPCTNL_MSG_CT_GET` and `IPCTNL_MSG_CT_DELETE`.
const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;

/// Attributes of a connection (`linux/netfilter/nfnetlink_conntrack.h`).
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const PROTO_SOURCE: u16 = 2;
const FILTER_ORIG: u16 = 1;
const FILTER_REPLY: u16 = 2;
/// In a filter's flags: the source address counts.
const BY_SOURCE: u32 = 1;

/// More addresses than this are cheaper to find in the list of all connections.
const FEW: usize = 4;

/// A connection by the two addresses that can be a workload's: who opened it, and who answers.
struct Connection {
    opener: IpAddr,
    answerer: IpAddr,
    /// What the kernel needs to delete this one and no later one.
    identity: Vec<u8>,
}

/// Deletes the connections from and to these addresses; how many there were.
///
/// # Errors
/// When the kernel cannot be asked.
pub(crate) fn forget(addresses: &BTreeSet<IpAddr>) -> Result<usize, Error> {
    if addresses.is_empty() {
        return Ok(0);
    }
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let mut count = 0;
    for family in Family::BOTH {
        let of_family = || addresses.iter().filter(move |a| Family::of(**a) == family);
        if of_family().next().is_none() {
            continue;
        }
        let hit = |c: &Connection| addresses.contains(&c.opener) || addresses.contains(&c.answerer);
        let found = if of_family().count() > FEW {
            list(&mut socket, family, None, hit)?
        } else {
            let mut found = Vec::new();
            for address in of_family() {
                for tuple in [TUPLE_ORIG, TUPLE_REPLY] {
                    found.extend(list(&mut socket, family, Some((tuple, *address)), hit)?);
                }
            }
            found
        };
        count += delete(&mut socket, family, &found)?;
    }
    Ok(count)
}

/// Deletes the connections that touch an address of which `stale` says so; how many there were.
///
/// # Errors
/// When the kernel cannot be asked.
pub(crate) fn forget_where(stale: impl Fn(IpAddr) -> bool) -> Result<usize, Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let mut count = 0;
    for family in Family::BOTH {
        let found = list(&mut socket, family, None, |c| {
            stale(c.opener) || stale(c.answerer)
        })?;
        count += delete(&mut socket, family, &found)?;
    }
    Ok(count)
}

/// A connection as policy saw its first packet: addresses and ports behind destination NAT, the source before any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct First {
    pub(crate) src: IpAddr,
    pub(crate) dst: IpAddr,
    pub(crate) proto: Proto,
    pub(crate) sport: u16,
    pub(crate) dport: u16,
    pub(crate) icmp: Option<(u8, u8)>,
}

/// Deletes the connections of which `ended` says so; how many there were.
///
/// # Errors
/// When the kernel cannot be asked.
pub(crate) fn cut(ended: impl Fn(&First) -> bool) -> Result<usize, Error> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    let mut count = 0;
    for family in Family::BOTH {
        let request = Request::new(GET, 0, &header(family));
        let found = socket.dump(&request, |m| {
            let first = first_of(&m, family).filter(&ended)?;
            let connection = read(&m, family)?;
            tracing::debug!(?first, "policy does not allow this connection any more");
            Some(connection)
        })?;
        count += delete(&mut socket, family, &found)?;
    }
    Ok(count)
}

fn first_of(message: &Message<'_>, family: Family) -> Option<First> {
    let attrs = message.attrs(4);
    let (orig, reply) = (
        attrs.find(TUPLE_ORIG)?.nested(),
        attrs.find(TUPLE_REPLY)?.nested(),
    );
    let proto = orig.find(TUPLE_PROTO)?.nested();
    let answer = reply.find(TUPLE_PROTO)?.nested();
    let port = |attrs: Attrs<'_>| attrs.find(PROTO_SOURCE).and_then(|a| a.as_be16()).unwrap_or(0);
    let byte = |kind| Some(*proto.find(kind)?.value.first()?);
    let icmp = match family {
        Family::V4 => byte(5).zip(byte(6)),
        Family::V6 => byte(8).zip(byte(9)),
    };
    Some(First {
        src: source(attrs, TUPLE_ORIG, family)?,
        dst: source(attrs, TUPLE_REPLY, family)?,
        proto: Proto(byte(1)?),
        sport: port(proto),
        dport: port(answer),
        icmp,
    })
}

/// `struct nfgenmsg`.
fn header(family: Family) -> [u8; 4] {
    let number = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    [
        u8::try_from(number).expect("address families are small numbers"),
        0,
        0,
        0,
    ]
}

/// Attribute numbers of source and destination inside a tuple's addresses.
fn source_kind(family: Family) -> u16 {
    match family {
        Family::V4 => 1,
        Family::V6 => 3,
    }
}

fn list(
    socket: &mut Socket,
    family: Family,
    source: Option<(u16, IpAddr)>,
    keep: impl Fn(&Connection) -> bool,
) -> Result<Vec<Connection>, Error> {
    let mut request = Request::new(GET, 0, &header(family));
    if let Some((tuple, address)) = source {
        // An old kernel knows no filter and lists everything, so each answer is compared again.
        request
            .attrs()
            .nest(tuple, |w| {
                w.nest(TUPLE_IP, |w| {
                    match address {
                        IpAddr::V4(a) => w.bytes(source_kind(family), &a.octets()),
                        IpAddr::V6(a) => w.bytes(source_kind(family), &a.octets()),
                    };
                });
            })
            .nest(FILTER, |w| {
                let flags = |kind| if kind == tuple { BY_SOURCE } else { 0 };
                w.u32(FILTER_ORIG, flags(TUPLE_ORIG));
                w.u32(FILTER_REPLY, flags(TUPLE_REPLY));
            });
    }
    socket.dump(&request, |m| read(&m, family).filter(&keep))
}

/// The source address of a tuple.
fn source(attrs: Attrs<'_>, tuple: u16, family: Family) -> Option<IpAddr> {
    let ip = attrs.find(tuple)?.nested().find(TUPLE_IP)?.nested();
    let value = ip.find(source_kind(family))?.value;
    match family {
        Family::V4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into()),
        Family::V6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()),
    }
}

fn read(message: &Message<'_>, family: Family) -> Option<Connection> {
    let attrs = message.attrs(4);
    Some(Connection {
        opener: source(attrs, TUPLE_ORIG, family)?,
        answerer: source(attrs, TUPLE_REPLY, family)?,
        identity: identity(attrs),
    })
}

fn identity(attrs: Attrs<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = caracal_netlink::AttrWriter::new(&mut bytes);
    if let Some(orig) = attrs.find(TUPLE_ORIG) {
        writer.nest(TUPLE_ORIG, |w| {
            w.raw(orig.value);
        });
    }
    for kind in [ZONE, ID] {
        if let Some(a) = attrs.find(kind) {
            writer.bytes(kind, a.value);
        }
    }
    bytes
}

fn delete(socket: &mut Socket, family: Family, found: &[Connection]) -> Result<usize, Error> {
    let mut count = 0;
    for connection in found {
        let mut request = Request::new(DELETE, 0, &header(family));
        request.attrs().raw(&connection.identity);
        match socket.request(&request) {
            Ok(()) => count += 1,
            // It ended by itself meanwhile.
            Err(e) if e.errno() == Some(libc::ENOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(count)
}
