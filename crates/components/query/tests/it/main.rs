//! The programs as their users see them: output and exit code.

mod calicoq;
mod kernel;
mod random;
mod rig;
mod why;
mod world;
