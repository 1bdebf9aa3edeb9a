use std::{fmt, sync::Arc};

use caracal_api::{Kind, Resource};
use caracal_store::{ListOptions, Store};

type Keep = Arc<dyn Fn(&Resource) -> bool + Send + Sync>;

/// A kind to follow, all of it or a part.
#[derive(Clone)]
pub struct Source {
    pub(crate) kind: Kind,
    /// What the datastore itself is asked for.
    pub(crate) part: ListOptions,
    keep: Option<Keep>,
}

impl Source {
    /// All objects of the kind.
    #[must_use]
    pub fn all(kind: Kind) -> Self {
        Self::part(kind, ListOptions::default())
    }

    /// The objects that `part` asks for by namespace, name and labels: the others do not leave the datastore if it can
    /// tell them apart.
    #[must_use]
    pub fn part(kind: Kind, part: ListOptions) -> Self {
        Self {
            kind,
            part,
            keep: None,
        }
    }

    /// Of these only the objects for which `keep` holds. One that no longer does is gone.
    #[must_use]
    pub fn only(mut self, keep: impl Fn(&Resource) -> bool + Send + Sync + 'static) -> Self {
        self.keep = Some(Arc::new(keep));
        self
    }

    /// The same for the agent of a node: of what concerns other nodes the datastore may leave out what only their agents
    /// look at.
    #[must_use]
    pub fn for_node(mut self, node: &str) -> Self {
        self.part.for_node = Some(node.into());
        self
    }

    /// Asks a store for the beginning of this, which a [`Syncer`](crate::Syncer) will follow in a moment.
    pub fn prefetch(&self, store: &dyn Store) {
        store.prefetch(self.kind, &self.part);
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn keeps(&self, resource: &Resource) -> bool {
        self.keep.as_ref().is_none_or(|keep| keep(resource))
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.keep.is_none() && self.part.wants_all();
        write!(f, "{}{}", self.kind, if whole { "" } else { " (filtered)" })
    }
}
