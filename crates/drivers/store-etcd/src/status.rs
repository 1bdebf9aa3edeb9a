use caracal_api::{Kind, ResourceKey};
use caracal_store::StoreError;
use tonic::Code;

use crate::transport::{Failed, not_sent, root_cause};

/// What a request was about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum About<'a> {
    Object(&'a ResourceKey),
    Kind(Kind),
    /// What nodes say of themselves: no object.
    Report,
}

impl About<'_> {
    fn kind(self) -> Option<Kind> {
        match self {
            About::Object(key) => Some(key.kind),
            About::Kind(kind) => Some(kind),
            About::Report => None,
        }
    }
}

/// Says what etcd's answer means to the user.
pub(crate) fn explain(failed: &Failed, about: About<'_>) -> StoreError {
    let (status, at) = (&failed.status, &failed.endpoint);
    let text = status.message();
    match status.code() {
        Code::OutOfRange if text.contains("compacted") => match about.kind() {
            Some(kind) => StoreError::Expired(kind),
            None => StoreError::Unavailable(format!("{at}: {text}")),
        },
        Code::ResourceExhausted if text.contains("space exceeded") => StoreError::NoSpace(format!(
            "{at}: {text}; compact and defragment it, or raise its quota"
        )),
        Code::ResourceExhausted | Code::InvalidArgument | Code::OutOfRange if too_large(text) => {
            match about {
                About::Object(key) => StoreError::Invalid {
                    key: key.clone(),
                    reason: format!("the object is larger than {at} takes ({text}): make it smaller"),
                },
                About::Kind(kind) => {
                    StoreError::Unavailable(format!("{at}: answer for {kind} is too large: {text}"))
                }
                About::Report => StoreError::Unavailable(format!("{at}: a report is too large: {text}")),
            }
        }
        Code::Unauthenticated | Code::PermissionDenied => {
            StoreError::Unauthorised(format!("{at}: {text}; check user, password or certificate"))
        }
        Code::InvalidArgument
            if text.contains("authentication failed") || text.contains("user name is empty") =>
        {
            StoreError::Unauthorised(format!("{at}: {text}; check user and password"))
        }
        Code::Unimplemented => StoreError::Unavailable(format!(
            "{at} does not speak etcd's v3 API ({text}): is it the client port of etcd?"
        )),
        _ if at.starts_with("unix://") && not_sent(status) => StoreError::Unavailable(format!(
            "{at}: {}; is the embedded store running (`caracal store serve`), and may this user reach it?",
            root_cause(status)
        )),
        _ => {
            let cause = root_cause(status);
            let hint = tls_hint(at, &cause);
            StoreError::Unavailable(format!("{at}: {cause}{hint}"))
        }
    }
}

/// What a connection's end looks like, whichever side of the handshake did not like the other; in lower case.
const CLOSED: &[&str] = &["connection closed", "connection reset", "broken pipe"];

/// What to do about a connection that failed for the sake of TLS. The texts are those of the library and of the alerts
/// that servers send.
fn tls_hint(endpoint: &str, cause: &str) -> &'static str {
    let says = |texts: &[&str]| texts.iter().any(|t| cause.contains(t));
    let closed = || CLOSED.iter().any(|t| cause.to_ascii_lowercase().contains(t));
    if endpoint.starts_with("http://") {
        return if closed() || says(&["frame with invalid size", "http2 error"]) {
            "; it does not answer as etcd does: if etcd serves TLS there, the endpoint must begin with https://, else name \
             etcd's client port"
        } else {
            ""
        };
    }
    if says(&["InvalidContentType", "corrupt message", "handshake eof"]) {
        "; no TLS is served there: the endpoint must begin with http://"
    } else if says(&["certificate expired", "CertificateExpired", "ExpiredContext"]) {
        "; renew the certificate that expired (or set the clock)"
    } else if says(&["not valid for name"]) {
        "; the endpoint must be a name or address that the server's certificate is for"
    } else if says(&["UnknownIssuer", "BadSignature", "invalid peer certificate"]) {
        "; the server's certificate does not come from an authority in ETCD_CA_CERT_FILE"
    } else if says(&["received fatal alert"]) {
        "; if etcd wants certificates from its clients, set ETCD_CERT_FILE and ETCD_KEY_FILE to one of its authority that \
         has not expired"
    } else if closed() {
        // A server without TLS that resets the connection looks like one that refuses our certificate.
        "; if no TLS is served there, the endpoint must begin with http://; if etcd wants certificates from its clients, \
         set ETCD_CERT_FILE and ETCD_KEY_FILE to one of its authority that has not expired"
    } else {
        ""
    }
}

/// Whether a message was too large for one of the two sides.
pub(crate) fn too_large(text: &str) -> bool {
    text.contains("too large") || text.contains("larger than max")
}

#[cfg(test)]
mod tests {
    use tonic::Status;

    use super::*;

    fn of(status: Status) -> StoreError {
        let failed = Failed {
            endpoint: "http://e:1".into(),
            status,
        };
        explain(&failed, About::Object(&ResourceKey::global(Kind::Tier, "t")))
    }

    #[test]
    fn a_connection_that_ends_early_names_both_reasons() {
        for cause in ["Connection reset by peer (os error 104)", "connection closed"] {
            let hint = tls_hint("https://e:1", cause);
            assert!(
                hint.contains("begin with http://") && hint.contains("ETCD_CERT_FILE"),
                "{hint}"
            );
            assert!(tls_hint("http://e:1", cause).contains("begin with https://"));
        }
    }

    #[test]
    fn answers_become_errors_to_act_on() {
        let compacted = Status::out_of_range("etcdserver: mvcc: required revision has been compacted");
        assert!(matches!(of(compacted), StoreError::Expired(Kind::Tier)));
        let full = Status::resource_exhausted("etcdserver: mvcc: database space exceeded");
        assert!(matches!(of(full), StoreError::NoSpace(t) if t.contains("quota")));
        let large = Status::invalid_argument("etcdserver: request is too large");
        assert!(matches!(of(large), StoreError::Invalid { reason, .. } if reason.contains("smaller")));
        let denied = Status::permission_denied("etcdserver: permission denied");
        assert!(matches!(of(denied), StoreError::Unauthorised(_)));
        let other = Status::unimplemented("unknown service");
        assert!(matches!(of(other), StoreError::Unavailable(t) if t.contains("is it the client port")));
        let busy = Status::resource_exhausted("etcdserver: too many requests");
        assert!(of(busy).is_transient());
    }
}
