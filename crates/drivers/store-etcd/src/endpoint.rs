use std::{fmt, time::Duration};

use caracal_tls::{Material, TlsError};
use tonic::transport::Endpoint;

/// How to reach etcd or the embedded store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdSettings {
    /// `http://host:port`, `https://host:port` or `unix:///path`, at least one.
    pub endpoints: Vec<String>,
    /// The longest a request may take, all its attempts together.
    pub timeout: Duration,
    /// Authorities, and this client's certificate, for `https` endpoints.
    pub tls: Material,
    /// Who to log in as; needs no TLS.
    pub login: Option<Login>,
}

/// User and password of etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl EtcdSettings {
    /// These endpoints, with the default time limit of 10 s, without TLS material and login.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            timeout: Duration::from_secs(10),
            tls: Material::default(),
            login: None,
        }
    }

    /// The embedded store's socket.
    #[must_use]
    pub fn unix(path: &str) -> Self {
        Self::new([format!("unix://{path}")])
    }
}

/// An endpoint that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpoint {
    /// There is none.
    #[error("no etcd endpoint is given: set ETCD_ENDPOINTS, for example to http://127.0.0.1:2379")]
    None,
    /// Not a URL we know.
    #[error(
        "etcd endpoint {0:?} is not valid: it must be http://HOST:PORT, https://HOST:PORT or unix:///PATH"
    )]
    Form(String),
    /// The TLS settings of an `https` endpoint.
    #[error("etcd endpoint {endpoint:?} needs TLS: {source}")]
    Tls {
        /// The endpoint.
        endpoint: String,
        /// Setting, file and what is wrong.
        source: TlsError,
    },
}

/// Waits for a connection no longer than this, so that another endpoint is tried in time.
const CONNECT: Duration = Duration::from_secs(3);
/// etcd ends connections that ping more often than every 5 s.
const PING: Duration = Duration::from_secs(10);
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Whether the endpoint asks for TLS.
pub(crate) fn is_secure(text: &str) -> bool {
    text.starts_with("https://")
}

/// Reads one endpoint of the settings.
pub(crate) fn parse(text: &str) -> Result<Endpoint, BadEndpoint> {
    let form = || BadEndpoint::Form(text.to_owned());
    let path = text.strip_prefix("unix://");
    let host = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"))
        .map(|h| h.trim_end_matches('/'));
    match (path, host) {
        (Some(path), _) if path.starts_with('/') && path.len() > 1 => {}
        (_, Some(host)) if is_authority(host) => {}
        _ => return Err(form()),
    }
    let endpoint = Endpoint::from_shared(text.to_owned()).map_err(|_| form())?;
    Ok(endpoint
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .keep_alive_while_idle(false)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW))
}

/// Whether the text is `host:port` and nothing more.
fn is_authority(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let bracketed = host.starts_with('[') && host.ends_with(']');
    !host.is_empty()
        && !text.contains(['/', '?', '#', '@'])
        && (bracketed || !host.contains(':'))
        && port.parse::<u16>().is_ok_and(|p| p != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_http_or_unix() {
        for good in [
            "http://127.0.0.1:2379",
            "http://[::1]:2379",
            "http://etcd.example:2379/",
            "https://etcd.example:2379",
            "unix:///run/calico/store.sock",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "127.0.0.1:2379",
            "http://",
            "http://host",
            "http://host:0",
            "http://host:99999",
            "http://a:1/path",
            "http://::1:2379",
            "unix://run/x",
            "unix:///",
            "ftp://a:1",
        ] {
            assert!(
                matches!(parse(bad), Err(BadEndpoint::Form(t)) if t == bad),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let mut settings = EtcdSettings::new(["http://a:1"]);
        settings.login = Some(Login {
            user: "calico".into(),
            password: "secret".into(),
        });
        let shown = format!("{settings:?}");
        assert!(shown.contains("calico") && !shown.contains("secret"), "{shown}");
    }
}
