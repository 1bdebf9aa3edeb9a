//! The one client of etcd's v3 API: keys and JSON are Calico's, so that its tools can read what is written here.
//!
//! - `keys`: which key an object has, and which object a key is. - `codec`: an object as JSON and back.
//! - `transport`: endpoints, failover, time limits; `connect`: TLS; `login`: user and password. - `status`: answers of etcd as errors a user can act on.
//! - `store`, `txn`, `watch`, `together` (many objects in one request): the contract of `caracal-store` on top; `reports`: what nodes say of themselves;
//!   `transfer`: all of it into another datastore.
//!
//! The embedded store speaks the same API: its endpoint is `unix:///path/of/its.sock`.
//!
//! **Invariant:** a write compares the revision it was computed from, in the same transaction.
//! **Invariant:** fields that we do not know are kept when an object is changed.

mod ahead;
mod codec;
mod connect;
mod endpoint;
mod keys;
mod list;
mod login;
mod merge;
mod part;
mod recent;
mod reports;
mod status;
mod store;
mod together;
mod transfer;
mod transport;
mod txn;
mod watch;

pub use caracal_tls::{Material, Source, TlsError};
pub use endpoint::{BadEndpoint, EtcdSettings, Login};
pub use store::EtcdStore;
pub use transfer::{Step, TransferError, Transferred, transfer};
