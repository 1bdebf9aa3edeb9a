//! The real kernel, in namespaces of our own.

mod cluster;
mod drift;
mod links;
mod support;
mod write;
