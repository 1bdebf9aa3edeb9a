//! Which datastore a program uses, and a connection to it.
//!
//! The order (design §2): `DATASTORE_TYPE`, then `ETCD_ENDPOINTS`, then a kubeconfig, then the embedded server's socket
//! if it exists, else an error that names all four. Each comes from the environment (with or without the prefix
//! `CALICO_`) or else from a CalicoAPIConfig file such as `/etc/calico/calicoctl.cfg`.
//!
//! - [`resolve`] decides, pure: environment and file are arguments. - [`connect`] makes the store; it sends nothing yet.
//! - [`named`] makes the client of one that is named for itself; [`transfer`] copies one into another.
//! - [`of_agent`] heeds the agent's own parameters too; [`NodeLayers`] are those that the datastore has for a node.
//! - [`from_process`] does both with this process's environment and file, [`client_from_process`] for what is about keys.
//!
//! **Invariant:** an empty private database never appears behind an operator's back: what was asked for and cannot be
//! had is an error, never a fall-back.

mod agent;
mod config;
mod connect;
mod resolve;

pub use agent::{NodeLayers, of_agent};
pub use caracal_store_etcd::{
    EtcdSettings, EtcdStore, Login, Material, Source, Step, TransferError, Transferred, transfer,
};
pub use config::{ApiConfig, BadConfig};
pub use connect::{DEFAULT_CONFIG, client_from_process, connect, from_process, named};
pub use resolve::{DEFAULT_SOCKET, DatastoreError, Settings, resolve};
