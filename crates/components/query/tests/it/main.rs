//! The programs as their users see them: output and exit code.

mod agent;
mod calicoq;
mod kernel;
mod live;
mod near;
mod random;
mod rig;
mod service;
mod stores;
mod trial;
mod why;
mod world;
