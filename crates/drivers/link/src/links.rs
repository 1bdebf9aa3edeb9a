use std::os::fd::AsRawFd;

use caracal_net::MacAddr;
use caracal_sys::NetNs;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use crate::rtnl::Request;
use crate::settings::{self, InetSetting};
use crate::{Link, LinkError, Rtnl, decode};

/// A link by number or by name.
#[derive(Clone, Copy, Debug)]
pub enum LinkRef<'a> {
    /// By its number.
    Index(u32),
    /// By its name.
    Name(&'a str),
}

impl From<u32> for LinkRef<'_> {
    fn from(index: u32) -> Self {
        Self::Index(index)
    }
}

impl<'a> From<&'a str> for LinkRef<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(name)
    }
}

impl<'a> From<&'a Link> for LinkRef<'a> {
    fn from(link: &'a Link) -> Self {
        Self::Index(link.index)
    }
}

impl LinkRef<'_> {
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Index(index) => format!("link number {index}"),
            Self::Name(name) => format!("link {name}"),
        }
    }

    /// A message that means this link.
    fn message(&self) -> Result<LinkMessage, LinkError> {
        let mut message = LinkMessage::default();
        match self {
            Self::Index(index) => message.header.index = *index,
            Self::Name(name) => {
                check_name(name)?;
                message.attributes.push(LinkAttribute::IfName((*name).to_owned()));
            }
        }
        Ok(message)
    }
}

/// Whether the kernel would take a text as a link's name.
pub fn check_name(name: &str) -> Result<(), LinkError> {
    let bad = |c: char| c.is_whitespace() || matches!(c, '/' | ':' | '\0');
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(bad) {
        return Err(LinkError::Name(name.chars().take(64).collect()));
    }
    Ok(())
}

/// A veth pair to be made. Neither end is up afterwards.
#[derive(Clone, Debug, Default)]
pub struct VethSpec<'a> {
    /// Name of the end in this namespace.
    pub name: &'a str,
    /// Its Ethernet address; the kernel picks one if none is given.
    pub mac: Option<MacAddr>,
    /// Name of the other end.
    pub peer_name: &'a str,
    /// The other end's Ethernet address.
    pub peer_mac: Option<MacAddr>,
    /// The namespace the other end is born in; this one if none is given.
    pub peer_netns: Option<&'a NetNs>,
    /// MTU of both ends.
    pub mtu: Option<u32>,
    /// Transmit and receive queues of both ends.
    pub queues: Option<u32>,
}

/// What to change about a link; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct LinkChange<'a> {
    /// Switch it on or off.
    pub up: Option<bool>,
    /// Its MTU.
    pub mtu: Option<u32>,
    /// Its Ethernet address.
    pub mac: Option<MacAddr>,
    /// Its alias; empty removes it.
    pub alias: Option<&'a str>,
    /// Its name; needs the link to be down on kernels before 6.3.
    pub name: Option<&'a str>,
    /// The namespace to move it to. It goes down on the way.
    pub netns: Option<&'a NetNs>,
    /// The bridge it becomes a port of; 0 for none.
    pub controller: Option<u32>,
    /// Settings of IPv4.
    pub inet: &'a [(InetSetting, u32)],
}

impl LinkChange<'_> {
    /// Switches a link on.
    pub fn up() -> Self {
        Self {
            up: Some(true),
            ..Self::default()
        }
    }

    /// Switches a link off.
    pub fn down() -> Self {
        Self {
            up: Some(false),
            ..Self::default()
        }
    }

    fn apply(&self, message: &mut LinkMessage) -> Result<(), LinkError> {
        if let Some(up) = self.up {
            message.header.change_mask = LinkFlags::Up;
            message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        }
        if let Some(name) = self.name {
            check_name(name)?;
        }
        let attributes = [
            self.mtu.map(LinkAttribute::Mtu),
            self.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())),
            self.alias.map(|alias| LinkAttribute::IfAlias(alias.to_owned())),
            self.name.map(|name| LinkAttribute::IfName(name.to_owned())),
            self.netns.map(|netns| LinkAttribute::NetNsFd(netns.as_raw_fd())),
            self.controller.map(LinkAttribute::Controller),
            (!self.inet.is_empty()).then(|| settings::attribute(self.inet)),
        ];
        message.attributes.extend(attributes.into_iter().flatten());
        Ok(())
    }
}

impl Rtnl {
    /// All links of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, LinkError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.dump("list links", request, |message| match message {
            RouteNetlinkMessage::NewLink(message) => decode::link(&message),
            _ => None,
        })
    }

    /// One link; `None` if it does not exist.
    pub fn link<'a>(&mut self, link: impl Into<LinkRef<'a>>) -> Result<Option<Link>, LinkError> {
        let link = link.into();
        let request = RouteNetlinkMessage::GetLink(link.message()?);
        match self.query("look up", || link.describe(), request) {
            Ok(messages) => Ok(messages.iter().find_map(|message| match message {
                RouteNetlinkMessage::NewLink(message) => decode::link(message),
                _ => None,
            })),
            Err(e) if e.errno() == Some(libc::ENODEV) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// One link that has to exist.
    pub fn require_link<'a>(&mut self, link: impl Into<LinkRef<'a>>) -> Result<Link, LinkError> {
        let link = link.into();
        self.link(link)?.ok_or_else(|| missing(link))
    }

    /// Makes a veth pair, both ends down. Fails if one of the names is taken.
    pub fn create_veth(&mut self, spec: &VethSpec<'_>) -> Result<(), LinkError> {
        check_name(spec.peer_name)?;
        let mut peer = LinkRef::Name(spec.peer_name).message()?;
        let end = LinkChange {
            mtu: spec.mtu,
            ..LinkChange::default()
        };
        LinkChange {
            mac: spec.peer_mac,
            netns: spec.peer_netns,
            ..end.clone()
        }
        .apply(&mut peer)?;
        let mut message = LinkRef::Name(spec.name).message()?;
        LinkChange { mac: spec.mac, ..end }.apply(&mut message)?;
        if let Some(queues) = spec.queues {
            for end in [&mut peer, &mut message] {
                end.attributes.push(LinkAttribute::NumTxQueues(queues));
                end.attributes.push(LinkAttribute::NumRxQueues(queues));
            }
        }
        let data = InfoData::Veth(InfoVeth::Peer(peer));
        self.create("create veth pair", spec.name, message, InfoKind::Veth, Some(data))
    }

    /// Makes a bridge, down.
    pub fn create_bridge(&mut self, name: &str) -> Result<(), LinkError> {
        let message = LinkRef::Name(name).message()?;
        self.create("create bridge", name, message, InfoKind::Bridge, None)
    }

    pub(crate) fn create(
        &mut self,
        action: &'static str,
        name: &str,
        mut message: LinkMessage,
        kind: InfoKind,
        data: Option<InfoData>,
    ) -> Result<(), LinkError> {
        let mut infos = vec![LinkInfo::Kind(kind)];
        infos.extend(data.map(LinkInfo::Data));
        message.attributes.push(LinkAttribute::LinkInfo(infos));
        let message = RouteNetlinkMessage::NewLink(message);
        let flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK;
        self.request(action, || name.to_owned(), Request { message, flags })
    }

    /// A new message that means the link `name`, for creation.
    pub(crate) fn link_message(name: &str, change: &LinkChange<'_>) -> Result<LinkMessage, LinkError> {
        let mut message = LinkRef::Name(name).message()?;
        change.apply(&mut message)?;
        Ok(message)
    }

    /// Changes a link, all in one request.
    pub fn set_link<'a>(
        &mut self,
        link: impl Into<LinkRef<'a>>,
        change: &LinkChange<'_>,
    ) -> Result<(), LinkError> {
        let link = link.into();
        let target = match (link, change.name) {
            // With two names in one message the kernel could not tell old from new.
            (LinkRef::Name(name), Some(_)) => LinkRef::Index(self.require_link(name)?.index),
            _ => link,
        };
        let mut message = target.message()?;
        change.apply(&mut message)?;
        let message = RouteNetlinkMessage::SetLink(message);
        match self.request(
            "change",
            || link.describe(),
            Request {
                message,
                flags: NLM_F_ACK,
            },
        ) {
            Err(e) if e.errno() == Some(libc::ENODEV) => Err(missing(link)),
            other => other,
        }
    }

    /// Deletes a link (of a veth pair, both ends); tells whether it was there.
    pub fn delete_link<'a>(&mut self, link: impl Into<LinkRef<'a>>) -> Result<bool, LinkError> {
        let link = link.into();
        let message = RouteNetlinkMessage::DelLink(link.message()?);
        match self.request(
            "delete",
            || link.describe(),
            Request {
                message,
                flags: NLM_F_ACK,
            },
        ) {
            Ok(()) => Ok(true),
            Err(e) if e.errno() == Some(libc::ENODEV) => Ok(false),
            Err(e) => Err(e),
        }
    }
}

pub(crate) fn missing(link: LinkRef<'_>) -> LinkError {
    LinkError::Missing(match link {
        LinkRef::Index(index) => format!("number {index}"),
        LinkRef::Name(name) => name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kernel_refuses_are_refused_here() {
        for good in ["eth0", "vxlan-v6.calico", "cali12345678901", "ä"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "a:b",
            "a\nb",
            "sixteen-letters-",
            "a\0",
        ] {
            assert!(matches!(check_name(bad), Err(LinkError::Name(_))), "{bad:?}");
        }
    }
}
