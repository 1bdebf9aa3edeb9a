use std::collections::BTreeSet;

use crate::model::{MAIN_TABLE, PROTOCOL_BOOT, PROTOCOL_CLUSTER};

/// Routes of the kernel itself: prefixes of addresses, router advertisements, redirects. Never ours.
const KERNEL_PROTOCOLS: [u8; 3] = [1, 2, 9];

/// Routes that are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owned {
    /// Those with a protocol number.
    Protocol(u8),
    /// Those through links whose name begins with a prefix.
    Links {
        /// The beginning of the links' names.
        prefix: String,
        /// Only those with this protocol number; if absent, all but the kernel's own.
        protocol: Option<u8>,
    },
}

/// How our routes are told from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The tables we look at.
    pub tables: BTreeSet<u32>,
    /// A route is ours if one of these says so.
    pub rules: Vec<Owned>,
}

impl Ownership {
    /// Calico's: in the main table, all with the cluster protocol, and those of workloads' links with the
    /// device route protocol (all of theirs, if `remove_external`: Calico's `RemoveExternalRoutes`).
    pub fn calico(link_prefixes: &[&str], device_protocol: u8, remove_external: bool) -> Self {
        let protocol = (!remove_external).then_some(device_protocol);
        let mut rules = vec![Owned::Protocol(PROTOCOL_CLUSTER)];
        rules.extend(link_prefixes.iter().map(|prefix| Owned::Links {
            prefix: (*prefix).to_owned(),
            protocol,
        }));
        Self {
            tables: BTreeSet::from([MAIN_TABLE]),
            rules,
        }
    }

    /// Whether a route is ours.
    pub(crate) fn owns(&self, table: u32, protocol: u8, link: Option<&str>) -> bool {
        self.tables.contains(&table) && self.rules.iter().any(|rule| rule.owns(protocol, link))
    }
}

impl Default for Ownership {
    /// Calico's defaults.
    fn default() -> Self {
        Self::calico(&["cali"], PROTOCOL_BOOT, false)
    }
}

impl Owned {
    fn owns(&self, protocol: u8, link: Option<&str>) -> bool {
        match self {
            Self::Protocol(ours) => protocol == *ours,
            Self::Links {
                prefix,
                protocol: ours,
            } => {
                let right = ours.map_or(!KERNEL_PROTOCOLS.contains(&protocol), |ours| ours == protocol);
                right && link.is_some_and(|link| link.starts_with(prefix))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ours_are_ours() {
        let ours = Ownership::default();
        assert!(ours.owns(254, 80, None));
        assert!(ours.owns(254, 80, Some("eth0")));
        assert!(!ours.owns(255, 80, None), "another table");
        assert!(ours.owns(254, 3, Some("cali1")));
        assert!(!ours.owns(254, 3, Some("eth0")));
        assert!(!ours.owns(254, 4, Some("cali1")));
        let all = Ownership::calico(&["cali", "tap"], 3, true);
        assert!(all.owns(254, 4, Some("tap1")));
        assert!(!all.owns(254, 2, Some("cali1")), "the kernel's");
        assert!(!all.owns(254, 4, None));
    }
}
