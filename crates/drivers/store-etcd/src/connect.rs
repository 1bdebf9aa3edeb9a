use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use caracal_tls::ClientTls;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tonic::transport::Uri;

/// Connects to `https` endpoints. A connection is made with the certificates that are on disk at that moment.
#[derive(Debug, Clone)]
pub(crate) struct Connector(Arc<ClientTls>);

pub(crate) fn connector(tls: Arc<ClientTls>) -> Connector {
    Connector(tls)
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = Arc::clone(&self.0);
        Box::pin(async move {
            let bad = || io::Error::new(io::ErrorKind::InvalidInput, format!("{uri} names no host"));
            let host = uri.host().ok_or_else(bad)?;
            let port = uri.port_u16().unwrap_or(443);
            let plain = host.trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((plain, port)).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(tls.connect(host, stream).await?))
        })
    }
}
