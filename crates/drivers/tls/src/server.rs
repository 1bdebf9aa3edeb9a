use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use rustls::{ServerConfig, server::WebPkiClientVerifier};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use crate::material::{Material, Renewing, TlsError, provider};

/// A client that has not shaken hands by then is let go.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that shook hands and wait to be taken.
const WAITING: usize = 64;

/// The server's side: shows its certificate, and with authorities asks every client for one of theirs.
pub struct ServerTls {
    material: Material,
    alpn: Vec<Vec<u8>>,
    config: Renewing<ServerConfig>,
}

impl ServerTls {
    /// Reads the material.
    ///
    /// # Errors
    /// [`TlsError`] naming setting, file and what is wrong; `missing` names the setting of the certificate, for a
    /// material without one.
    pub fn new(material: Material, alpn: &[&str], missing: &str) -> Result<Self, TlsError> {
        if material.identity.is_none() {
            return Err(TlsError::Bad {
                place: missing.to_owned(),
                why: "it is not set: a server needs a certificate and its key".to_owned(),
            });
        }
        let alpn: Vec<_> = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let config = Renewing::new(&material, |m| make(m, &alpn))?;
        Ok(Self {
            material,
            alpn,
            config,
        })
    }

    /// Accepts until the receiver is dropped. Handshakes run beside each other, so that one slow or wrong client keeps
    /// nobody waiting.
    #[must_use]
    pub fn accept(self: Arc<Self>, listener: TcpListener) -> mpsc::Receiver<std::io::Result<TlsConnection>> {
        let (ready, out) = mpsc::channel(WAITING);
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = ready.closed() => return,
                };
                let (stream, peer) = match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        // Out of descriptors, most likely: others will be closed.
                        tracing::warn!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                let config = self.config.get(&self.material, |m| make(m, &self.alpn));
                let ready = ready.clone();
                tokio::spawn(async move {
                    // A connection without it works, too.
                    let _ = stream.set_nodelay(true);
                    match tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await {
                        Ok(Ok(stream)) => {
                            // Nobody takes it when the server stops.
                            let _ = ready.send(Ok(TlsConnection(stream))).await;
                        }
                        Ok(Err(error)) => tracing::info!(%peer, %error, "a client's TLS handshake failed"),
                        Err(_) => tracing::info!(%peer, "a client did not finish its TLS handshake in time"),
                    }
                });
            }
        });
        out
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("material", &self.material)
            .finish_non_exhaustive()
    }
}

fn make(material: &Material, alpn: &[Vec<u8>]) -> Result<ServerConfig, TlsError> {
    let loaded = material.load()?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| material.identity_error(&e))?;
    let builder = match loaded.authorities {
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(|e| TlsError::Bad {
                    place: material
                        .authorities
                        .as_ref()
                        .map(ToString::to_string)
                        .unwrap_or_default(),
                    why: e.to_string(),
                })?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let Some((chain, key)) = loaded.identity else {
        return Err(material.identity_error(&rustls::Error::NoCertificatesPresented));
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|e| material.identity_error(&e))?;
    config.alpn_protocols = alpn.to_vec();
    Ok(config)
}

/// A connection that shook hands.
#[derive(Debug)]
pub struct TlsConnection(TlsStream<TcpStream>);

impl Connected for TlsConnection {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for TlsConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
