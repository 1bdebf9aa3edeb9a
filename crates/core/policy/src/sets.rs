//! The IP sets that rules name: identity, who names them, and what is emitted.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use caracal_desired::{IpSetKind, IpSetMember};
use caracal_ids::IpSetId;
use caracal_net::Proto;
use caracal_selector::{Selector, Symbol};
use sha2::{Digest, Sha256};

use crate::store::{Map, Set, Slab};

/// A port that endpoints declare by name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct NamedPort {
    /// The protocol it must have; any when absent.
    pub(crate) proto: Option<Proto>,
    pub(crate) name: Arc<str>,
}

/// What a set is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SetKey {
    /// Addresses of what the selector selects, or ports of that name there.
    Selected {
        selector: Selector,
        port: Option<NamedPort>,
    },
    /// Endpoints of a service: with their ports, or their addresses only.
    Service {
        namespace: Arc<str>,
        name: Arc<str>,
        ports: bool,
    },
}

impl SetKey {
    pub(crate) fn kind(&self) -> IpSetKind {
        match self {
            Self::Selected { port: None, .. } | Self::Service { ports: false, .. } => IpSetKind::Net,
            Self::Selected { .. } | Self::Service { .. } => IpSetKind::IpPort,
        }
    }

    /// What people read of it.
    pub(crate) fn about(&self) -> Arc<str> {
        let text = match self {
            Self::Selected { selector, port: None } => return selector.canonical().into(),
            Self::Selected {
                selector,
                port: Some(NamedPort { proto, name }),
            } => match proto {
                Some(proto) => format!("{proto} port {name} of {}", selector.canonical()),
                None => format!("port {name} of {}", selector.canonical()),
            },
            Self::Service {
                namespace,
                name,
                ports: true,
            } => format!("service {namespace}/{name}"),
            Self::Service {
                namespace,
                name,
                ports: false,
            } => format!("addresses of service {namespace}/{name}"),
        };
        text.into()
    }

    /// `s:` (selector), `n:` (named port), `svc:` or `svcnoport:` (service) and 96 bits of a hash of all that the set
    /// is of.
    fn id(&self) -> IpSetId {
        let mut hash = Sha256::new();
        let prefix = match self {
            Self::Selected { selector, port } => {
                if let Some(port) = port {
                    hash.update([port.proto.map_or(0, |p| p.0)]);
                    hash.update(port.name.as_bytes());
                    hash.update([0]);
                }
                hash.update(selector.canonical().as_bytes());
                if port.is_none() { "s:" } else { "n:" }
            }
            Self::Service {
                namespace,
                name,
                ports,
            } => {
                hash.update(namespace.as_bytes());
                hash.update([0]);
                hash.update(name.as_bytes());
                if *ports { "svc:" } else { "svcnoport:" }
            }
        };
        IpSetId::new(format!(
            "{prefix}{}",
            URL_SAFE_NO_PAD.encode(&hash.finalize()[..12])
        ))
    }
}

/// Where the members of a set come from.
#[derive(Debug)]
pub(crate) enum Origin {
    /// From the index of the cluster.
    Selected {
        selector: u32,
        /// The port's name as a word.
        port: Option<(Option<Proto>, Symbol)>,
    },
    /// From slices; each member with the number of those that hold it.
    Service(Map<IpSetMember, u32>),
}

/// A set whose members are followed.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) origin: Origin,
    /// Members that something happened to since the last flush, and whether they were there before.
    pub(crate) touched: Map<IpSetMember, bool>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: SetKey,
    pub(crate) id: IpSetId,
    /// How many rules of known policies and profiles name it.
    named: u32,
    /// How many emitted policies and profiles name it, each as often as its rules do.
    used: u32,
    pub(crate) live: Option<Live>,
}

impl Entry {
    pub(crate) fn is_used(&self) -> bool {
        self.used > 0
    }
}

/// Every set that a rule names, whether it is needed or not.
#[derive(Debug, Default)]
pub(crate) struct SetTable {
    entries: Slab<Entry>,
    by_key: Map<SetKey, u32>,
    /// Sets to look at in the next flush.
    stirred: Set<u32>,
}

impl SetTable {
    pub(crate) fn get(&self, set: u32) -> &Entry {
        &self.entries[set]
    }

    pub(crate) fn live_mut(&mut self, set: u32) -> &mut Option<Live> {
        &mut self.entries[set].live
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(|(_, entry)| entry)
    }

    /// A rule names the set; to be undone with [`forget`](Self::forget).
    pub(crate) fn name(&mut self, key: SetKey) -> (u32, IpSetId) {
        if let Some(set) = self.by_key.get(&key) {
            let entry = &mut self.entries[*set];
            entry.named += 1;
            return (*set, entry.id.clone());
        }
        let id = key.id();
        let set = self.entries.insert(Entry {
            key: key.clone(),
            id: id.clone(),
            named: 1,
            used: 0,
            live: None,
        });
        self.by_key.insert(key, set);
        (set, id)
    }

    pub(crate) fn forget(&mut self, set: u32) {
        let entry = &mut self.entries[set];
        entry.named = entry.named.saturating_sub(1);
        self.drop_if_idle(set);
    }

    /// A rule that is emitted names the set; to be undone with [`disuse`](Self::disuse).
    pub(crate) fn enlist(&mut self, set: u32) {
        self.entries[set].used += 1;
        self.stirred.insert(set);
    }

    pub(crate) fn disuse(&mut self, set: u32) {
        let entry = &mut self.entries[set];
        entry.used = entry.used.saturating_sub(1);
        self.stirred.insert(set);
    }

    pub(crate) fn stir(&mut self, set: u32) {
        self.stirred.insert(set);
    }

    /// The sets to look at, in the order of their ids.
    pub(crate) fn take_stirred(&mut self) -> Vec<u32> {
        let mut sets: Vec<u32> = std::mem::take(&mut self.stirred)
            .into_iter()
            .filter(|set| self.entries.get(*set).is_some())
            .collect();
        sets.sort_unstable_by(|a, b| self.entries[*a].id.cmp(&self.entries[*b].id));
        sets
    }

    pub(crate) fn drop_if_idle(&mut self, set: u32) {
        let entry = &self.entries[set];
        if entry.named == 0
            && entry.used == 0
            && entry.live.is_none()
            && let Some(entry) = self.entries.remove(set)
        {
            self.by_key.remove(&entry.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(selector: &str, port: Option<(Option<Proto>, &str)>) -> SetKey {
        SetKey::Selected {
            selector: Selector::parse(selector).unwrap(),
            port: port.map(|(proto, name)| NamedPort {
                proto,
                name: name.into(),
            }),
        }
    }

    #[test]
    fn ids_depend_on_the_meaning_alone() {
        let id = |k: SetKey| k.id().to_string();
        assert_eq!(
            id(key("a in {'1','2'}", None)),
            id(key("a  in { \"2\", '1' }", None))
        );
        let different = [
            key("a == 'b'", None),
            key("a == 'c'", None),
            key("a == 'b'", Some((None, "http"))),
            key("a == 'b'", Some((Some(Proto::TCP), "http"))),
            key("a == 'b'", Some((Some(Proto::UDP), "http"))),
            key("a == 'b'", Some((None, "https"))),
        ];
        let ids: std::collections::BTreeSet<String> = different.into_iter().map(id).collect();
        assert_eq!(ids.len(), 6);
        assert!(ids.iter().all(|i| i.len() == 18), "{ids:?}");
        let service = |namespace: &str, name: &str, ports| {
            id(SetKey::Service {
                namespace: namespace.into(),
                name: name.into(),
                ports,
            })
        };
        let ids = [
            service("a", "bc", true),
            service("ab", "c", true),
            service("a", "bc", false),
        ];
        assert!(ids[0] != ids[1] && ids[0].starts_with("svc:") && ids[2].starts_with("svcnoport:"));
    }

    #[test]
    fn a_set_says_what_it_is_of() {
        let service = |ports| SetKey::Service {
            namespace: "red".into(),
            name: "web".into(),
            ports,
        };
        for (key, text) in [
            (key("a in {'1',  '2'}", None), "a in {\"1\", \"2\"}"),
            (
                key("has(a)", Some((Some(Proto::TCP), "http"))),
                "TCP port http of has(a)",
            ),
            (key("has(a)", Some((None, "http"))), "port http of has(a)"),
            (service(true), "service red/web"),
            (service(false), "addresses of service red/web"),
        ] {
            assert_eq!(&*key.about(), text);
        }
    }

    #[test]
    fn an_entry_lives_while_somebody_needs_it() {
        let mut table = SetTable::default();
        let (set, _) = table.name(key("a == 'b'", None));
        assert_eq!(table.name(key("a == 'b'", None)).0, set);
        table.forget(set);
        table.enlist(set);
        table.forget(set);
        assert_eq!(table.take_stirred(), [set]);
        table.disuse(set);
        table.drop_if_idle(set);
        assert!(table.take_stirred().is_empty() && table.by_key.is_empty());
    }
}
