//! Every parameter of the agent: one table, and the layers its values come from.
//!
//! A parameter has one row in [`Param::all`]: its name in each source, its type, its default and what a bad value does.
//! Own parameters (`CARACAL_*`) have rows of the same kind in [`Param::own`]. [`resolve`] lays the sources over one
//! another in Calico's order (of a datastore's objects [`FelixObjects`] knows which are about a node) and yields a [`Resolved`], which says for each parameter the value, where it came from
//! and what was wrong; [`FelixConfig`] is the same as plain typed fields.
//!
//! **Invariant:** pure. Files and environment are read by the caller and handed in as text.
//! **Invariant:** a bad value never panics and never passes unnoticed: it is a [`Problem`].

mod felix;
mod file;
mod layers;
mod objects;
mod own;
mod parse;
mod spec;
mod table;
mod value;

pub use felix::{
    DatastoreType, DenyAction, EndpointToHost, FelixConfig, LogFormat, LogSeverity, NatExclusions, Reporting,
    ServiceLoopPrevention,
};
pub use layers::{
    Outcome, Problem, Resolved, ResolvedParam, Source, Sources, SpecLayer, pick_selected, resolve,
};
pub use objects::FelixObjects;
pub use own::{ANNOTATION_PREFIX, CALICO_ANNOTATION_PREFIX};
pub use parse::{BadValue, parse};
pub use spec::{Severity, SpecProblem, spec_to_raw, validate_spec};
pub use table::{Applies, Group, Kind, OnBadValue, PairsAs, Param, SpecRule, groups};
pub use value::{ProtoPort, Value};
