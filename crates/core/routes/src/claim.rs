use caracal_api::ResourceKey;
use caracal_ids::NodeName;

/// Why a destination is on a node. The order is the precedence among several claims: the last is the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ClaimKind {
    /// The node owns the block.
    Block,
    /// The destination is the node's own address.
    Host,
    /// The destination is the node's tunnel address.
    Tunnel,
    /// The address is held by a node that does not own the block.
    Borrowed,
    /// A workload on the node has the address.
    Workload,
}

/// A claim of one object on one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) kind: ClaimKind,
    pub(crate) node: NodeName,
    /// The object that makes it.
    pub(crate) from: ResourceKey,
}

impl Claim {
    /// The order among claims on one destination; total, so that the result does not depend on arrival.
    pub(crate) fn rank(&self) -> (ClaimKind, &NodeName, &ResourceKey) {
        (self.kind, &self.node, &self.from)
    }
}
