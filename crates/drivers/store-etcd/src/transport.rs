use std::{
    future::Future,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use caracal_tls::ClientTls;
use tonic::{
    Code, ConnectError, Response, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    EtcdSettings,
    connect::connector,
    endpoint::{BadEndpoint, is_secure, parse},
    login::{Session, Wire},
};

/// The endpoints; one is in use until it fails.
#[derive(Debug)]
pub(crate) struct Transport {
    slots: Vec<Slot>,
    current: AtomicUsize,
    timeout: Duration,
    /// Of `https` endpoints.
    tls: Option<Arc<ClientTls>>,
    session: Session,
}

#[derive(Debug)]
struct Slot {
    text: String,
    endpoint: Endpoint,
    /// Made at the first request: making it needs a runtime, making the store does not.
    channel: OnceLock<Channel>,
}

/// Whether a request may be sent again when it is not known if the first one arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// A read: yes.
    Safe,
    /// A write: only when it was surely not sent.
    IfNotSent,
}

/// A failed call, with the endpoint that failed last.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) endpoint: String,
    pub(crate) status: Status,
}

impl Transport {
    pub(crate) fn new(settings: &EtcdSettings) -> Result<Self, BadEndpoint> {
        if settings.endpoints.is_empty() {
            return Err(BadEndpoint::None);
        }
        let tls = match settings.endpoints.iter().find(|text| is_secure(text)) {
            None => None,
            Some(endpoint) => {
                let made = ClientTls::new(settings.tls.clone(), &["h2"], "ETCD_CA_CERT_FILE");
                Some(Arc::new(made.map_err(|source| BadEndpoint::Tls {
                    endpoint: endpoint.clone(),
                    source,
                })?))
            }
        };
        let slots = settings.endpoints.iter().map(|text| {
            Ok(Slot {
                text: text.clone(),
                endpoint: parse(text)?,
                channel: OnceLock::new(),
            })
        });
        Ok(Self {
            slots: slots.collect::<Result<_, BadEndpoint>>()?,
            current: AtomicUsize::new(0),
            timeout: settings.timeout,
            tls,
            session: Session::new(settings.login.clone()),
        })
    }

    fn channel<'a>(&self, slot: &'a Slot) -> &'a Channel {
        slot.channel.get_or_init(|| match &self.tls {
            Some(tls) if is_secure(&slot.text) => slot
                .endpoint
                .connect_with_connector_lazy(connector(Arc::clone(tls))),
            _ => slot.endpoint.connect_lazy(),
        })
    }

    pub(crate) fn describe(&self) -> String {
        self.slots
            .iter()
            .map(|s| s.text.as_str())
            .collect::<Vec<_>>()
            .join(",")
    }

    /// Calls `f` with the channel in use; on a lost connection goes on with the next endpoint, each tried once and the
    /// first once more, within the time limit.
    pub(crate) async fn call<T, F, R>(&self, repeat: Repeat, f: F) -> Result<T, Failed>
    where
        F: Fn(Wire) -> R,
        R: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = tokio::time::Instant::now() + self.timeout;
        let mut left = self.slots.len();
        let (mut renew, mut renewed) = (false, false);
        loop {
            let index = self.current.load(Ordering::Relaxed) % self.slots.len();
            let slot = &self.slots[index];
            let channel = self.channel(slot);
            let attempt = async {
                let (wire, token) = self.session.enter(channel).await?;
                f(wire)
                    .await
                    .inspect_err(|status| renew |= self.session.is_over(status, token))
            };
            let status = match tokio::time::timeout_at(deadline, attempt).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded(format!("no answer within {:?}", self.timeout)),
            };
            // etcd forgets a session that was idle; it has done nothing of the request.
            if std::mem::take(&mut renew) && !renewed {
                renewed = true;
                continue;
            }
            if moves_on(&status) {
                // Another caller may have moved on already.
                let next = (index + 1) % self.slots.len();
                let _ = self
                    .current
                    .compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
            }
            let again = match repeat {
                Repeat::Safe => moves_on(&status) && status.code() != Code::DeadlineExceeded,
                Repeat::IfNotSent => not_sent(&status),
            };
            if !again || left == 0 {
                return Err(Failed {
                    endpoint: slot.text.clone(),
                    status,
                });
            }
            left -= 1;
        }
    }
}

/// Whether another endpoint may do better.
fn moves_on(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded)
        || connection_lost(status)
        || status.code() == Code::Unknown && status.message().starts_with("Service was not ready")
}

fn connection_lost(status: &Status) -> bool {
    sources(status).any(|e| e.is::<tonic::transport::Error>())
}

/// Whether the request surely did not reach a server.
pub(crate) fn not_sent(status: &Status) -> bool {
    sources(status).any(|e| e.is::<ConnectError>())
}

fn sources(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let first: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(status);
    std::iter::successors(first, |e| e.source())
}

/// The innermost reason, which says more than "transport error".
pub(crate) fn root_cause(status: &Status) -> String {
    sources(status)
        .last()
        .map_or_else(|| status.message().to_owned(), ToString::to_string)
}
