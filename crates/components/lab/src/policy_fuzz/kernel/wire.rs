//! Senders and receivers: raw sockets in every place that packets come from or go to.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use caracal_net::{Family, PerFamily, Proto};
use caracal_oracle::{Trip, Way};
use caracal_sys::NetNs;
use socket2::{Domain, Protocol, Socket, Type};

use super::packet::{LONGEST, Tag};

/// The interface name of what is sent by the host itself and heard by it.
pub(super) const HOST: &str = "";

/// Marks what we send from the host: everything else that it says by itself is no part of a case.
pub(super) const MARK: u32 = 0x77;

/// What a raw socket sends has its IP header already.
const WITH_HEADER: i32 = 255;

/// `ETH_P_IP` and `ETH_P_IPV6`: only what comes in, unlike `ETH_P_ALL`.
const FRAMES: [u16; 2] = [0x0800, 0x86dd];

/// How often a receiver looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// Something that arrived: the place by its number, and what it is.
pub(super) type Arrival = (usize, Tag);

/// A place: the name of the node's interface that leads there, and its way to send.
struct Place {
    interface: String,
    senders: PerFamily<Socket>,
}

/// All places.
pub(super) struct Wire {
    places: Vec<Place>,
    arrivals: Receiver<Arrival>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Wire {
    /// Opens the sockets: of the host, and of what is behind each interface.
    pub(super) fn open(host: &NetNs, behind: &[(String, NetNs)]) -> anyhow::Result<Self> {
        let (sender, arrivals) = channel();
        let mut wire = Self {
            places: Vec::new(),
            arrivals,
            stop: Arc::new(AtomicBool::new(false)),
            threads: Vec::new(),
        };
        let ours = host.run(|| senders(Some(MARK)))??;
        for socket in host.run(delivered)?? {
            wire.listen(0, socket, sender.clone())?;
        }
        wire.places.push(Place {
            interface: HOST.to_owned(),
            senders: ours,
        });
        for (interface, netns) in behind {
            let place = wire.places.len();
            for socket in netns.run(frames)?? {
                wire.listen(place, socket, sender.clone())?;
            }
            wire.places.push(Place {
                interface: interface.clone(),
                senders: netns.run(|| senders(None))??,
            });
        }
        Ok(wire)
    }

    fn listen(&mut self, place: usize, mut socket: Socket, sender: Sender<Arrival>) -> anyhow::Result<()> {
        socket.set_read_timeout(Some(LOOK))?;
        socket.set_recv_buffer_size(4 << 20)?;
        let stop = self.stop.clone();
        self.threads.push(thread::spawn(move || {
            let mut buffer = [0; LONGEST];
            while !stop.load(Ordering::Relaxed) {
                // Errors are that nothing came, or that somebody answered an ICMP error.
                let Ok(n) = socket.read(&mut buffer) else { continue };
                if let Some(tag) = Tag::read(&buffer[..n])
                    && sender.send((place, tag)).is_err()
                {
                    return;
                }
            }
        }));
        Ok(())
    }

    /// The number of the place behind an interface.
    pub(super) fn place(&self, interface: &str) -> anyhow::Result<usize> {
        let mut places = self.places.iter();
        places
            .position(|p| p.interface == interface)
            .with_context(|| format!("there is no interface {interface:?}"))
    }

    /// Where a packet is to arrive.
    pub(super) fn goal(&self, trip: &Trip) -> anyhow::Result<usize> {
        self.place(match &trip.way {
            Way::In { .. } => HOST,
            Way::Out { to } | Way::Forward { to, .. } => to,
        })
    }

    /// Sends a packet; a kernel that does not let it out has dropped it.
    pub(super) fn send(&self, trip: &Trip, bytes: &[u8]) -> anyhow::Result<()> {
        let from = self.place(match &trip.way {
            Way::Out { .. } => HOST,
            Way::In { from } | Way::Forward { from, .. } => from,
        })?;
        let dst = trip.original.map_or(trip.packet.dst, |(dst, _)| dst);
        let socket = self.places[from].senders.get(Family::of(dst));
        match socket.send_to(bytes, &SocketAddr::new(dst, 0).into()) {
            Ok(_) => Ok(()),
            // What the output hook drops.
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
            Err(e) => Err(e).with_context(|| format!("sending {}", trip.packet)),
        }
    }

    /// The next arrival, if one comes in time.
    pub(super) fn next(&self, patience: Duration) -> anyhow::Result<Option<Arrival>> {
        match self.arrivals.recv_timeout(patience) {
            Ok(arrival) => Ok(Some(arrival)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(e) => Err(e).context("the receivers ended"),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn senders(mark: Option<u32>) -> std::io::Result<PerFamily<Socket>> {
    let one = |domain| -> std::io::Result<Socket> {
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(WITH_HEADER)))?;
        if let Some(mark) = mark {
            socket.set_mark(mark)?;
        }
        Ok(socket)
    };
    Ok(PerFamily {
        v4: one(Domain::IPV4)?,
        v6: one(Domain::IPV6)?,
    })
}

/// Sockets that hear what is delivered to the host: behind its input hook.
fn delivered() -> std::io::Result<Vec<Socket>> {
    let mut out = Vec::new();
    for (domain, icmp) in [(Domain::IPV4, Proto::ICMP), (Domain::IPV6, Proto::ICMPV6)] {
        for proto in [Proto::TCP, Proto::UDP, Proto::SCTP, Proto(47), icmp] {
            let protocol = Protocol::from(i32::from(proto.0));
            out.push(Socket::new(domain, Type::RAW, Some(protocol))?);
        }
    }
    Ok(out)
}

/// Sockets that hear all that comes in by the interfaces of a namespace.
fn frames() -> std::io::Result<Vec<Socket>> {
    let one = |kind: u16| {
        Socket::new(
            Domain::PACKET,
            Type::DGRAM,
            Some(Protocol::from(i32::from(kind.to_be()))),
        )
    };
    FRAMES.into_iter().map(one).collect()
}

/// The key of a connection, whichever end it is seen from.
pub(super) type Key = (Proto, (IpAddr, u16), (IpAddr, u16));

/// The keys under which connection tracking may know a packet: before and behind translation.
pub(super) fn keys(trip: &Trip, number: u16) -> [Key; 2] {
    let p = &trip.packet;
    // ICMP is known by its id, of which each packet has its own.
    let (sport, dport) = if p.icmp.is_some() {
        (number, number)
    } else {
        (p.sport, p.dport)
    };
    let key = |dst: (IpAddr, u16)| {
        let ends = [(p.src, sport), dst];
        let [a, b] = [ends[0].min(ends[1]), ends[0].max(ends[1])];
        (p.proto, a, b)
    };
    [key((p.dst, dport)), key(trip.original.unwrap_or((p.dst, dport)))]
}
