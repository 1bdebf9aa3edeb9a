use std::{fmt, str::FromStr};

use sha1::{Digest, Sha1};

use crate::ORCHESTRATOR_KUBERNETES;

/// The profile of a namespace.
#[must_use]
pub fn namespace_profile(namespace: &str) -> String {
    format!("kns.{namespace}")
}

/// The profile of a service account.
#[must_use]
pub fn service_account_profile(namespace: &str, name: &str) -> String {
    format!("ksa.{namespace}.{name}")
}

/// The host's side of a pod's veth pair: the prefix and eleven digits of a hash, 15 characters with `cali`.
#[must_use]
pub fn veth_name(prefix: &str, namespace: &str, workload: &str) -> String {
    let digest = Sha1::digest(format!("{namespace}.{workload}"));
    let hex: String = digest.iter().take(6).map(|b| format!("{b:02x}")).collect();
    format!("{prefix}{}", &hex[..11])
}

/// What the name of a WorkloadEndpoint is made of. Inside a part `-` is doubled, so that single ones separate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WepName {
    /// The node.
    pub node: String,
    /// `k8s`, `cni`, `libnetwork`, `openstack`, …
    pub orchestrator: String,
    /// The pod, the container id, or the workload; `libnetwork` has none.
    pub workload: String,
    /// The endpoint inside the workload, usually the interface.
    pub endpoint: String,
}

impl WepName {
    /// The name of a pod's endpoint.
    #[must_use]
    pub fn kubernetes(node: &str, pod: &str, endpoint: &str) -> Self {
        Self::new(node, ORCHESTRATOR_KUBERNETES, pod, endpoint)
    }

    /// The name of any endpoint.
    #[must_use]
    pub fn new(node: &str, orchestrator: &str, workload: &str, endpoint: &str) -> Self {
        Self {
            node: node.to_owned(),
            orchestrator: orchestrator.to_owned(),
            workload: workload.to_owned(),
            endpoint: endpoint.to_owned(),
        }
    }
}

impl fmt::Display for WepName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [&self.node, &self.orchestrator, &self.workload, &self.endpoint];
        let mut first = true;
        for part in parts.into_iter().filter(|p| !p.is_empty()) {
            if !first {
                f.write_str("-")?;
            }
            first = false;
            f.write_str(&part.replace('-', "--"))?;
        }
        Ok(())
    }
}

/// A text that is not the name of a WorkloadEndpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not the name of a WorkloadEndpoint: expected <node>-<orchestrator>-<workload>-<endpoint> with every '-' \
     inside a part doubled, for example node--1-k8s-web-eth0"
)]
pub struct BadWepName(pub String);

impl FromStr for WepName {
    type Err = BadWepName;

    fn from_str(text: &str) -> Result<Self, BadWepName> {
        let mut parts = vec![String::new()];
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match parts.last_mut() {
                Some(last) if c != '-' => last.push(c),
                Some(last) if chars.next_if_eq(&'-').is_some() => last.push('-'),
                _ => parts.push(String::new()),
            }
        }
        // No part may start or end with a dash: with one the name could be read in two ways.
        if parts
            .iter()
            .any(|p| p.is_empty() || p.starts_with('-') || p.ends_with('-'))
        {
            return Err(BadWepName(text.to_owned()));
        }
        match parts.as_slice() {
            [node, orchestrator, endpoint] if orchestrator == "libnetwork" => {
                Ok(Self::new(node, orchestrator, "", endpoint))
            }
            [node, orchestrator, workload, endpoint] => Ok(Self::new(node, orchestrator, workload, endpoint)),
            _ => Err(BadWepName(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_veth_name_is_a_hash_of_the_pod() {
        // As `printf default.web | sha1sum` has it.
        assert_eq!(veth_name("cali", "default", "web"), "cali68caf03a5f4");
        assert_eq!(veth_name("tap", "kube-system", "dns"), "tap8d2712636fb");
    }

    #[test]
    fn endpoint_names() {
        let n = WepName::kubernetes("node-1", "web-0", "eth0");
        assert_eq!(n.to_string(), "node--1-k8s-web--0-eth0");
        assert_eq!(n.to_string().parse::<WepName>().unwrap(), n);
        let n = WepName::new("n", "libnetwork", "", "ep");
        assert_eq!(n.to_string(), "n-libnetwork-ep");
        assert_eq!(n.to_string().parse::<WepName>().unwrap(), n);
        for bad in ["", "a", "a-b-c", "a-b-c-d-e", "-a-b-c-d", "a-b-c-d-", "a---b-c-d"] {
            let e = bad.parse::<WepName>().unwrap_err().to_string();
            assert!(e.contains("expected"), "{bad}: {e}");
        }
    }

    proptest! {
        #[test]
        fn every_name_reads_back(parts in proptest::array::uniform4("[a-z0-9]([-a-z0-9.]{0,12}[a-z0-9])?")) {
            let [a, b, c, d] = &parts;
            let n = WepName::new(a, b, c, d);
            prop_assert_eq!(n.to_string().parse::<WepName>().unwrap(), n);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<WepName>();
        }
    }
}
