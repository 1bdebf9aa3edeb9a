//! Raw netlink: a socket, messages, attributes, requests with an answer, dumps, and multicast groups.
//!
//! Nothing here knows a protocol; `nft`, `route` and `link` build on it.
//!
//! **Invariants**
//! - Every socket belongs to the network namespace of the thread that opened it, for ever.
//! - Only messages that the kernel itself sent are handed out.
//! - A refusal carries the kernel's own words where it has any (extended acknowledgements are on).
//! - `unsafe` stays in `socket::sys`.

mod attr;
mod message;
mod request;
mod socket;

pub use attr::{Attr, AttrWriter, Attrs};
pub use message::{Message, MessageWriter, Messages, Refusal, align4, flags, kind};
pub use request::Request;
pub use socket::{Protocol, Received, Socket, Wait};

/// What went wrong on a netlink socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("netlink: cannot {doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The kernel refused a request.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The state changed during every try to read it.
    #[error("netlink: the kernel's state changed during each of {tries} tries to read it")]
    Interrupted {
        /// How often reading was tried.
        tries: u32,
    },
    /// No answer came in time.
    #[error("netlink: no answer from the kernel within {0:?}")]
    Timeout(std::time::Duration),
    /// Messages were lost because the socket's receive buffer was full.
    #[error("netlink: the kernel dropped answers because the receive buffer was full")]
    Overrun,
    /// A message from the kernel cannot be understood.
    #[error("netlink: a message of the kernel is malformed: {0}")]
    Malformed(&'static str),
}

impl Error {
    /// The error number, when the kernel or the system gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            Self::Refused(refusal) => Some(refusal.errno),
            _ => None,
        }
    }
}
