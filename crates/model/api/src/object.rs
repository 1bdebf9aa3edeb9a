use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Kind, ObjectMeta, ResourceKey};

/// The status of a kind that has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoStatus {}

/// The spec of a kind.
pub trait Spec:
    Serialize + DeserializeOwned + Clone + std::fmt::Debug + PartialEq + Default + Send + Sync + 'static
{
    /// Which kind this is the spec of.
    const KIND: Kind;
    /// The kind's status; [`NoStatus`] where it has none.
    type Status: Serialize
        + DeserializeOwned
        + Clone
        + std::fmt::Debug
        + PartialEq
        + Default
        + Send
        + Sync
        + 'static;
}

/// An object: metadata, spec, and status where the kind has one. `apiVersion` and `kind` are added by
/// [`crate::Resource`], which knows them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Object<S: Spec> {
    /// Name, labels and so on.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What is wanted.
    #[serde(default)]
    pub spec: S,
    /// What is; written by controllers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<S::Status>,
}

impl<S: Spec> Object<S> {
    /// An object without a namespace.
    pub fn new(name: impl Into<String>, spec: S) -> Self {
        Self {
            metadata: ObjectMeta::named(name),
            spec,
            status: None,
        }
    }

    /// An object in a namespace.
    pub fn namespaced(namespace: impl Into<String>, name: impl Into<String>, spec: S) -> Self {
        Self {
            metadata: ObjectMeta::namespaced(namespace, name),
            spec,
            status: None,
        }
    }

    /// Its identity.
    pub fn key(&self) -> ResourceKey {
        ResourceKey::of(S::KIND, self.metadata.namespace.as_deref(), &self.metadata.name)
    }
}
