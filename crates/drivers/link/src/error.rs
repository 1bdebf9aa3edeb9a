use caracal_netlink::Refusal;

use crate::Link;

/// What went wrong with a link, an address, a neighbour or the netlink socket.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The kernel refused.
    #[error("cannot {action} {object}: {refusal}")]
    Refused {
        /// What was being done, as a verb.
        action: &'static str,
        /// What it was done to.
        object: String,
        /// The kernel's answer.
        refusal: Refusal,
    },
    /// The link does not exist.
    #[error("there is no link {0}")]
    Missing(String),
    /// The name cannot be a link's.
    #[error("{0:?} cannot name a link: 1 to 15 bytes without white space, '/', ':' and NUL, not '.' or '..'")]
    Name(String),
    /// A link has the name of one of ours, but is something else.
    #[error(
        "link {name} is in the way: it is {found}, and {wanted} must have that name; remove or rename it"
    )]
    InTheWay {
        /// The name.
        name: String,
        /// What it is.
        found: String,
        /// What should be there.
        wanted: &'static str,
    },
    /// The kernel does not know this kind of link.
    #[error("cannot make {object}: this kernel does not know {what}: {fix}")]
    Unsupported {
        /// The link's name.
        object: String,
        /// What it does not know.
        what: &'static str,
        /// What to do about it.
        fix: &'static str,
    },
    /// No link carries an address that something has to be built on.
    #[error("cannot {action} {object}: no link has the address {address}")]
    NoSuchAddress {
        /// What was being done.
        action: &'static str,
        /// What it was done to.
        object: String,
        /// The address looked for.
        address: std::net::IpAddr,
    },
    /// Two claim what only one can have.
    #[error("{what} is claimed by {} at once; {} has it", claimants.join(" and "), claimants[0])]
    Conflict {
        /// What they claim.
        what: String,
        /// Who they are, the winner first.
        claimants: Vec<String>,
    },
    /// The socket failed.
    #[error("cannot {action}: {source}")]
    Socket {
        /// What was being done.
        action: &'static str,
        /// The socket's error.
        source: caracal_netlink::Error,
    },
    /// The namespace could not be entered.
    #[error(transparent)]
    Namespace(#[from] caracal_sys::SysError),
}

impl LinkError {
    pub(crate) fn in_the_way(found: &Link, wanted: &'static str) -> Self {
        Self::InTheWay {
            name: found.name.clone(),
            found: found.kind.clone().map_or_else(
                || "a link of no kind".to_owned(),
                |kind| format!("of kind {kind}"),
            ),
            wanted,
        }
    }

    /// The kernel's error number, if it refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { refusal, .. } => Some(refusal.errno),
            _ => None,
        }
    }
}
