//! `calicoctl`: reads and writes resources as Calico's command of that name does.
//!
//! - [`run`] is the program; [`run_with`] is the same over an [`Io`] of the caller's, for tests.
//! - `cli` is the command line; `manifests` reads what `-f` names; `crud`, `patch` and `label`
//!   write, `get` reads, `output` prints. `trial` is `apply --confirm-within` and `confirm`.
//!
//! **Invariant:** nothing is written before every document that was named could be read and is valid by itself.
//! **Invariant:** the exit code is 0 only if everything that was asked for was done and printed; every error names the
//! object it is about, and the file and document it came from.
//! **Invariant:** no connection and no second thread before they are needed: a start costs milliseconds.

mod change;
mod cli;
mod completion;
mod crud;
mod datastore;
mod duration;
mod failure;
mod get;
mod io;
mod ipam;
mod label;
mod manifests;
mod node;
mod output;
mod patch;
mod run;
mod session;
mod target;
mod trial;
mod validate;
mod version;

pub use io::Io;
pub use run::{run, run_with};
