//! Talking to a store that is being served.

use std::path::Path;

use anyhow::{Context, Result};
use tonic::transport::{Channel, Endpoint};

/// Connects to a server's unix socket.
pub(crate) async fn connect(socket: &Path) -> Result<Channel> {
    let path = std::path::absolute(socket).with_context(|| named(socket))?;
    // Why the socket cannot be connected to, in words: the transport's own are of little help.
    tokio::net::UnixStream::connect(&path)
        .await
        .with_context(|| format!("{}: is it being served?", named(socket)))?;
    Endpoint::from_shared(format!("unix://{}", path.display()))
        .with_context(|| named(socket))?
        .connect()
        .await
        .with_context(|| named(socket))
}

/// The store in messages.
pub(crate) fn named(socket: &Path) -> String {
    format!("the store at {}", socket.display())
}
