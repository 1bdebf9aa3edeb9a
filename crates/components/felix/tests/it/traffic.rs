//! Packets: servers that echo, connections that are tried or go on, senders that never stop.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use caracal_sys::NetNs;
use caracal_testkit::eventually;

use crate::world::LONG;

/// How long a try may take that nobody answers.
const SHORT: Duration = Duration::from_millis(400);

/// Takes connections of both families on a port and echoes what comes, until the test ends.
pub(crate) fn echo(ns: &NetNs, port: u16) {
    let listener = ns
        .run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)))
        .unwrap()
        .unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            std::thread::spawn(move || {
                let mut buffer = [0; 512];
                while let Ok(n) = stream.read(&mut buffer) {
                    if n == 0 || stream.write_all(&buffer[..n]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// Opens a connection and has something echoed.
pub(crate) fn talk(from: &NetNs, to: IpAddr, port: u16) -> Result<TcpStream, String> {
    let open = || -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(to, port), SHORT)?;
        stream.set_read_timeout(Some(SHORT))?;
        stream.set_nodelay(true)?;
        stream.write_all(b"x")?;
        stream.read_exact(&mut [0; 1])?;
        Ok(stream)
    };
    from.run(open)
        .unwrap()
        .map_err(|e| format!("{} to {to} port {port}: {e}", from.name()))
}

/// Waits until it can be reached.
pub(crate) fn reaches(from: &NetNs, to: impl IntoIterator<Item = IpAddr>, port: u16) {
    for to in to {
        eventually(LONG, || talk(from, to, port).map(drop));
    }
}

/// Waits until it cannot be reached.
pub(crate) fn blocked(from: &NetNs, to: impl IntoIterator<Item = IpAddr>, port: u16) {
    for to in to {
        eventually(LONG, || match talk(from, to, port) {
            Ok(_) => Err(format!("{} still reaches {to} port {port}", from.name())),
            Err(_) => Ok(()),
        });
    }
}

/// Something that goes on in a thread until it is ended.
pub(crate) struct Ongoing<T> {
    stop: Arc<AtomicBool>,
    /// Rounds done.
    pub(crate) rounds: Arc<AtomicU64>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Ongoing<T> {
    fn new(work: impl FnOnce(&AtomicBool, &AtomicU64) -> T + Send + 'static) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = {
            let (stop, rounds) = (stop.clone(), rounds.clone());
            std::thread::spawn(move || work(&stop, &rounds))
        };
        Self {
            stop,
            rounds,
            thread: Some(thread),
        }
    }

    /// Waits until so many more rounds have been done.
    pub(crate) fn more_rounds(&self, n: u64) {
        let goal = self.rounds.load(Ordering::Relaxed) + n;
        eventually(LONG, || match self.rounds.load(Ordering::Relaxed) {
            now if now >= goal => Ok(()),
            now => Err(format!("{now} of {goal} rounds")),
        });
    }

    /// Whether it has ended by itself.
    pub(crate) fn ended(&self) -> bool {
        self.thread.as_ref().is_some_and(JoinHandle::is_finished)
    }

    pub(crate) fn end(mut self) -> T {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

/// One connection that must never break: a byte there and back, again and again. The result says how it ended.
pub(crate) fn stream(from: &NetNs, to: IpAddr, port: u16) -> Ongoing<Result<(), String>> {
    let mut stream = talk(from, to, port).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    Ongoing::new(move |stop, rounds| {
        while !stop.load(Ordering::Relaxed) {
            let round = stream
                .write_all(b"y")
                .and_then(|()| stream.read_exact(&mut [0; 1]));
            round.map_err(|e| format!("after {} rounds: {e}", rounds.load(Ordering::Relaxed)))?;
            rounds.fetch_add(1, Ordering::Relaxed);
            std::thread::park_timeout(Duration::from_millis(1));
        }
        Ok(())
    })
}

/// Datagrams to an address, every other millisecond.
pub(crate) fn flood(from: &NetNs, to: Vec<IpAddr>, port: u16) -> Ongoing<()> {
    let socket = from
        .run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)))
        .unwrap()
        .unwrap();
    Ongoing::new(move |stop, rounds| {
        while !stop.load(Ordering::Relaxed) {
            for to in &to {
                let to = match to {
                    IpAddr::V4(a) => a.to_ipv6_mapped(),
                    IpAddr::V6(a) => *a,
                };
                // Refused or unreachable now, perhaps not later.
                let _ = socket.send_to(b"z", (to, port));
            }
            rounds.fetch_add(1, Ordering::Relaxed);
            std::thread::park_timeout(Duration::from_millis(2));
        }
    })
}

/// A port where datagrams of both families arrive and are counted.
pub(crate) struct Sink(UdpSocket);

impl Sink {
    pub(crate) fn new(ns: &NetNs, port: u16) -> Self {
        let socket = ns
            .run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)))
            .unwrap()
            .unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    /// Takes what has arrived; from whom.
    pub(crate) fn arrived(&self) -> Vec<IpAddr> {
        let mut from = Vec::new();
        while let Ok((_, address)) = self.0.recv_from(&mut [0; 8]) {
            from.push(address.ip().to_canonical());
        }
        from
    }
}

/// A socket for datagrams of both families, at a fixed port.
pub(crate) struct Peer(UdpSocket);

impl Peer {
    pub(crate) fn new(ns: &NetNs, port: u16) -> Self {
        let socket = ns
            .run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, port)))
            .unwrap()
            .unwrap();
        socket.set_read_timeout(Some(SHORT)).unwrap();
        Self(socket)
    }

    /// A datagram to the other, and one back. What an earlier one left on its way, such as a datagram that waited for a
    /// neighbour, is passed over.
    pub(crate) fn ask(&self, other: &Peer, to: IpAddr, port: u16) -> Result<(), String> {
        static ASKED: AtomicU64 = AtomicU64::new(0);
        let to = match to {
            IpAddr::V4(a) => a.to_ipv6_mapped(),
            IpAddr::V6(a) => a,
        };
        let word = ASKED.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let ask = || -> std::io::Result<()> {
            self.0.send_to(&word, (to, port))?;
            let from = other.hears(word)?;
            other.0.send_to(&word, from)?;
            self.hears(word).map(drop)
        };
        ask().map_err(|e| format!("{to}: {e}"))
    }

    /// Who said this word.
    fn hears(&self, word: [u8; 8]) -> std::io::Result<SocketAddr> {
        let deadline = Instant::now() + SHORT;
        loop {
            let mut heard = [0; 8];
            let (n, from) = self.0.recv_from(&mut heard)?;
            if heard[..n] == word {
                return Ok(from);
            }
            if Instant::now() >= deadline {
                return Err(std::io::ErrorKind::TimedOut.into());
            }
        }
    }
}

#[test]
fn netns_an_answer_is_one_to_the_question() {
    caracal_testkit::netns!(30);
    let ns = NetNs::create("alone").unwrap();
    ns.run(|| crate::world::run("ip link set lo up")).unwrap();
    let (client, server) = (Peer::new(&ns, 5000), Peer::new(&ns, 7));
    let here: IpAddr = "127.0.0.1".parse().unwrap();
    client.ask(&server, here, 7).unwrap();
    // A question that came late, when nobody waited for it any more; this one goes where nobody hears it.
    client.0.send_to(b"?", ("::ffff:127.0.0.1", 7)).unwrap();
    assert!(client.ask(&server, here, 8).is_err());
    client.ask(&server, here, 7).unwrap();
}
