use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::{Duration, Instant},
};

use crate::Error;

mod sys;

/// A netlink family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes, neighbours.
    Route,
    /// nf_tables, conntrack, ipset, packet logs.
    Netfilter,
    /// Families with names.
    Generic,
}

/// How long to wait for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// At most this long.
    For(Duration),
    /// Until one comes.
    Forever,
}

/// What a read gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// Messages of the kernel.
    Bytes(&'a [u8]),
    /// The kernel had to drop messages because the buffer was full; the socket goes on.
    Overrun,
    /// Nothing in the given time.
    Nothing,
}

/// Enough for any message but an enormous one: the kernel fills at most 32 KiB of an answer at a time.
const RECEIVE: usize = 256 * 1024;

/// A netlink socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    port: u32,
    seq: u32,
    pub(crate) buf: Vec<u8>,
}

fn io_error(doing: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io { doing, source }
}

impl Socket {
    /// Opens a socket of a family, with extended and short acknowledgements on.
    ///
    /// # Errors
    /// When the kernel has no such family or the process may not use it.
    pub fn open(protocol: Protocol) -> Result<Self, Error> {
        let number = match protocol {
            Protocol::Route => libc::NETLINK_ROUTE,
            Protocol::Netfilter => libc::NETLINK_NETFILTER,
            Protocol::Generic => libc::NETLINK_GENERIC,
        };
        let fd = sys::socket(number).map_err(io_error("open a socket"))?;
        let port = sys::bind(&fd).map_err(io_error("bind a socket"))?;
        // Kernels that lack these still answer, only with fewer words.
        let _ = sys::set(&fd, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1);
        let _ = sys::set(&fd, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1);
        Ok(Self {
            fd,
            port,
            seq: 0,
            // Memory that is never written to costs nothing: most answers are short.
            buf: Vec::with_capacity(RECEIVE),
        })
    }

    /// Joins a multicast group by its number (not a bit mask).
    ///
    /// # Errors
    /// When the family has no such group, or the process may not listen to it.
    pub fn join(&self, group: u32) -> Result<(), Error> {
        let group = i32::try_from(group).unwrap_or(i32::MAX);
        sys::set(&self.fd, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group)
            .map_err(io_error("join a multicast group"))
    }

    /// Makes the kernel check requests strictly, and honour the filters in a dump request (route family).
    ///
    /// # Errors
    /// When the kernel is older than 4.20.
    pub fn set_strict(&self) -> Result<(), Error> {
        sys::set(&self.fd, libc::SOL_NETLINK, libc::NETLINK_GET_STRICT_CHK, 1)
            .map_err(io_error("turn strict checking on"))
    }

    /// Makes room for sending `bytes` in one piece.
    ///
    /// # Errors
    /// When the system refuses any size.
    pub fn set_send_buffer(&self, bytes: usize) -> Result<(), Error> {
        self.set_buffer(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, bytes)
            .map_err(io_error("enlarge the send buffer"))
    }

    /// Makes room for `bytes` of messages that wait to be read.
    ///
    /// # Errors
    /// When the system refuses any size.
    pub fn set_receive_buffer(&self, bytes: usize) -> Result<(), Error> {
        self.set_buffer(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, bytes)
            .map_err(io_error("enlarge the receive buffer"))
    }

    fn set_buffer(&self, force: i32, plain: i32, bytes: usize) -> io::Result<()> {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX / 2);
        // Without CAP_NET_ADMIN the system's limit holds, which is still better than the default.
        sys::set(&self.fd, libc::SOL_SOCKET, force, bytes)
            .or_else(|_| sys::set(&self.fd, libc::SOL_SOCKET, plain, bytes))
    }

    /// The socket's own address: messages that this socket caused carry it.
    #[must_use]
    pub fn port(&self) -> u32 {
        self.port
    }

    /// A sequence number that was not used before (0 is never used).
    pub fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1).max(1);
        self.seq
    }

    /// Sends messages to the kernel in one piece. The kernel has dealt with them when this returns.
    ///
    /// # Errors
    /// `EMSGSIZE` when they are larger than the send buffer; then nothing was done.
    pub fn send(&self, messages: &[u8]) -> Result<(), Error> {
        loop {
            match sys::send(&self.fd, messages) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(Error::Io {
                        doing: "send messages",
                        source,
                    });
                }
            }
        }
    }

    /// Reads what the kernel sent, at most what one read gives. Messages of other processes are skipped.
    ///
    /// # Errors
    /// When the system call fails.
    pub fn recv(&mut self, wait: Wait) -> Result<Received<'_>, Error> {
        let deadline = match wait {
            Wait::No => None,
            Wait::For(time) => Some(Instant::now() + time),
            Wait::Forever => None,
        };
        let len = loop {
            match sys::recv(&self.fd, &mut self.buf) {
                Ok((len, 0)) if len > self.buf.len() => {
                    // The rest of that message is lost; next time there is room for its like.
                    self.buf.clear();
                    self.buf.reserve(len);
                    return Ok(Received::Overrun);
                }
                Ok((len, 0)) => break len,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => return Ok(Received::Overrun),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    let left = deadline.map(|d| d.saturating_duration_since(Instant::now()));
                    if wait == Wait::No || left.is_some_and(|l| l.is_zero()) {
                        return Ok(Received::Nothing);
                    }
                    match sys::wait_readable(&self.fd, left) {
                        Ok(()) => {}
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        Err(source) => {
                            return Err(Error::Io {
                                doing: "wait for messages",
                                source,
                            });
                        }
                    }
                }
                Err(source) => {
                    return Err(Error::Io {
                        doing: "read messages",
                        source,
                    });
                }
            }
        };
        Ok(Received::Bytes(&self.buf[..len]))
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
