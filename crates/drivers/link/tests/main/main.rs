//! The real kernel, in namespaces of our own.

mod links;
mod monitor;
mod support;
mod vxlan;
