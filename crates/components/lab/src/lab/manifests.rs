//! Manifests: files to what the lab can do with them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::bail;
use caracal_api::{Document, FieldPath, Foreign, Kind, ManifestObject, Problem, Resource};
use caracal_manifests::Depth;
use caracal_store::Checked;

use super::state::{Pod, PodPort};
use crate::prober::Transport;

/// What a document asks for.
#[derive(Debug, Clone)]
pub(super) enum Wish {
    /// A namespace with its default service account.
    Namespace(Box<caracal_convert::Namespace>),
    /// A service account, as its profile, and where it is.
    ServiceAccount(Resource, String),
    /// A policy of Kubernetes, as ours, and where it is.
    KubePolicy(Resource, String),
    /// A service or a slice of its endpoints, and where it is.
    Service(Resource, String),
    /// An object of Calico.
    Calico(Resource),
    /// A pod; its node is empty when it may be any.
    Pod(Box<Pod>),
}

/// A document.
#[derive(Debug, Clone)]
pub(super) struct Manifest {
    /// What it is, for messages.
    pub(super) name: String,
    /// Where it stands.
    pub(super) document: Document,
    /// What it asks for.
    pub(super) wish: Wish,
}

impl Manifest {
    /// The order in which things are made: what others need comes first.
    pub(super) fn rank(&self) -> u8 {
        match &self.wish {
            Wish::Namespace(_) => 0,
            Wish::ServiceAccount(..) => 1,
            Wish::Calico(r) => match r.kind() {
                Kind::Profile => 2,
                Kind::Tier => 3,
                Kind::NetworkSet | Kind::GlobalNetworkSet => 5,
                Kind::NetworkPolicy | Kind::GlobalNetworkPolicy => 6,
                _ => 4,
            },
            Wish::Service(..) => 5,
            Wish::KubePolicy(..) => 6,
            Wish::Pod(_) => 7,
        }
    }

    /// An error about a field of it.
    pub(super) fn refuse(&self, field: &str, message: impl Into<String>) -> String {
        refusal(&self.document, field, message)
    }
}

fn refusal(document: &Document, field: &str, message: impl Into<String>) -> String {
    let problem = Problem {
        path: FieldPath::of(field),
        line: None,
        message: message.into(),
    };
    document.refuse(vec![problem]).to_string()
}

/// Reads files, directories and `-`; all that is wrong with them is one error.
pub(super) fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Manifest>> {
    let mut manifests = Vec::new();
    let mut errors = Vec::new();
    for (source, text) in texts(files)? {
        for document in caracal_api::parse(&source, &text) {
            let read = document.map_err(|e| e.to_string()).and_then(interpret);
            match read {
                Ok(manifest) => manifests.push(manifest),
                Err(e) => errors.push(e),
            }
        }
    }
    let mut seen: BTreeMap<&str, &Manifest> = BTreeMap::new();
    for manifest in &manifests {
        if let Some(first) = seen.insert(&manifest.name, manifest) {
            let message = format!("it is given twice; the first is in {}", first.document.origin);
            errors.push(manifest.refuse("metadata.name", message));
        }
    }
    if !errors.is_empty() {
        bail!("{}", errors.join("\n"));
    }
    manifests.sort_by_key(Manifest::rank);
    Ok(manifests)
}

fn texts(files: &[PathBuf]) -> anyhow::Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for path in files {
        texts.extend(caracal_manifests::texts(
            path,
            Depth::Flat,
            &mut std::io::stdin(),
        )?);
    }
    Ok(texts)
}

fn interpret(mut document: Document) -> Result<Manifest, String> {
    let wish = match &mut document.object {
        ManifestObject::Calico(resource) => {
            if resource.kind().namespaced() {
                resource
                    .metadata_mut()
                    .namespace
                    .get_or_insert_with(default_namespace);
            }
            let mut resource = resource.clone();
            Checked::check_alone(&mut resource).map_err(|e| format!("{}: {e}", document.origin))?;
            Wish::Calico(resource)
        }
        ManifestObject::Foreign(object) => {
            caracal_convert::settle_namespace(object);
            let object = object.clone();
            foreign(&document, &object)?
        }
    };
    Ok(Manifest {
        name: document.describe(),
        document,
        wish,
    })
}

fn default_namespace() -> String {
    "default".to_owned()
}

fn foreign(document: &Document, object: &Foreign) -> Result<Wish, String> {
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let name_field = |field: &str, name: &str, dots: bool| {
        if is_dns_name(name, dots) {
            return Ok(());
        }
        let allowed = "lower-case letters, digits and '-' are allowed, with a letter or digit first and last";
        Err(refusal(
            document,
            field,
            format!("{name:?} is not allowed: {allowed}"),
        ))
    };
    name_field("metadata.name", &object.metadata.name, object.kind != "Namespace")?;
    if object.kind == "Pod" {
        return pod(document, object).map(|pod| Wish::Pod(Box::new(pod)));
    }
    let converted = caracal_convert::foreign(object).map_err(|e| format!("{}: {e}", document.origin))?;
    let Some(mut resource) = converted.into_iter().next() else {
        return Err(refusal(document, "kind", "nothing comes of it"));
    };
    if object.kind == "Namespace" {
        let metadata = object.metadata.clone();
        return Ok(Wish::Namespace(Box::new(caracal_convert::Namespace { metadata })));
    }
    name_field("metadata.namespace", &namespace, false)?;
    Ok(match object.kind.as_str() {
        "ServiceAccount" => Wish::ServiceAccount(resource, namespace),
        "Service" | "EndpointSlice" => {
            Checked::check_alone(&mut resource).map_err(|e| format!("{}: {e}", document.origin))?;
            Wish::Service(resource, namespace)
        }
        _ => Wish::KubePolicy(resource, namespace),
    })
}

/// A DNS label, or with dots a DNS name, as Kubernetes wants names to be.
fn is_dns_name(name: &str, dots: bool) -> bool {
    let part = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    let longest = if dots { 253 } else { 63 };
    name.len() <= longest
        && if dots {
            name.split('.').all(part)
        } else {
            part(name)
        }
}

fn pod(document: &Document, object: &Foreign) -> Result<Pod, String> {
    let kube: caracal_convert::Pod =
        caracal_convert::read_loosely(object).map_err(|fatal| document.refuse(vec![fatal]).to_string())?;
    let namespace = kube.metadata.namespace.as_deref().unwrap_or("default");
    if !is_dns_name(namespace, false) {
        let message = format!("{namespace:?} is not the name of a namespace");
        return Err(refusal(document, "metadata.namespace", message));
    }
    if kube.spec.host_network {
        let message = "a pod of the lab has a network of its own: remove this field";
        return Err(refusal(document, "spec.hostNetwork", message));
    }
    let mut pod = Pod::new(namespace, &kube.metadata.name, &kube.spec.node_name);
    pod.labels.clone_from(&kube.metadata.labels);
    if !kube.spec.service_account_name.is_empty() {
        pod.service_account.clone_from(&kube.spec.service_account_name);
    }
    for (c, container) in kube.spec.containers.iter().enumerate() {
        for (p, port) in container.ports.iter().enumerate() {
            let field = |name: &str| format!("spec.containers[{c}].ports[{p}].{name}");
            let protocol = if port.protocol.is_empty() {
                "TCP"
            } else {
                &port.protocol
            };
            let Some(protocol) = Transport::parse(protocol) else {
                let message = format!("{protocol:?} is not allowed: TCP, UDP and SCTP are");
                return Err(refusal(document, &field("protocol"), message));
            };
            let number = u16::try_from(port.container_port).ok().filter(|n| *n > 0);
            let Some(number) = number else {
                let message = format!("{} is not a port: 1 to 65535", port.container_port);
                return Err(refusal(document, &field("containerPort"), message));
            };
            pod.ports.push(PodPort {
                name: port.name.clone(),
                protocol,
                port: number,
            });
        }
    }
    Ok(pod)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_text(text: &str) -> anyhow::Result<Vec<Manifest>> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.yaml");
        fs::write(&file, text).unwrap();
        read(&[file])
    }

    #[test]
    fn documents_come_in_the_order_in_which_they_are_needed() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: shop, labels: {a: b}}\n\
                    spec:\n  nodeName: node-2\n  serviceAccountName: s\n  containers:\n  - ports:\n    \
                    - {name: dns, containerPort: 53, protocol: UDP}\n    - {containerPort: 80}\n---\n\
                    apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: d, namespace: shop}\n\
                    spec: {podSelector: {}}\n---\n\
                    apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: t}\nspec: {order: 1}\n---\n\
                    apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: s, namespace: shop}\n---\n\
                    apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
        let manifests = read_text(text).unwrap();
        let names: Vec<&str> = manifests.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "Namespace shop",
                "ServiceAccount shop/s",
                "Tier t",
                "NetworkPolicy shop/d",
                "Pod shop/p"
            ]
        );
        let Wish::Pod(pod) = &manifests[4].wish else {
            panic!("{:?}", manifests[4].wish)
        };
        assert_eq!((pod.node.as_str(), pod.service_account.as_str()), ("node-2", "s"));
        let ports: Vec<_> = pod
            .ports
            .iter()
            .map(|p| (p.name.as_str(), p.protocol, p.port))
            .collect();
        assert_eq!(ports, [("dns", Transport::Udp, 53), ("", Transport::Tcp, 80)]);
        let Wish::KubePolicy(policy, _) = &manifests[3].wish else {
            panic!("{:?}", manifests[3].wish)
        };
        assert_eq!(policy.metadata().name, "knp.default.d");
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {hostNetwork: true}\n---\n\
                    apiVersion: v1\nkind: Namespace\nmetadata: {name: a.b}\n---\n\
                    apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: g}\n\
                    spec: {selector: 'a =='}\n";
        let error = read_text(text).unwrap_err().to_string();
        for part in [
            "document 1, Pod \"default/p\": spec.hostNetwork",
            "document 2, Namespace \"a.b\": metadata.name",
            "document 3",
            "spec.selector",
        ] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn a_directory_without_manifests_is_a_mistake() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("README"), "not this").unwrap();
        let error = read(&[dir.path().to_owned()]).unwrap_err().to_string();
        assert!(error.contains(".yaml"), "{error}");
    }

    #[test]
    fn names_are_dns_names() {
        for good in ["a", "a-1", "0a"] {
            assert!(is_dns_name(good, false) && is_dns_name(good, true), "{good}");
        }
        assert!(is_dns_name("a.b", true) && !is_dns_name("a.b", false));
        for bad in ["", "-a", "a-", "A", "a_b", "a..b", ".", &"a".repeat(254)] {
            assert!(!is_dns_name(bad, true), "{bad}");
        }
    }
}
