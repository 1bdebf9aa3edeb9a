//! Command lines, and what they name as input: files, directories and `-`, or everything that the datastore holds of policy.
//!
//! - [`read_args`] reads the line itself.
//! - [`texts`] reads manifests: of a file, of a directory in the order of names, of standard input.
//! - [`live`] reads the state of a cluster as its nodes see it.
//!
//! **Invariant:** every error names the file, directory or kind that it is about.

mod args;
mod files;
mod live;

pub use args::read_args;
pub use files::{Depth, InputError, texts};
pub use live::{Live, LiveError, live};
