//! Single routes, for programs that run once and keep no picture of the kernel, such as the CNI plugin.

use caracal_link::{LinkError, Rtnl};
use caracal_net::Cidr;
use netlink_packet_route::RouteNetlinkMessage;

use crate::codec::{self, Installed};
use crate::model::{Route, RouteKey};

/// A route that the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundRoute {
    /// What makes it one of a kind.
    pub key: RouteKey,
    /// The number of its link, if it has one.
    pub link: Option<u32>,
    /// Its next hop, if it has one.
    pub gateway: Option<std::net::IpAddr>,
}

/// Writes one route in the namespace of `rtnl`, in place of any other with its key. `link` is the number of the link
/// that the route's target names.
///
/// # Errors
/// [`LinkError`] naming the route.
pub fn put_route(rtnl: &mut Rtnl, key: &RouteKey, route: &Route, link: Option<u32>) -> Result<(), LinkError> {
    rtnl.request(
        "write route",
        || format!("{key} {route}"),
        codec::write(key, &Installed::from_route(route, link)),
    )
}

/// The routes to one destination, in any table.
///
/// # Errors
/// [`LinkError`] when the kernel cannot be asked.
pub fn routes_to(rtnl: &mut Rtnl, dst: Cidr) -> Result<Vec<FoundRoute>, LinkError> {
    rtnl.dump("list routes", codec::list(dst.family()), |message| {
        let RouteNetlinkMessage::NewRoute(message) = message else {
            return None;
        };
        let (key, found) = codec::read(&message)?;
        (key.dst == dst).then_some(FoundRoute {
            key,
            link: found.link,
            gateway: found.gateway,
        })
    })
}
