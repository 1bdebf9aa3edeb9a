//! Questions about policy: `caracal why` (why a packet is allowed or denied), `calicoq` (which policies apply where),
//! `caracal watch drops` (what is denied, as it happens) and `caracal top` (what each rule decided).
//!
//! - [`why`], [`calicoq`], [`watch`] and [`top`] are the programs; [`why_with`] and so on are the same over an [`Io`] of
//!   the caller's.
//! - `input` reads the objects, from manifests or from the datastore; `world` is what nodes make of them.
//!
//! **Invariant:** nothing is written, neither to the datastore nor to the kernel.
//! **Invariant:** verdicts are the oracle's over what the engine calculates, so that they are what nodes enforce.

mod agent;
mod calicoq;
mod failure;
mod input;
mod io;
mod kernel;
mod live;
mod why;
mod world;

pub use calicoq::{calicoq, calicoq_with};
pub use io::Io;
pub use live::{top, top_with, watch, watch_with};
pub use why::{why, why_with};
