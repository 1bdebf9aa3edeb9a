//! The kinds' schemas, made from the types of `caracal-api` and the table of `caracal-config`.
//!
//! - [`Schema`] is the part of OpenAPI that a CustomResourceDefinition has; [`crd`] yields the whole definition of a kind
//!   in one of the two API groups, and `cargo xtask crds` writes them into `deploy/crds`.
//! - [`check`] says what an API server would refuse an object for: unknown fields, types, bounds, forms, lists, and the
//!   rules between fields, which are written in the Common Expression Language (CEL) and evaluated by `cel`.
//!
//! **Invariant:** a field that is added to a type and not here does not compile: a schema takes its types apart.
//! **Invariant:** pure, and no input makes it panic.

mod cel;
mod check;
mod crd;
mod kinds;
mod schema;
mod shape;

pub use check::{Finding, check, check_value};
pub use crd::{CLUSTER_NETWORK_POLICY, Group, cluster_network_policy, crd, describe_nothing, schema_of};
pub use schema::{Bounds, ListType, Reason, Rule, Schema, Type};
