use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::BadName;

/// The kind of object a policy came from. Identity of a policy is (kind, namespace, name).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PolicyKind {
    /// `projectcalico.org/v3` NetworkPolicy.
    NetworkPolicy,
    /// `projectcalico.org/v3` GlobalNetworkPolicy.
    GlobalNetworkPolicy,
    /// `networking.k8s.io/v1` NetworkPolicy.
    KubernetesNetworkPolicy,
    /// `policy.networking.k8s.io` ClusterNetworkPolicy.
    KubernetesClusterNetworkPolicy,
    /// `projectcalico.org/v3` StagedNetworkPolicy.
    StagedNetworkPolicy,
    /// `projectcalico.org/v3` StagedGlobalNetworkPolicy.
    StagedGlobalNetworkPolicy,
    /// `projectcalico.org/v3` StagedKubernetesNetworkPolicy.
    StagedKubernetesNetworkPolicy,
}

impl PolicyKind {
    /// The kind's name as the API has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NetworkPolicy => "NetworkPolicy",
            Self::GlobalNetworkPolicy => "GlobalNetworkPolicy",
            Self::KubernetesNetworkPolicy => "KubernetesNetworkPolicy",
            Self::KubernetesClusterNetworkPolicy => "KubernetesClusterNetworkPolicy",
            Self::StagedNetworkPolicy => "StagedNetworkPolicy",
            Self::StagedGlobalNetworkPolicy => "StagedGlobalNetworkPolicy",
            Self::StagedKubernetesNetworkPolicy => "StagedKubernetesNetworkPolicy",
        }
    }

    /// Whether the policy is calculated but never enforced.
    #[must_use]
    pub fn is_staged(self) -> bool {
        matches!(
            self,
            Self::StagedNetworkPolicy | Self::StagedGlobalNetworkPolicy | Self::StagedKubernetesNetworkPolicy
        )
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PolicyKind {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        Ok(match s {
            "NetworkPolicy" => Self::NetworkPolicy,
            "GlobalNetworkPolicy" => Self::GlobalNetworkPolicy,
            "KubernetesNetworkPolicy" => Self::KubernetesNetworkPolicy,
            "KubernetesClusterNetworkPolicy" => Self::KubernetesClusterNetworkPolicy,
            "StagedNetworkPolicy" => Self::StagedNetworkPolicy,
            "StagedGlobalNetworkPolicy" => Self::StagedGlobalNetworkPolicy,
            "StagedKubernetesNetworkPolicy" => Self::StagedKubernetesNetworkPolicy,
            _ => {
                return Err(BadName {
                    what: "policy kind",
                    text: s.to_owned(),
                    why: "it is no kind of policy",
                });
            }
        })
    }
}

/// What precedes the name of a Kubernetes policy in Calico's.
const KUBERNETES_POLICY_PREFIX: &str = "knp.default.";

/// The identity of a policy. `Display` is `Kind/namespace/name`, or `Kind/name` where there is no namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyId {
    /// Which kind of object the policy is.
    pub kind: PolicyKind,
    /// The namespace; empty for a global policy.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl PolicyId {
    /// A policy in a namespace.
    #[must_use]
    pub fn namespaced(kind: PolicyKind, namespace: &str, name: &str) -> Self {
        Self {
            kind,
            namespace: Arc::from(namespace),
            name: Arc::from(name),
        }
    }

    /// A policy without a namespace.
    #[must_use]
    pub fn global(kind: PolicyKind, name: &str) -> Self {
        Self::namespaced(kind, "", name)
    }

    /// The policy that this staged one would make, replace or delete; nothing for one that is not staged.
    #[must_use]
    pub fn enforced(&self) -> Option<Self> {
        let (kind, name) = match self.kind {
            PolicyKind::StagedNetworkPolicy => (PolicyKind::NetworkPolicy, Arc::clone(&self.name)),
            PolicyKind::StagedGlobalNetworkPolicy => {
                (PolicyKind::GlobalNetworkPolicy, Arc::clone(&self.name))
            }
            PolicyKind::StagedKubernetesNetworkPolicy => {
                let name = format!("{KUBERNETES_POLICY_PREFIX}{}", self.name);
                (PolicyKind::NetworkPolicy, name.into())
            }
            _ => return None,
        };
        Some(Self {
            kind,
            namespace: Arc::clone(&self.namespace),
            name,
        })
    }

    /// The staged policies that would make, replace or delete this one, if they exist.
    pub fn staged(&self) -> impl Iterator<Item = Self> + use<> {
        let of = |kind, name: &str| Self::namespaced(kind, &self.namespace, name);
        let (plain, kubernetes) = match self.kind {
            PolicyKind::GlobalNetworkPolicy => {
                (Some(of(PolicyKind::StagedGlobalNetworkPolicy, &self.name)), None)
            }
            PolicyKind::NetworkPolicy => {
                let own = self.name.strip_prefix(KUBERNETES_POLICY_PREFIX);
                (
                    Some(of(PolicyKind::StagedNetworkPolicy, &self.name)),
                    own.map(|name| of(PolicyKind::StagedKubernetesNetworkPolicy, name)),
                )
            }
            _ => (None, None),
        };
        plain.into_iter().chain(kubernetes)
    }

    /// The string whose byte order breaks ties between policies of equal order: `name/namespace/kind`
    /// (`calico-components.md` §3.1; `-` and `.` sort before `/`, so this is not the order of the tuple).
    #[must_use]
    pub fn tie_break(&self) -> String {
        format!("{}/{}/{}", self.name, self.namespace, self.kind)
    }
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.kind, self.name)
        } else {
            write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
        }
    }
}

impl fmt::Debug for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PolicyId {
    type Err = BadName;
    fn from_str(s: &str) -> Result<Self, BadName> {
        let bad = || BadName {
            what: "policy id",
            text: s.to_owned(),
            why: "Kind/[namespace/]name is expected",
        };
        let parts: Vec<&str> = s.split('/').collect();
        match parts.as_slice() {
            [kind, name] => Ok(Self::global(kind.parse()?, name)),
            [kind, ns, name] => Ok(Self::namespaced(kind.parse()?, ns, name)),
            _ => Err(bad()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tie_break_is_not_tuple_order() {
        let a = PolicyId::global(PolicyKind::GlobalNetworkPolicy, "a");
        let ab = PolicyId::global(PolicyKind::GlobalNetworkPolicy, "a-b");
        assert!(ab.tie_break() < a.tie_break());
        assert!(a < ab);
    }

    #[test]
    fn a_staged_policy_is_about_an_enforced_one() {
        use PolicyKind::{
            GlobalNetworkPolicy, NetworkPolicy, StagedGlobalNetworkPolicy, StagedKubernetesNetworkPolicy,
            StagedNetworkPolicy,
        };
        for (staged, enforced) in [
            (
                PolicyId::namespaced(StagedNetworkPolicy, "n", "x"),
                PolicyId::namespaced(NetworkPolicy, "n", "x"),
            ),
            (
                PolicyId::global(StagedGlobalNetworkPolicy, "x"),
                PolicyId::global(GlobalNetworkPolicy, "x"),
            ),
            (
                PolicyId::namespaced(StagedKubernetesNetworkPolicy, "n", "x"),
                PolicyId::namespaced(NetworkPolicy, "n", "knp.default.x"),
            ),
        ] {
            assert_eq!(staged.enforced().as_ref(), Some(&enforced));
            assert!(enforced.staged().any(|s| s == staged));
            assert!(
                enforced
                    .staged()
                    .all(|s| s.enforced().as_ref() == Some(&enforced))
            );
            assert_eq!((enforced.enforced(), staged.staged().count()), (None, 0));
        }
    }

    #[test]
    fn round_trips_as_text() {
        for id in [
            PolicyId::namespaced(PolicyKind::NetworkPolicy, "ns", "x"),
            PolicyId::global(PolicyKind::StagedGlobalNetworkPolicy, "y"),
        ] {
            assert_eq!(id.to_string().parse::<PolicyId>().unwrap(), id);
        }
        assert!("Nope/x".parse::<PolicyId>().is_err());
    }
}
