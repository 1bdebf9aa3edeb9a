//! TLS for connections to other programs: keys and certificates from files or given as text.
//!
//! - [`Material`]: where they come from. - [`ClientTls`], [`ServerTls`]: a side of a connection made from it.
//! - [`Source`]: one PEM, in a file or as text.
//!
//! Files are read again when they changed, so a certificate that was renewed on disk is used by the next connection,
//! without a restart; if the new files cannot be used, the old ones stay and the log says why.
//!
//! **Invariant:** a server is always verified; there is no switch that turns that off.
//! **Invariant:** no error and no log line holds a part of a private key.

mod client;
mod material;
mod server;

pub use client::ClientTls;
pub use material::{Material, Place, Source, TlsError};
pub use server::{ServerTls, TlsConnection};
