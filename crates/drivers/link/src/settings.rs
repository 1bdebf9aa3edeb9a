//! Settings that are files below `/proc/sys/net`, too. The way there is long on a node with many network namespaces, and each
//! file is opened for itself; here the settings of a link go along with its other changes.

use std::time::Duration;

use caracal_net::Family;
use caracal_netlink::{AttrWriter, Request as Raw};
use netlink_packet_core::{DefaultNla, NLM_F_ACK};
use netlink_packet_route::link::LinkAttribute;

use crate::{LinkError, Rtnl, rtnl::failed};

/// `RTM_SETNEIGHTBL` and `RTM_GETNETCONF` (`linux/rtnetlink.h`).
const SET_NEIGHBOUR_TABLE: u16 = 67;
const NEW_NETCONF: u16 = 80;
const GET_NETCONF: u16 = 82;

const AF_SPEC: u16 = 26;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// A setting of IPv4 at a link, `net.ipv4.conf.LINK.…`, by its number in `linux/ip.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum InetSetting {
    /// `forwarding`
    Forwarding = 1,
    /// `proxy_arp`
    ProxyArp = 3,
    /// `route_localnet`
    RouteLocalnet = 26,
}

/// The attribute of a link's message that changes its settings.
pub(crate) fn attribute(settings: &[(InetSetting, u32)]) -> LinkAttribute {
    const CONF: u16 = 1;
    let mut value = Vec::new();
    AttrWriter::new(&mut value).nest(AF_INET.into(), |w| {
        w.nest(CONF, |w| {
            for (setting, value) in settings {
                w.u32(*setting as u16, *value);
            }
        });
    });
    LinkAttribute::Other(DefaultNla::new(AF_SPEC, value))
}

impl Rtnl {
    /// How long a link waits before it answers ARP for another one: `net.ipv4.neigh.LINK.proxy_delay`.
    ///
    /// # Errors
    /// When the kernel refuses; also when there is no such link.
    pub fn set_proxy_delay(&mut self, link: u32, delay: Duration) -> Result<(), LinkError> {
        const NAME: u16 = 1;
        const PARAMETERS: u16 = 6;
        const INDEX: u16 = 1;
        const PROXY_DELAY: u16 = 13;
        let milliseconds = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let mut request = Raw::new(SET_NEIGHBOUR_TABLE, NLM_F_ACK, &[AF_INET]);
        request.attrs().str(NAME, "arp_cache").nest(PARAMETERS, |w| {
            w.u32(INDEX, link).bytes(PROXY_DELAY, &milliseconds.to_ne_bytes());
        });
        let object = || format!("of link number {link}");
        self.raw("set the proxy delay", object, &request)
    }

    /// Whether packets of a family are forwarded as far as the namespace as a whole is concerned: `net.ipv4.ip_forward`,
    /// `net.ipv6.conf.all.forwarding`. Nothing when the kernel does not say: it lacks the family.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn forwards(&mut self, family: Family) -> Result<Option<bool>, LinkError> {
        const INDEX: u16 = 1;
        const ALL: i32 = -1;
        const FORWARDING: u16 = 2;
        let number = match family {
            Family::V4 => AF_INET,
            Family::V6 => AF_INET6,
        };
        let mut request = Raw::new(GET_NETCONF, 0, &[number]);
        request.attrs().bytes(INDEX, &ALL.to_ne_bytes());
        let mut found = None;
        let asked = self.socket().request_each(&request, |message| {
            if message.kind == NEW_NETCONF {
                found = message.attrs(4).find(FORWARDING).and_then(|a| a.as_u32());
            }
        });
        match asked {
            Ok(()) => Ok(found.map(|value| value != 0)),
            Err(e) if matches!(e.errno(), Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT)) => Ok(None),
            Err(e) => Err(failed("ask for forwarding", || family.to_string(), e)),
        }
    }
}
