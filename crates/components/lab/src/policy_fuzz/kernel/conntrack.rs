//! Makes the kernel forget all connections of a namespace.

use anyhow::Context;
use caracal_netlink::{Protocol, Request, Socket};
use caracal_sys::NetNs;

/// `NFNL_SUBSYS_CTNETLINK` with `IPCTNL_MSG_CT_DELETE`.
const DELETE: u16 = (1 << 8) | 2;

/// A way to tell the kernel of one namespace.
pub(super) struct Connections(Socket);

impl Connections {
    /// Opens it.
    pub(super) fn open(netns: &NetNs) -> anyhow::Result<Self> {
        Ok(Self(netns.run(|| Socket::open(Protocol::Netfilter))??))
    }

    /// Deletes all of them.
    pub(super) fn forget(&mut self) -> anyhow::Result<()> {
        // `struct nfgenmsg` of no family; no connection is named.
        let request = Request::new(DELETE, 0, &[0; 4]);
        self.0.request(&request).context("deleting all connections")
    }
}
