//! The node agent: from the datastore to the kernel of one node.
//!
//! ```text
//! syncer ──Event──► calc (policy, routes; one task) ──Batch──► dataplane (nft, routes, links; one thread)
//!                      │                                            │
//!                      ├── settings, invalid objects                └── status ► files, agent API, health, metrics
//!                      └── conditions ► the datastore
//! ```
//!
//! **Invariant:** nothing is written to the kernel before the first complete snapshot; what an agent before this one
//! left stays in force until then, and is replaced without a gap.

mod addresses;
mod agent;
mod calc;
mod cli;
mod conditions;
mod counters;
mod dataplane;
mod denied;
mod keepsake;
mod metrics;
mod pods;
mod reporting;
mod settings;
mod stages;
mod start;
mod status;

pub use addresses::finish_releases_by;
pub use cli::run;
