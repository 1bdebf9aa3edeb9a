use std::collections::{BTreeSet, VecDeque};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use caracal_netlink::{Messages, Protocol, Received, Socket, Wait, flags, kind};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::RouteMessage;

use crate::rtnl::decode;
use crate::{Address, FdbEntry, Link, LinkError, Neighbour, Rtnl, decode};

/// Room for events that wait: some ten thousand route changes.
const RECEIVE_BUFFER: usize = 16 << 20;

/// Which events a monitor hears, for both address families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// Links.
    pub links: bool,
    /// Addresses.
    pub addresses: bool,
    /// Routes.
    pub routes: bool,
    /// Neighbours and forwarding entries.
    pub neighbours: bool,
}

impl Groups {
    /// All of them.
    pub const ALL: Self = Self {
        links: true,
        addresses: true,
        routes: true,
        neighbours: true,
    };

    /// Numbers from the kernel's `enum rtnetlink_groups`.
    fn numbers(self) -> impl Iterator<Item = u32> {
        let groups = [
            (self.links, &[1][..]),
            (self.addresses, &[5, 9]),
            (self.routes, &[7, 11]),
            (self.neighbours, &[3]),
        ];
        groups
            .into_iter()
            .filter(|(wanted, _)| *wanted)
            .flat_map(|(_, numbers)| numbers.iter().copied())
    }
}

/// Something changed in the namespace.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A link is new or changed; also sent when only counters did.
    Link(Link),
    /// A link is gone (or moved to another namespace).
    LinkGone(Link),
    /// An address is new or changed.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
    /// A route is new or changed.
    Route {
        /// The route.
        route: Box<RouteMessage>,
        /// It took another's place; else it is new, and may stand beside another of the same destination.
        replaced: bool,
    },
    /// A route is gone. The kernel does not tell of IPv4 routes that go with their link or source address.
    RouteGone(Box<RouteMessage>),
    /// A neighbour is new or changed.
    Neighbour(Neighbour),
    /// A neighbour is gone.
    NeighbourGone(Neighbour),
    /// A forwarding entry is new or changed.
    Fdb(FdbEntry),
    /// A forwarding entry is gone.
    FdbGone(FdbEntry),
    /// Events were lost: what is known has to be read again.
    Overrun,
}

/// Hears what changes in the network namespace in which it was opened.
#[derive(Debug)]
pub struct Monitor {
    socket: Socket,
    waiting: VecDeque<Event>,
    ignored: BTreeSet<u32>,
}

impl Monitor {
    /// Begins to listen, in the calling thread's network namespace. What happened before is not told: open
    /// first, then list.
    pub fn open(groups: Groups) -> Result<Self, LinkError> {
        let action = "listen to network changes";
        let failed = |source| LinkError::Socket { action, source };
        let socket = Socket::open(Protocol::Route).map_err(failed)?;
        socket.set_receive_buffer(RECEIVE_BUFFER).map_err(failed)?;
        for number in groups.numbers() {
            socket.join(number).map_err(failed)?;
        }
        Ok(Self {
            socket,
            waiting: VecDeque::new(),
            ignored: BTreeSet::new(),
        })
    }

    /// Leaves out changes of routes, neighbours and forwarding entries that `rtnl` itself asks for.
    pub fn ignore(&mut self, rtnl: &Rtnl) {
        self.ignored.insert(rtnl.port());
    }

    /// The next event; `None` if none comes in the given time. No time means waiting for good; a time of
    /// zero means not waiting at all.
    pub fn next(&mut self, time: Option<Duration>) -> Result<Option<Event>, LinkError> {
        let deadline = time.map(|time| Instant::now() + time);
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(Some(event));
            }
            let wait = match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => Wait::Forever,
                Some(left) if left.is_zero() => Wait::No,
                Some(left) => Wait::For(left),
            };
            let received = self.socket.recv(wait);
            let failed = |source| LinkError::Socket {
                action: "read network changes",
                source,
            };
            match received.map_err(failed)? {
                Received::Nothing => return Ok(None),
                Received::Overrun => self.waiting.push_back(Event::Overrun),
                Received::Bytes(bytes) => {
                    let events = Messages::new(bytes).filter_map(|message| event(&message, &self.ignored));
                    self.waiting.extend(events);
                }
            }
        }
    }

    /// All events that have come so far, without waiting.
    pub fn drain(&mut self) -> Result<Vec<Event>, LinkError> {
        let mut events = Vec::new();
        while let Some(event) = self.next(Some(Duration::ZERO))? {
            events.push(event);
        }
        Ok(events)
    }
}

fn event(message: &caracal_netlink::Message<'_>, ignored: &BTreeSet<u32>) -> Option<Event> {
    if message.kind == kind::OVERRUN {
        return Some(Event::Overrun);
    }
    let own = ignored.contains(&message.port);
    match decode(message)? {
        RouteNetlinkMessage::NewLink(message) => decode::link(&message).map(Event::Link),
        RouteNetlinkMessage::DelLink(message) => decode::link(&message).map(Event::LinkGone),
        RouteNetlinkMessage::NewAddress(message) => decode::address(&message).map(Event::Address),
        RouteNetlinkMessage::DelAddress(message) => decode::address(&message).map(Event::AddressGone),
        _ if own => None,
        RouteNetlinkMessage::NewRoute(route) => Some(Event::Route {
            route: Box::new(route),
            replaced: message.flags & flags::REPLACE != 0,
        }),
        RouteNetlinkMessage::DelRoute(message) => Some(Event::RouteGone(Box::new(message))),
        RouteNetlinkMessage::NewNeighbour(message) => decode::neighbour(&message)
            .map(Event::Neighbour)
            .or_else(|| decode::fdb(&message).map(Event::Fdb)),
        RouteNetlinkMessage::DelNeighbour(message) => decode::neighbour(&message)
            .map(Event::NeighbourGone)
            .or_else(|| decode::fdb(&message).map(Event::FdbGone)),
        _ => None,
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
