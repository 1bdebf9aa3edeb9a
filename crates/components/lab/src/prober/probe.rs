//! The side that asks.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use caracal_sys::{NetNs, SysError};
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::sctp::{self, Packet};
use super::{Outcome, Patience, Target, Transport, sockets};

/// The first source port.
pub const FIRST_PORT: u16 = 20_000;
/// The last source port.
pub const LAST_PORT: u16 = 64_999;

/// Probes of one prober that are under way at a time: bounded by the sockets a process may have.
const AT_ONCE: usize = 256;

/// Ports that are tried when some are taken.
const PORT_TRIES: u32 = 64;

struct Order {
    targets: Vec<Target>,
    patience: Patience,
    reply: oneshot::Sender<(Vec<Outcome>, u16)>,
}

/// Sends probes from inside a network namespace, on a thread of its own that ends with this value.
#[derive(Debug)]
pub struct Prober {
    orders: Option<mpsc::UnboundedSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    /// A prober in `netns` whose first probe leaves from `first_port` (between [`FIRST_PORT`] and [`LAST_PORT`], else
    /// the first is taken).
    ///
    /// # Errors
    /// When the namespace cannot be entered or the thread cannot be started.
    pub fn start(netns: NetNs, first_port: u16) -> Result<Self, SysError> {
        let (orders, inbox) = mpsc::unbounded_channel();
        let name = netns.name().to_owned();
        let first_port = if (FIRST_PORT..=LAST_PORT).contains(&first_port) {
            first_port
        } else {
            FIRST_PORT
        };
        let thread = super::respond::thread_in(netns, "prober", move |runtime| {
            runtime.block_on(work(inbox, first_port));
        })?;
        tracing::debug!(netns = name, first_port, "prober started");
        Ok(Self {
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// Sends all probes at once; outcomes in the order of `targets`, and the source port that the next probe will have.
    pub async fn probe(&self, targets: Vec<Target>, patience: Patience) -> (Vec<Outcome>, u16) {
        let lost = || vec![Outcome::Failed("the prober has ended".to_owned()); targets.len()];
        let (reply, answer) = oneshot::channel();
        let order = Order {
            targets: targets.clone(),
            patience,
            reply,
        };
        let sent = self.orders.as_ref().is_some_and(|o| o.send(order).is_ok());
        if !sent {
            return (lost(), FIRST_PORT);
        }
        answer.await.unwrap_or_else(|_| (lost(), FIRST_PORT))
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been told where it happened.
            let _ = thread.join();
        }
    }
}

async fn work(mut inbox: mpsc::UnboundedReceiver<Order>, first_port: u16) {
    let ports = Ports::new(first_port);
    while let Some(order) = inbox.recv().await {
        let gate = Arc::new(Semaphore::new(AT_ONCE));
        let mut outcomes = vec![Outcome::Silent; order.targets.len()];
        let mut running = JoinSet::new();
        for (n, target) in order.targets.into_iter().enumerate() {
            let (gate, ports, patience) = (gate.clone(), ports.clone(), order.patience);
            running.spawn(async move {
                let _permit = gate.acquire().await;
                (n, probe(target, patience, &ports).await)
            });
        }
        while let Some(done) = running.join_next().await {
            if let Ok((n, outcome)) = done {
                outcomes[n] = outcome;
            }
        }
        // Who asked may have gone.
        let _ = order.reply.send((outcomes, ports.peek()));
    }
}

/// Source ports in a circle.
#[derive(Debug, Clone)]
struct Ports(Arc<std::sync::atomic::AtomicU32>);

impl Ports {
    fn new(first: u16) -> Self {
        Self(Arc::new(u32::from(first - FIRST_PORT).into()))
    }

    fn number(n: u32) -> u16 {
        let span = u32::from(LAST_PORT - FIRST_PORT) + 1;
        // Less than the span, which is a u16.
        FIRST_PORT + u16::try_from(n % span).unwrap_or_default()
    }

    fn next(&self) -> u16 {
        Self::number(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }

    fn peek(&self) -> u16 {
        Self::number(self.0.load(std::sync::atomic::Ordering::Relaxed))
    }

    /// Opens a socket on the next port that is free.
    fn open<T>(&self, target: &Target, open: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<T> {
        let mut last = io::Error::from(ErrorKind::AddrInUse);
        for _ in 0..PORT_TRIES {
            match open(SocketAddr::new(sockets::any(target.addr), self.next())) {
                Err(e) if e.kind() == ErrorKind::AddrInUse => last = e,
                outcome => return outcome,
            }
        }
        Err(last)
    }
}

async fn probe(target: Target, patience: Patience, ports: &Ports) -> Outcome {
    let tried = match target.protocol {
        Transport::Tcp => tcp(target, patience, ports).await,
        Transport::Udp => udp(target, patience, ports).await,
        Transport::Sctp => sctp(target, patience, ports).await,
    };
    tried.unwrap_or_else(|e| match e.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset => Outcome::Refused,
        ErrorKind::TimedOut => Outcome::Silent,
        _ => Outcome::Failed(e.to_string()),
    })
}

/// Errors that an ICMP message of a router or of the pod's own neighbour table causes: they may pass.
fn unreachable(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
    )
}

async fn tcp(target: Target, patience: Patience, ports: &Ports) -> io::Result<Outcome> {
    let mut last = Outcome::Silent;
    for _ in 0..patience.tries {
        // Each try is a connection of its own: the kernel's first repetition comes after a second only.
        let socket = ports.open(&target, sockets::tcp)?;
        match timeout(patience.wait, socket.connect((target.addr, target.port).into())).await {
            Ok(Ok(_)) => return Ok(Outcome::Answered),
            Ok(Err(e)) if unreachable(&e) => last = Outcome::Failed(e.to_string()),
            Ok(Err(e)) => return Err(e),
            Err(_) => last = Outcome::Silent,
        }
    }
    Ok(last)
}

async fn udp(target: Target, patience: Patience, ports: &Ports) -> io::Result<Outcome> {
    let socket = ports.open(&target, sockets::udp)?;
    socket.connect((target.addr, target.port)).await?;
    let mut buffer = [0; 64];
    ask(&socket, b"caracal probe", patience, &mut buffer, |_| true).await
}

async fn sctp(target: Target, patience: Patience, ports: &Ports) -> io::Result<Outcome> {
    let socket = sockets::raw_sctp(target.addr)?;
    // Only packets of this peer come in then. For raw sockets a port is none.
    socket.connect((target.addr, 0)).await?;
    let source = ports.next();
    let init = Packet::init(source, target.port, (u32::from(source) << 16) | 0xca1);
    let mut buffer = [0; 2048];
    ask(&socket, &init.encode(), patience, &mut buffer, |bytes| {
        let bytes = if target.addr.is_ipv4() {
            sctp::after_ipv4_header(bytes)
        } else {
            Some(bytes)
        };
        let expected = Packet {
            initiate: 0,
            ..init.answer()
        };
        bytes
            .and_then(Packet::decode)
            .is_some_and(|p| Packet { initiate: 0, ..p } == expected)
    })
    .await
}

/// Sends a message, several times if need be, until an answer comes.
async fn ask(
    socket: &UdpSocket,
    message: &[u8],
    patience: Patience,
    buffer: &mut [u8],
    answers: impl Fn(&[u8]) -> bool,
) -> io::Result<Outcome> {
    let mut last = Outcome::Silent;
    for _ in 0..patience.tries {
        match exchange(socket, message, patience, buffer, &answers).await {
            Ok(true) => return Ok(Outcome::Answered),
            Ok(false) => last = Outcome::Silent,
            Err(e) if unreachable(&e) => last = Outcome::Failed(e.to_string()),
            Err(e) => return Err(e),
        }
    }
    Ok(last)
}

async fn exchange(
    socket: &UdpSocket,
    message: &[u8],
    patience: Patience,
    buffer: &mut [u8],
    answers: &impl Fn(&[u8]) -> bool,
) -> io::Result<bool> {
    socket.send(message).await?;
    let answer = async {
        loop {
            let n = socket.recv(buffer).await?;
            if answers(&buffer[..n]) {
                return io::Result::Ok(());
            }
        }
    };
    match timeout(patience.wait, answer).await {
        Ok(outcome) => outcome.map(|()| true),
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_ports_come_round_after_the_last() {
        let ports = Ports::new(LAST_PORT);
        assert_eq!(ports.next(), LAST_PORT);
        assert_eq!(ports.peek(), FIRST_PORT);
        assert_eq!(ports.next(), FIRST_PORT);
    }
}
