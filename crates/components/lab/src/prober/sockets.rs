//! Sockets as tokio takes them, opened in the calling thread's network namespace.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};

use super::sctp;

pub(super) fn any(of: IpAddr) -> IpAddr {
    match of {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn bound(addr: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind.nonblocking(), Some(protocol))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if kind == Type::STREAM {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket)
}

pub(super) fn udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::from_std(bound(addr, Type::DGRAM, Protocol::UDP)?.into())
}

pub(super) fn tcp_listener(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(addr, Type::STREAM, Protocol::TCP)?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// A TCP socket with this source port, not connected yet.
pub(super) fn tcp(addr: SocketAddr) -> io::Result<tokio::net::TcpSocket> {
    let socket = bound(addr, Type::STREAM, Protocol::TCP)?;
    // Ends with a reset: no probe leaves a connection behind that waits.
    socket.set_linger(Some(std::time::Duration::ZERO))?;
    Ok(tokio::net::TcpSocket::from_std_stream(socket.into()))
}

/// A raw socket that sends and receives SCTP packets; as a datagram socket, which it behaves like.
pub(super) fn raw_sctp(addr: IpAddr) -> io::Result<UdpSocket> {
    let protocol = Protocol::from(sctp::PROTOCOL);
    let socket = Socket::new(
        Domain::for_address(SocketAddr::new(addr, 0)),
        Type::RAW.nonblocking(),
        Some(protocol),
    )?;
    // Bursts of probes meet here.
    socket.set_recv_buffer_size(1 << 20)?;
    UdpSocket::from_std(socket.into())
}
