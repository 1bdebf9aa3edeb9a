//! Reports of nodes under `/calico/felix/v2/`, where Calico's agents leave theirs.

use std::time::Duration;

use async_trait::async_trait;
use caracal_store::{Lease, ReportKey, Reports, StoreError, Subject};
use caracal_wire::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, PutRequest,
    RangeRequest, lease_client::LeaseClient,
};
use futures::stream;
use serde_json::Value;
use tonic::{Code, Response, Status};

use crate::{
    EtcdStore, keys,
    status::{About, explain},
    store::kv,
    transport::Repeat,
};

const ROOT: &str = "/calico/felix/v2/";
/// How Calico writes that there are no regions.
const NO_REGION: &str = "no-region";
const REGION: &str = "region-";

/// A part of a key: `/` separates, so it is written otherwise.
fn escaped(part: &str) -> String {
    part.replace('%', "%25").replace('/', "%2F")
}

fn plain(part: &str) -> String {
    part.replace("%2F", "/").replace("%2f", "/").replace("%25", "%")
}

fn path(key: &ReportKey) -> String {
    let region = match key.region.as_str() {
        "" => NO_REGION.to_owned(),
        name => format!("{REGION}{}", escaped(name)),
    };
    let subject = match &key.subject {
        Subject::Agent => "status".to_owned(),
        Subject::LastSeen => "last_reported_status".to_owned(),
        Subject::Workload {
            orchestrator,
            workload,
            endpoint,
        } => format!(
            "workload/{}/{}/endpoint/{}",
            escaped(orchestrator),
            escaped(workload),
            escaped(endpoint)
        ),
        Subject::Host { endpoint } => format!("endpoint/{}", escaped(endpoint)),
    };
    format!("{ROOT}{region}/host/{}/{subject}", escaped(&key.node))
}

/// Which report a key is; `None` for keys that are none.
fn parse(path: &[u8]) -> Option<ReportKey> {
    let text = std::str::from_utf8(path).ok()?.strip_prefix(ROOT)?;
    let parts: Vec<_> = text.split('/').collect();
    let (region, node, subject) = match parts.as_slice() {
        [region, "host", node, "status"] => (region, node, Subject::Agent),
        [region, "host", node, "last_reported_status"] => (region, node, Subject::LastSeen),
        [region, "host", node, "endpoint", endpoint] => {
            let endpoint = plain(endpoint);
            (region, node, Subject::Host { endpoint })
        }
        [
            region,
            "host",
            node,
            "workload",
            orchestrator,
            workload,
            "endpoint",
            endpoint,
        ] => {
            let subject = Subject::Workload {
                orchestrator: plain(orchestrator),
                workload: plain(workload),
                endpoint: plain(endpoint),
            };
            (region, node, subject)
        }
        _ => return None,
    };
    let region = match *region {
        NO_REGION => String::new(),
        other => plain(other.strip_prefix(REGION)?),
    };
    Some(ReportKey {
        region,
        node: plain(node),
        subject,
    })
}

fn lost(status: &Status) -> bool {
    status.code() == Code::NotFound && status.message().contains("lease not found")
}

#[async_trait]
impl Reports for EtcdStore {
    async fn grant(&self, ttl: Duration) -> Result<Lease, StoreError> {
        let request = LeaseGrantRequest {
            ttl: i64::try_from(ttl.as_secs().max(1)).unwrap_or(i64::MAX),
            id: 0,
        };
        // One that was granted twice ends by itself.
        let granted = self.transport().call(Repeat::Safe, |wire| async move {
            LeaseClient::new(wire).lease_grant(request).await
        });
        let granted = granted.await.map_err(|f| explain(&f, About::Report))?;
        Ok(Lease(granted.id))
    }

    async fn keep(&self, lease: Lease) -> Result<bool, StoreError> {
        let kept = self.transport().call(Repeat::Safe, |wire| async move {
            let request = LeaseKeepAliveRequest { id: lease.0 };
            let mut answers = LeaseClient::new(wire)
                .lease_keep_alive(stream::iter([request]))
                .await?
                .into_inner();
            let answer = answers.message().await?;
            answer
                .map(Response::new)
                .ok_or_else(|| Status::unavailable("no answer to the renewal of a lease"))
        });
        let kept = kept.await.map_err(|f| explain(&f, About::Report))?;
        Ok(kept.ttl > 0)
    }

    async fn revoke(&self, lease: Lease) -> Result<(), StoreError> {
        let revoked = self.transport().call(Repeat::Safe, |wire| async move {
            let request = LeaseRevokeRequest { id: lease.0 };
            LeaseClient::new(wire).lease_revoke(request).await
        });
        match revoked.await {
            Err(f) if !lost(&f.status) => Err(explain(&f, About::Report)),
            _ => Ok(()),
        }
    }

    async fn report(&self, key: &ReportKey, value: &Value, lease: Option<Lease>) -> Result<bool, StoreError> {
        let request = PutRequest {
            key: path(key).into(),
            value: value.to_string().into(),
            lease: lease.map_or(0, |l| l.0),
            ..PutRequest::default()
        };
        // The same again does no harm: a report has one writer.
        let put = self.transport().call(Repeat::Safe, |wire| {
            let request = request.clone();
            async move { kv(wire).put(request).await }
        });
        match put.await {
            Ok(_) => Ok(true),
            Err(f) if lost(&f.status) => Ok(false),
            Err(f) => Err(explain(&f, About::Report)),
        }
    }

    async fn retract(&self, key: &ReportKey) -> Result<(), StoreError> {
        let request = DeleteRangeRequest {
            key: path(key).into(),
            ..DeleteRangeRequest::default()
        };
        let deleted = self.transport().call(Repeat::Safe, |wire| {
            let request = request.clone();
            async move { kv(wire).delete_range(request).await }
        });
        deleted.await.map(drop).map_err(|f| explain(&f, About::Report))
    }

    async fn reported(&self, node: Option<&str>) -> Result<Vec<(ReportKey, Value)>, StoreError> {
        let span = keys::Span::prefix(ROOT.to_owned());
        let mut request = RangeRequest {
            key: span.start.into(),
            range_end: span.end.into(),
            limit: 2_000,
            ..RangeRequest::default()
        };
        let mut found = Vec::new();
        loop {
            let answer = self
                .range(&request)
                .await
                .map_err(|f| explain(&f, About::Report))?;
            for pair in &answer.kvs {
                let Some(key) = parse(&pair.key).filter(|k| node.is_none_or(|n| n == k.node)) else {
                    continue;
                };
                let value = serde_json::from_slice(&pair.value).unwrap_or_default();
                found.push((key, value));
            }
            match answer.kvs.last() {
                Some(last) if answer.more => request.key = [&last.key[..], &[0]].concat().into(),
                _ => return Ok(found),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_calicos_and_come_back() {
        let of = |region: &str, subject| ReportKey {
            region: region.into(),
            node: "n1".into(),
            subject,
        };
        let workload = |workload: &str| Subject::Workload {
            orchestrator: "k8s".into(),
            workload: workload.into(),
            endpoint: "eth0".into(),
        };
        let host = Subject::Host {
            endpoint: "eth0".into(),
        };
        for (key, text) in [
            (
                of("", Subject::Agent),
                "/calico/felix/v2/no-region/host/n1/status",
            ),
            (
                of("r1", Subject::LastSeen),
                "/calico/felix/v2/region-r1/host/n1/last_reported_status",
            ),
            (
                of("", workload("shop/web-1")),
                "/calico/felix/v2/no-region/host/n1/workload/k8s/shop%2Fweb-1/endpoint/eth0",
            ),
            (of("", host), "/calico/felix/v2/no-region/host/n1/endpoint/eth0"),
        ] {
            assert_eq!(path(&key), text);
            assert_eq!(parse(text.as_bytes()), Some(key));
        }
        let odd = of("", workload("50%2F/x"));
        assert_eq!(parse(path(&odd).as_bytes()), Some(odd));
        for foreign in [
            "/calico/felix/v2/no-region/host/n1",
            "/calico/felix/v2/x/host/n1/status",
            "/x",
        ] {
            assert_eq!(parse(foreign.as_bytes()), None, "{foreign}");
        }
    }
}
