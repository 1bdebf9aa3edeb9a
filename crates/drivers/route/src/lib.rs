//! Our routes in the kernel, as desired: [`Routes`] keeps both pictures and touches only what differs.
//!
//! - A route is known by table, destination and metric ([`RouteKey`]); the kernel allows one of each per family.
//! - [`Ownership`] says which routes are ours. Ours that are not desired are deleted; a foreign route is left
//!   alone, unless it sits on the very key of a desired one.
//! - The kernel is read at the start and after lost events, and followed by events between. A route whose link
//!   is missing or down waits for it.
//! - **Invariant**: nothing is written before a complete snapshot of what is desired: [`Routes::apply`] takes the
//!   token.
//! - [`put_route`] and [`routes_to`] serve programs that run once.
//! - [`cluster_route`] and [`workload_routes`] make routes out of what the brain desires, without touching the kernel.

mod cluster;
mod codec;
mod model;
mod once;
mod ownership;
mod routes;

pub use cluster::{ClusterContext, cluster_route, workload_routes};
pub use model::{MAIN_TABLE, PROTOCOL_BOOT, PROTOCOL_CLUSTER, Route, RouteKey, Target};
pub use once::{FoundRoute, put_route, routes_to};
pub use ownership::{Owned, Ownership};
pub use routes::{RouteError, RouteReport, Routes};
