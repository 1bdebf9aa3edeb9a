use std::time::Duration;

use tonic::transport::Endpoint;

/// How to reach etcd or the embedded store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdSettings {
    /// `http://host:port` or `unix:///path`, at least one.
    pub endpoints: Vec<String>,
    /// The longest a request may take, all its attempts together.
    pub timeout: Duration,
}

impl EtcdSettings {
    /// These endpoints, with the default time limit of 10 s.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            timeout: Duration::from_secs(10),
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
    #[error("etcd endpoint {0:?} is not valid: it must be http://HOST:PORT or unix:///PATH")]
    Form(String),
    /// TLS.
    #[error("etcd endpoint {0:?} needs TLS, which is not supported yet: use http:// or unix://")]
    Tls(String),
}

/// Waits for a connection no longer than this, so that another endpoint is tried in time.
const CONNECT: Duration = Duration::from_secs(3);
/// etcd ends connections that ping more often than every 5 s.
const PING: Duration = Duration::from_secs(10);
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Reads one endpoint of the settings.
pub(crate) fn parse(text: &str) -> Result<Endpoint, BadEndpoint> {
    let form = || BadEndpoint::Form(text.to_owned());
    if text.starts_with("https://") {
        return Err(BadEndpoint::Tls(text.to_owned()));
    }
    let path = text.strip_prefix("unix://");
    let host = text.strip_prefix("http://").map(|h| h.trim_end_matches('/'));
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
            assert_eq!(parse(bad).err(), Some(BadEndpoint::Form(bad.into())), "{bad}");
        }
        let tls = parse("https://a:2379").unwrap_err();
        assert!(tls.to_string().contains("TLS"), "{tls}");
    }
}
