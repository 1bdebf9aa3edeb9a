use std::{fmt, sync::Arc};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::material::{Material, Renewing, TlsError, provider};

/// The client's side: verifies the server against the authorities, and shows a certificate if it has one.
pub struct ClientTls {
    material: Material,
    alpn: Vec<Vec<u8>>,
    config: Renewing<ClientConfig>,
}

impl ClientTls {
    /// Reads the material. `alpn` names the protocols to offer, such as `h2`.
    ///
    /// # Errors
    /// [`TlsError`] naming setting, file and what is wrong. Without authorities no server could be verified, which is an
    /// error too: `missing` names the setting that would have given them.
    pub fn new(material: Material, alpn: &[&str], missing: &str) -> Result<Self, TlsError> {
        if material.authorities.is_none() {
            return Err(TlsError::Bad {
                place: missing.to_owned(),
                why: "it is not set, so the server's certificate cannot be verified".to_owned(),
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

    /// Shakes hands on a connection to the host of this name or address (an IPv6 address may have brackets).
    ///
    /// # Errors
    /// What is wrong with the name, or the handshake's failure.
    pub async fn connect<S>(&self, host: &str, stream: S) -> std::io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(plain.to_owned())
            .map_err(|e| std::io::Error::new(std::io::ErrorKind::InvalidInput, format!("{host:?}: {e}")))?;
        let config = self.config.get(&self.material, |m| make(m, &self.alpn));
        TlsConnector::from(config).connect(name, stream).await
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("material", &self.material)
            .finish_non_exhaustive()
    }
}

fn make(material: &Material, alpn: &[Vec<u8>]) -> Result<ClientConfig, TlsError> {
    let loaded = material.load()?;
    let roots = Arc::new(loaded.authorities.unwrap_or_else(rustls::RootCertStore::empty));
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| material.identity_error(&e))?
        .with_root_certificates(roots);
    let mut config = match loaded.identity {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|e| material.identity_error(&e))?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = alpn.to_vec();
    Ok(config)
}
