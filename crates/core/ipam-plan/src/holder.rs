use std::fmt;

use caracal_api::{BlockAffinitySpec, Object};
use caracal_net::Cidr;

/// Who blocks belong to: a node, or something without a place such as the load balancer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Holder {
    /// A node, by name.
    Host(String),
    /// A virtual owner, by name.
    Virtual(String),
}

impl Holder {
    /// Reads a block's `affinity`.
    #[must_use]
    pub fn of_block(affinity: &str) -> Option<Self> {
        let (kind, name) = affinity.split_once(':')?;
        match kind {
            _ if name.is_empty() => None,
            "host" => Some(Self::Host(name.to_owned())),
            "virtual" => Some(Self::Virtual(name.to_owned())),
            _ => None,
        }
    }

    /// Whose affinity an object is.
    #[must_use]
    pub fn of_affinity(spec: &BlockAffinitySpec) -> Self {
        if spec.affinity_type == "virtual" {
            Self::Virtual(spec.node.clone())
        } else {
            Self::Host(spec.node.clone())
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Host(n) | Self::Virtual(n) => n,
        }
    }

    /// The name of its claim on `cidr`.
    #[must_use]
    pub fn affinity_name(&self, cidr: &Cidr) -> String {
        BlockAffinitySpec::object_name(&self.affinity_owner(), cidr)
    }

    /// What the names of all its claims begin with.
    #[must_use]
    pub fn affinity_prefix(&self) -> String {
        format!("{}-", self.affinity_owner())
    }

    fn affinity_owner(&self) -> String {
        match self {
            Self::Host(n) => n.clone(),
            Self::Virtual(n) => format!("virtual-{n}"),
        }
    }

    /// Its claim on `cidr` in `state`: the stored one changed, or a new one.
    #[must_use]
    pub fn claim(
        &self,
        stored: Option<&Object<BlockAffinitySpec>>,
        cidr: &Cidr,
        state: &str,
    ) -> Object<BlockAffinitySpec> {
        let fresh = || Object::new(self.affinity_name(cidr), BlockAffinitySpec::default());
        let mut claim = stored.cloned().unwrap_or_else(fresh);
        claim.spec = BlockAffinitySpec {
            state: state.to_owned(),
            node: self.name().to_owned(),
            affinity_type: match self {
                Self::Host(_) => "host",
                Self::Virtual(_) => "virtual",
            }
            .to_owned(),
            cidr: cidr.to_string(),
            deleted: false,
        };
        claim
    }
}

/// As a block's `affinity` has it.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(n) => write!(f, "host:{n}"),
            Self::Virtual(n) => write!(f, "virtual:{n}"),
        }
    }
}

/// The range of a block from its object's name: for blocks whose content cannot be read.
#[must_use]
pub fn cidr_of_block_name(name: &str) -> Option<Cidr> {
    let (addr, len) = name.rsplit_once('-')?;
    [".", ":"]
        .iter()
        .find_map(|dot| format!("{}/{len}", addr.replace('-', dot)).parse().ok())
}

#[cfg(test)]
mod tests {
    use caracal_api::IpamBlockSpec;

    use super::*;

    #[test]
    fn names_and_texts_are_those_of_calico() {
        let c: Cidr = "10.0.0.64/26".parse().unwrap();
        let host = Holder::of_block("host:n-1").unwrap();
        assert_eq!(host.to_string(), "host:n-1");
        assert_eq!(host.affinity_name(&c), "n-1-10-0-0-64-26");
        let lb = Holder::of_block("virtual:load-balancer").unwrap();
        assert_eq!(lb.affinity_name(&c), "virtual-load-balancer-10-0-0-64-26");
        let claim = lb.claim(None, &c, "pending");
        assert_eq!(Holder::of_affinity(&claim.spec), lb);
        for bad in ["", "host", "host:", "rack:1"] {
            assert_eq!(Holder::of_block(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_blocks_name_tells_its_range() {
        for text in ["10.0.0.64/26", "fd00::40/122", "::/116"] {
            let c: Cidr = text.parse().unwrap();
            assert_eq!(cidr_of_block_name(&IpamBlockSpec::object_name(&c)), Some(c));
        }
        assert_eq!(cidr_of_block_name("nonsense"), None);
    }
}
