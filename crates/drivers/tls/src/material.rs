use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// One PEM text, and the name of the setting it came from, for messages.
#[derive(Clone, PartialEq, Eq)]
pub struct Source {
    /// The setting, for example `ETCD_CA_CERT_FILE`.
    pub setting: &'static str,
    /// Where the text is.
    pub place: Place,
}

/// Where a PEM text is.
#[derive(Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file, which may be renewed.
    File(PathBuf),
    /// Given itself.
    Text(String),
}

impl Source {
    /// A file.
    pub fn file(setting: &'static str, path: impl Into<PathBuf>) -> Self {
        Self {
            setting,
            place: Place::File(path.into()),
        }
    }

    /// The text itself.
    pub fn text(setting: &'static str, pem: impl Into<String>) -> Self {
        Self {
            setting,
            place: Place::Text(pem.into()),
        }
    }

    fn read(&self) -> Result<Vec<u8>, TlsError> {
        match &self.place {
            Place::Text(text) => Ok(text.as_bytes().to_vec()),
            Place::File(path) => std::fs::read(path).map_err(|e| TlsError::Read {
                setting: self.setting,
                path: path.clone(),
                why: e.to_string(),
            }),
        }
    }

    fn bad(&self, why: impl Into<String>) -> TlsError {
        TlsError::Bad {
            place: self.to_string(),
            why: why.into(),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let pem = self.read()?;
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let all = all.map_err(|e| self.bad(format!("it is not valid PEM: {e}")))?;
        if all.is_empty() {
            return Err(self.bad("it holds no certificate: a block `BEGIN CERTIFICATE` is expected"));
        }
        Ok(all)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let pem = self.read()?;
        // The reason may quote what was read, so it is not passed on.
        PrivateKeyDer::from_pem_slice(&pem).map_err(|_| {
            self.bad("it holds no private key: a block `BEGIN … PRIVATE KEY` (not encrypted) is expected")
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File(path) => write!(f, "{} ({})", self.setting, path.display()),
            Place::Text(_) => f.write_str(self.setting),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What one side of a connection needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Material {
    /// Certificates of the authorities that the other side's certificate must come from.
    pub authorities: Option<Source>,
    /// This side's certificate chain and its private key.
    pub identity: Option<(Source, Source)>,
}

/// Why TLS cannot be set up. Names the setting and, where there is one, the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{setting}: {}: {why}", path.display())]
    Read {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        why: String,
    },
    /// What was read cannot be used.
    #[error("{place}: {why}")]
    Bad {
        /// Setting and file.
        place: String,
        /// What is wrong and what is expected.
        why: String,
    },
}

/// What is read from the sources.
pub(crate) struct Loaded {
    pub(crate) authorities: Option<RootCertStore>,
    pub(crate) identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl Material {
    pub(crate) fn load(&self) -> Result<Loaded, TlsError> {
        let authorities = match &self.authorities {
            None => None,
            Some(source) => {
                let mut roots = RootCertStore::empty();
                for certificate in source.certificates()? {
                    roots.add(certificate).map_err(|e| {
                        source.bad(format!("a certificate cannot be used as an authority: {e}"))
                    })?;
                }
                Some(roots)
            }
        };
        let identity = match &self.identity {
            None => None,
            Some((chain, key)) => Some((chain.certificates()?, key.key()?)),
        };
        Ok(Loaded {
            authorities,
            identity,
        })
    }

    /// Says that certificate and key are not a pair, or else what the library says of them.
    pub(crate) fn identity_error(&self, error: &rustls::Error) -> TlsError {
        let (place, other) = match &self.identity {
            Some((chain, key)) => (chain.to_string(), key.to_string()),
            None => Default::default(),
        };
        let why = match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("the certificate is not for the private key of {other}")
            }
            other => format!("it cannot be used: {other}"),
        };
        TlsError::Bad { place, why }
    }

    /// What tells that a file was replaced.
    pub(crate) fn stamp(&self) -> Vec<Option<Stamp>> {
        let (chain, key) = self.identity.as_ref().map(|(c, k)| (c, k)).unzip();
        [self.authorities.as_ref(), chain, key]
            .into_iter()
            .flatten()
            .map(|source| match &source.place {
                Place::File(path) => Stamp::of(path),
                Place::Text(_) => None,
            })
            .collect()
    }
}

/// A file's identity, time of change and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(u64, Option<SystemTime>, u64);

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let meta = std::fs::metadata(path).ok()?;
        Some(Self(meta.ino(), meta.modified().ok(), meta.len()))
    }
}

/// The one implementation of the ciphers that is built in.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A configuration made from material, made again when its files changed.
pub(crate) struct Renewing<C> {
    made: std::sync::Mutex<(Vec<Option<Stamp>>, Arc<C>)>,
}

impl<C> Renewing<C> {
    pub(crate) fn new(
        material: &Material,
        make: impl Fn(&Material) -> Result<C, TlsError>,
    ) -> Result<Self, TlsError> {
        let stamp = material.stamp();
        Ok(Self {
            made: std::sync::Mutex::new((stamp, Arc::new(make(material)?))),
        })
    }

    /// The configuration of now. Files that changed and cannot be used leave the old one in place.
    pub(crate) fn get(&self, material: &Material, make: impl Fn(&Material) -> Result<C, TlsError>) -> Arc<C> {
        let mut made = self
            .made
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let stamp = material.stamp();
        if stamp != made.0 {
            match make(material) {
                Ok(config) => *made = (stamp, Arc::new(config)),
                // Tried again at the next connection: certificate and key may be half replaced now.
                Err(error) => {
                    tracing::warn!(%error, "renewed TLS files cannot be used; the old ones stay in use")
                }
            }
        }
        Arc::clone(&made.1)
    }
}
