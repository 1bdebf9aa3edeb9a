//! What command lines name as input: files, directories and `-`, or everything that the datastore holds of policy.
//!
//! - [`texts`] reads manifests: of a file, of a directory in the order of names, of standard input.
//! - [`live`] reads the state of a cluster as its nodes see it.
//!
//! **Invariant:** every error names the file, directory or kind that it is about.

mod files;
mod live;

pub use files::{Depth, InputError, texts};
pub use live::{Live, LiveError, live};
