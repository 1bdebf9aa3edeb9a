use std::{fmt, sync::Arc};

use caracal_api::{Kind, Resource};

type Keep = Arc<dyn Fn(&Resource) -> bool + Send + Sync>;

/// A kind to follow, all of it or a part.
#[derive(Clone)]
pub struct Source {
    pub(crate) kind: Kind,
    keep: Option<Keep>,
}

impl Source {
    /// All objects of the kind.
    #[must_use]
    pub fn all(kind: Kind) -> Self {
        Self { kind, keep: None }
    }

    /// The objects for which `keep` holds. One that no longer does is gone.
    pub fn only(kind: Kind, keep: impl Fn(&Resource) -> bool + Send + Sync + 'static) -> Self {
        Self {
            kind,
            keep: Some(Arc::new(keep)),
        }
    }

    pub(crate) fn keeps(&self, resource: &Resource) -> bool {
        self.keep.as_ref().is_none_or(|keep| keep(resource))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = if self.keep.is_some() { " (filtered)" } else { "" };
        write!(f, "{}{part}", self.kind)
    }
}

/// What the node agent needs.
#[must_use]
pub fn felix_sources() -> Vec<Source> {
    // Settings and tiers first: they are few, and the rest is read in their light.
    let kinds = [
        Kind::ClusterInformation,
        Kind::FelixConfiguration,
        Kind::Tier,
        Kind::Node,
        Kind::IpPool,
        Kind::IpamBlock,
        Kind::Profile,
        Kind::GlobalNetworkPolicy,
        Kind::NetworkPolicy,
        Kind::GlobalNetworkSet,
        Kind::NetworkSet,
        Kind::HostEndpoint,
        Kind::WorkloadEndpoint,
    ];
    kinds.into_iter().map(Source::all).collect()
}
