//! Our tables in the kernel's nf_tables, by netlink: an encoder of the rules' intermediate form, and a driver that
//! makes the kernel have what is wanted and keeps it so.
//!
//! **Invariants**
//! - A packet sees a change as a whole or not at all, whatever its size: one change is one batch for both families; a
//!   whole table is written beside the one in force and put in its place by the batch that hooks it in. New chains are
//!   written by a batch ahead, for a packet on its way sees new elements at once but new rules not before the next.
//! - Nothing is written but what differs. Each rule carries a hash of its content and each set one of its definition,
//!   so a restart reads back, compares hashes and elements, and decodes no expression.
//! - Only tables named `caracal`, `caracal-b` and `caracal-c` of the families `ip` and `ip6` are ours. A table `calico`
//!   is deleted by the batch that puts ours in its place. Nothing else is ever touched.
//! - What the kernel refuses is named, and closed or left out; the rest is in force.
//!
//! Names: a table cannot be renamed, so each whole load takes the first of the three names that is free. The table's
//! comment says which layout it was written with.

mod batch;
mod calico;
mod diff;
mod driver;
mod encode;
mod load;
mod monitor;
mod numbers;
mod plan;
mod readback;
mod reader;
mod state;
mod tx;
mod wanted;

use caracal_net::Family;
use caracal_rules::ir::IfName;

pub use batch::{Batch, Object};
pub use caracal_netlink::Wait;
pub use driver::Nft;
pub use encode::EncodeError;
pub use readback::Count;
pub use reader::{LiveRule, Reader, SetDifference};
pub use tx::{Echo, NetlinkTx, NftTx, TxError};

/// The rules' layout, as `docs/design/ruleset.md` tells it. It goes up with each change after which a table of the
/// version before cannot be compared any more; such a table is replaced as a whole, without a gap.
pub const LAYOUT: u32 = 2;

/// What the driver is told once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Number of the rules' layout. A table of another number is not compared but replaced as a whole.
    pub layout: u32,
    /// Bytes of notifications that may wait to be read; a large change of somebody else must fit, or everything is
    /// compared.
    pub listen_buffer: usize,
    /// How the names of workloads' interfaces begin: they are closed where a hook's rule about them is refused.
    pub workloads: Vec<IfName>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            layout: LAYOUT,
            listen_buffer: 8 * 1024 * 1024,
            workloads: IfName::starting_with("cali").into_iter().collect(),
        }
    }
}

/// Something that is in the kernel otherwise than asked for, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Of which table.
    pub family: Family,
    /// What it is.
    pub object: Object,
    /// Why.
    pub why: String,
}

/// What a call wrote.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Batches sent.
    pub batches: usize,
    /// Those of them that the kernel refused.
    pub refused_batches: usize,
    /// Messages sent, without the frames of batches.
    pub messages: usize,
    /// Bytes sent.
    pub bytes: usize,
    /// Times that whole tables were written.
    pub loads: usize,
    /// Everything that is not as it was asked for, after the call.
    pub problems: Vec<Problem>,
}

/// Why our tables could not be made what is wanted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A netlink exchange failed.
    #[error("nftables: cannot {doing}: {source}")]
    Netlink {
        /// What was being done.
        doing: &'static str,
        /// What happened.
        source: caracal_netlink::Error,
    },
    /// The kernel refused a change again and again.
    #[error("nftables: the kernel refused {object}: {source}")]
    Refused {
        /// What was refused.
        object: String,
        /// The kernel's words.
        source: caracal_netlink::Refusal,
    },
    /// A change came for elements of a set that does not exist.
    #[error("nftables: {0}")]
    BadDelta(#[from] caracal_rules::ir::BadDelta),
    /// Changes before the start.
    #[error("nftables: changes came before the driver was started")]
    NotStarted,
}

impl Error {
    pub(crate) fn opening(source: caracal_netlink::Error) -> Self {
        Self::Netlink {
            doing: "open a socket to nf_tables",
            source,
        }
    }
}
