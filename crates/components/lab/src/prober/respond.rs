//! The side that answers.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use caracal_sys::{NetNs, SysError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::sctp::{self, Packet};
use super::{Listen, Transport, sockets};

/// Answers inside a network namespace, on a thread of its own, until this value goes.
#[derive(Debug)]
pub struct Responder {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Answers on all ports of `listen`; they are open when this returns.
    ///
    /// # Errors
    /// When the namespace cannot be entered, or a port cannot be had: the error names it.
    pub fn start(netns: NetNs, listen: &[Listen]) -> anyhow::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (ready, open) = std::sync::mpsc::sync_channel(1);
        let listen = listen.to_vec();
        let thread = thread_in(netns, "responder", move |runtime| {
            runtime.block_on(async {
                // Whoever started this waits for the message.
                match answer(&listen) {
                    Ok(tasks) => {
                        let _ = ready.send(Ok(()));
                        // An error means that the other end is gone, which is the same wish.
                        let _ = stopped.await;
                        drop(tasks);
                    }
                    Err(e) => {
                        let _ = ready.send(Err(e));
                    }
                }
            });
        })?;
        let responder = Self {
            stop: Some(stop),
            thread: Some(thread),
        };
        open.recv()
            .map_err(|_| anyhow::anyhow!("the responder's thread ended"))??;
        Ok(responder)
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been told where it happened.
            let _ = thread.join();
        }
    }
}

/// Answers in the namespace of the calling thread until SIGTERM or SIGINT; writes `ready` to standard output when all
/// ports are open.
///
/// # Errors
/// When a port cannot be had: the error names it.
pub fn serve(listen: &[Listen]) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let shutdown = caracal_runtime::Shutdown::new();
        let signals = tokio::spawn(caracal_runtime::on_signals(shutdown.clone()));
        let tasks = answer(listen)?;
        // The starter may be gone already; the pod goes on.
        let _ = io::stdout()
            .write_all(b"ready\n")
            .and_then(|()| io::stdout().flush());
        shutdown.wait().await;
        drop((tasks, signals));
        Ok(())
    })
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Starts a thread in a network namespace with a runtime whose sockets belong to it.
pub(super) fn thread_in(
    netns: NetNs,
    name: &'static str,
    work: impl FnOnce(Runtime) + Send + 'static,
) -> Result<JoinHandle<()>, SysError> {
    let (entered, outcome) = std::sync::mpsc::sync_channel(1);
    let spawn_error = move |source| SysError::Spawn {
        program: format!("{name} (thread)"),
        source,
    };
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let prepared = netns.enter().and_then(|()| runtime().map_err(spawn_error));
        match prepared {
            Ok(runtime) => {
                // The starter waits for it.
                let _ = entered.send(Ok(()));
                work(runtime);
            }
            Err(e) => {
                let _ = entered.send(Err(e));
            }
        }
    });
    let thread = thread.map_err(spawn_error)?;
    match outcome.recv() {
        Ok(outcome) => outcome.map(|()| thread),
        Err(_) => Err(spawn_error(io::Error::other("it ended at once"))),
    }
}

/// Opens all ports; they are served as long as the result lives.
fn answer(listen: &[Listen]) -> anyhow::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    let mut families: Vec<IpAddr> = vec![Ipv4Addr::UNSPECIFIED.into()];
    if std::path::Path::new("/proc/sys/net/ipv6").exists() {
        families.push(Ipv6Addr::UNSPECIFIED.into());
    }
    let mut sctp_ports = BTreeSet::new();
    for l in listen.iter().collect::<BTreeSet<_>>() {
        for any in &families {
            let addr = SocketAddr::new(*any, l.port);
            let failed = |e: io::Error| anyhow::anyhow!("cannot listen on {} {addr}: {e}", l.protocol);
            match l.protocol {
                Transport::Tcp => {
                    tasks.spawn(tcp(sockets::tcp_listener(addr).map_err(failed)?));
                }
                Transport::Udp => {
                    tasks.spawn(udp(sockets::udp(addr).map_err(failed)?));
                }
                Transport::Sctp => {
                    sctp_ports.insert(l.port);
                }
            }
        }
    }
    if !sctp_ports.is_empty() {
        for any in families {
            let socket = sockets::raw_sctp(any)
                .map_err(|e| anyhow::anyhow!("cannot receive SCTP packets ({any}): {e}"))?;
            tasks.spawn(sctp(socket, any.is_ipv4(), sctp_ports.clone()));
        }
    }
    Ok(tasks)
}

async fn tcp(listener: TcpListener) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(echo(stream));
                }
                // The peer went away, or there is no descriptor left: connections that end make room.
                Err(e) => {
                    tracing::warn!("accepting a connection: {e}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 4096];
    while let Ok(n) = stream.read(&mut buffer).await {
        if n == 0 || stream.write_all(&buffer[..n]).await.is_err() {
            return;
        }
    }
}

async fn udp(socket: UdpSocket) {
    let mut buffer = vec![0; 2048];
    loop {
        // An error is an ICMP message about an earlier answer; the next datagram may be better.
        if let Ok((n, from)) = socket.recv_from(&mut buffer).await {
            let _ = socket.send_to(&buffer[..n], from).await;
        }
    }
}

async fn sctp(socket: UdpSocket, ipv4: bool, ports: BTreeSet<u16>) {
    let mut buffer = vec![0; 2048];
    loop {
        let Ok((n, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let bytes = if ipv4 {
            sctp::after_ipv4_header(&buffer[..n])
        } else {
            Some(&buffer[..n])
        };
        let packet = bytes.and_then(Packet::decode);
        if let Some(init) = packet.filter(|p| !p.ack && ports.contains(&p.destination)) {
            // For raw sockets a port is none.
            let to = SocketAddr::new(from.ip(), 0);
            let _ = socket.send_to(&init.answer().encode(), to).await;
        }
    }
}
