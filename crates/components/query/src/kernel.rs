//! What the kernel of this node has.

use caracal_oracle::{Decision, Packet, Stage};

use crate::failure::Failure;
use crate::why::{Kernel, Reads};
use crate::world::{Node, World};

/// The kernel of this node, read live.
pub(crate) struct Live {
    /// The node that this is.
    pub(crate) node: String,
}

impl Live {
    pub(crate) fn open(_when: Reads) -> Result<Option<Self>, Failure> {
        Ok(None)
    }

    pub(crate) fn look(
        &self,
        _world: &World,
        _node: &Node,
        _stage: &Stage,
        _decision: Option<&Decision>,
        _packet: &Packet,
    ) -> Result<Option<Kernel>, Failure> {
        Ok(None)
    }
}
