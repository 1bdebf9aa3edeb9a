use serde::{Deserialize, Serialize, de};
use serde_json::{Map, Value};

use crate::{
    BgpConfigurationSpec, BgpFilterSpec, BgpPeerSpec, BlockAffinitySpec, CalicoNodeStatusSpec,
    ClusterInformationSpec, FelixConfigurationSpec, GlobalNetworkPolicySpec, GlobalNetworkSetSpec,
    HostEndpointSpec, IpPoolSpec, IpReservationSpec, IpamBlockSpec, IpamConfigurationSpec, IpamHandleSpec,
    Kind, KubeControllersConfigurationSpec, KubernetesEndpointSliceSpec, KubernetesServiceSpec,
    LiveMigrationSpec, NetworkPolicySpec, NetworkSetSpec, NodeSpec, Object, ObjectMeta, ProfileSpec,
    ResourceKey, StagedGlobalNetworkPolicySpec, StagedKubernetesNetworkPolicySpec, StagedNetworkPolicySpec,
    TierSpec, WorkloadEndpointSpec,
};

/// The API group and version of every kind here.
pub const API_VERSION: &str = "projectcalico.org/v3";

macro_rules! resource {
    ($($variant:ident($spec:ty);)*) => {
        /// An object of any kind.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Resource {
            $(#[doc = concat!("A `", stringify!($variant), "`.")] $variant(Box<Object<$spec>>),)*
        }

        impl Resource {
            /// The object's kind.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self { $(Resource::$variant(_) => Kind::$variant),* }
            }

            /// Its metadata.
            #[must_use]
            pub fn metadata(&self) -> &ObjectMeta {
                match self { $(Resource::$variant(o) => &o.metadata),* }
            }

            /// Its metadata, to change it.
            pub fn metadata_mut(&mut self) -> &mut ObjectMeta {
                match self { $(Resource::$variant(o) => &mut o.metadata),* }
            }

            /// Takes over the status of `other`; nothing happens when it is of another kind.
            pub fn copy_status_from(&mut self, other: &Resource) {
                match (self, other) {
                    $((Resource::$variant(a), Resource::$variant(b)) => a.status.clone_from(&b.status),)*
                    _ => {}
                }
            }

            /// Reads an object of a known kind; `apiVersion` and `kind`, if there, are not looked at.
            ///
            /// # Errors
            /// When the text is no JSON or a field has the wrong type.
            pub fn from_slice(kind: Kind, json: &[u8]) -> Result<Self, serde_json::Error> {
                Ok(match kind { $(Kind::$variant => Resource::$variant(Box::new(serde_json::from_slice(json)?))),* })
            }

            /// Reads an object of a known kind with any deserializer. Each deserializer is a copy of the reader of every
            /// kind in the program: outside this crate read text or values.
            pub(crate) fn deserialize_kind<'de, D: serde::Deserializer<'de>>(kind: Kind, d: D) -> Result<Self, D::Error> {
                Ok(match kind { $(Kind::$variant => Resource::$variant(Box::new(Deserialize::deserialize(d)?))),* })
            }

            /// The object without its type.
            fn fields(&self) -> Result<Value, serde_json::Error> {
                match self { $(Resource::$variant(o) => serde_json::to_value(o)),* }
            }
        }

        $(impl From<Object<$spec>> for Resource {
            fn from(o: Object<$spec>) -> Resource {
                Resource::$variant(Box::new(o))
            }
        })*

        $(impl TryFrom<Resource> for Object<$spec> {
            type Error = Resource;
            fn try_from(r: Resource) -> Result<Self, Resource> {
                match r {
                    Resource::$variant(o) => Ok(*o),
                    other => Err(other),
                }
            }
        })*
    };
}

resource! {
    NetworkPolicy(NetworkPolicySpec);
    GlobalNetworkPolicy(GlobalNetworkPolicySpec);
    Tier(TierSpec);
    NetworkSet(NetworkSetSpec);
    GlobalNetworkSet(GlobalNetworkSetSpec);
    Profile(ProfileSpec);
    WorkloadEndpoint(WorkloadEndpointSpec);
    HostEndpoint(HostEndpointSpec);
    Node(NodeSpec);
    IpPool(IpPoolSpec);
    IpamBlock(IpamBlockSpec);
    IpamHandle(IpamHandleSpec);
    BlockAffinity(BlockAffinitySpec);
    IpamConfiguration(IpamConfigurationSpec);
    ClusterInformation(ClusterInformationSpec);
    StagedNetworkPolicy(StagedNetworkPolicySpec);
    StagedGlobalNetworkPolicy(StagedGlobalNetworkPolicySpec);
    StagedKubernetesNetworkPolicy(StagedKubernetesNetworkPolicySpec);
    BgpConfiguration(BgpConfigurationSpec);
    BgpPeer(BgpPeerSpec);
    BgpFilter(BgpFilterSpec);
    IpReservation(IpReservationSpec);
    KubeControllersConfiguration(KubeControllersConfigurationSpec);
    CalicoNodeStatus(CalicoNodeStatusSpec);
    FelixConfiguration(FelixConfigurationSpec);
    KubernetesService(KubernetesServiceSpec);
    KubernetesEndpointSlice(KubernetesEndpointSliceSpec);
    LiveMigration(LiveMigrationSpec);
}

impl Resource {
    /// The object's identity.
    #[must_use]
    pub fn key(&self) -> ResourceKey {
        let m = self.metadata();
        ResourceKey::of(self.kind(), m.namespace.as_deref(), &m.name)
    }

    /// The object as JSON, `apiVersion` and `kind` first.
    #[must_use]
    pub fn to_value(&self) -> Value {
        // The types hold no map with keys other than strings and no number that JSON lacks but NaN, which becomes null.
        let Ok(Value::Object(fields)) = self.fields() else {
            return Value::Null;
        };
        let mut whole = Map::with_capacity(fields.len() + 2);
        whole.insert("apiVersion".to_owned(), Value::from(API_VERSION));
        whole.insert("kind".to_owned(), Value::from(self.kind().as_str()));
        whole.extend(fields);
        Value::Object(whole)
    }

    /// Reads an object of a known kind from JSON; `apiVersion` and `kind` are not looked at.
    ///
    /// # Errors
    /// When a field has the wrong type.
    pub fn from_value(kind: Kind, value: Value) -> Result<Self, serde_json::Error> {
        // By way of text, so that the program holds one reader of every kind for JSON and not two.
        let text = serde_json::to_vec(&value)?;
        Self::from_slice(kind, &text).map_err(|e| {
            let place = format!(" at line {} column {}", e.line(), e.column());
            let message = e.to_string();
            de::Error::custom(message.strip_suffix(&place).unwrap_or(&message))
        })
    }
}

/// By way of a value, so that the program holds one writer of every kind, whatever it writes.
impl Serialize for Resource {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(s)
    }
}

impl<'de> Deserialize<'de> for Resource {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(d)?;
        let kind = value
            .get("kind")
            .and_then(Value::as_str)
            .ok_or_else(|| de::Error::missing_field("kind"))?;
        let kind =
            Kind::parse(kind).ok_or_else(|| de::Error::custom(format!("kind {kind:?} is not known")))?;
        Resource::from_value(kind, value).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_round_trips_with_its_type_first() {
        let text = r#"{"apiVersion":"projectcalico.org/v3","kind":"NetworkPolicy","metadata":{"name":"a","namespace":"b"},"spec":{"order":1.5,"ingress":[{"action":"Allow","protocol":"TCP","source":{"nets":["10.0.0.0/8"]},"destination":{"ports":[80,"90:99","http"]}}],"selector":"all()","types":["Ingress"]}}"#;
        let r: Resource = serde_json::from_str(text).unwrap();
        assert_eq!(r.key(), ResourceKey::namespaced(Kind::NetworkPolicy, "b", "a"));
        assert_eq!(serde_json::to_string(&r).unwrap(), text);
    }

    #[test]
    fn whole_orders_have_no_fraction() {
        for (order, want) in [
            ("100", "100"),
            ("100.0", "100"),
            ("-2.50", "-2.5"),
            ("1e300", "1e+300"),
        ] {
            let text = format!(r#"{{"metadata":{{"name":"a"}},"spec":{{"order":{order}}}}}"#);
            for kind in [Kind::Tier, Kind::GlobalNetworkPolicy] {
                let r = Resource::from_slice(kind, text.as_bytes()).unwrap();
                let written = r.to_value()["spec"]["order"].to_string();
                assert_eq!(written, want);
            }
        }
    }

    #[test]
    fn nulls_of_go_are_read() {
        let r = Resource::from_slice(
            Kind::GlobalNetworkPolicy,
            br#"{"metadata":{"name":"a","creationTimestamp":null,"labels":null},"spec":{"ingress":null}}"#,
        );
        assert!(r.is_ok(), "{r:?}");
    }
}
