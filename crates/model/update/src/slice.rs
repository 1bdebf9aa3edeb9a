use std::{net::IpAddr, sync::Arc};

use caracal_net::Proto;
use serde::{Deserialize, Serialize};

/// The identity of a slice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SliceKey {
    /// The namespace, which is its service's too.
    pub namespace: Arc<str>,
    /// The slice's own name.
    pub name: Arc<str>,
}

/// A port of a service's endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SlicePort {
    /// The protocol.
    pub proto: Proto,
    /// The number.
    pub port: u16,
}

/// Some endpoints of a service. Whether they are ready is of no concern to policy (`calico-components.md` §3.8).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSlice {
    /// The name of the service; empty for slices of none.
    pub service: Arc<str>,
    /// The endpoints' addresses.
    pub addresses: Vec<IpAddr>,
    /// The ports; every address has all of them.
    pub ports: Vec<SlicePort>,
}

/// One slice changed, or is gone. The contract is that of [`Update`](crate::Update).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SliceUpdate {
    /// Which slice.
    pub key: SliceKey,
    /// Its state now; `None` when it does not exist.
    pub value: Option<Arc<EndpointSlice>>,
}
