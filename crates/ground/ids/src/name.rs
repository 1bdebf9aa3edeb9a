use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// A name that cannot be one: says which kind of name, the text, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not valid: {why}")]
pub struct BadName {
    /// The kind of name, for example `tier name`.
    pub what: &'static str,
    /// The text that was refused.
    pub text: String,
    /// The rule it breaks.
    pub why: &'static str,
}

/// The longest name that Kubernetes and Calico store.
const MAX_LEN: usize = 253;

fn check(what: &'static str, text: &str) -> Result<(), BadName> {
    let bad = |why| {
        Err(BadName {
            what,
            text: text.chars().take(80).collect(),
            why,
        })
    };
    if text.is_empty() {
        return bad("it is empty");
    }
    if text.len() > MAX_LEN {
        return bad("it is longer than 253 characters");
    }
    if text
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || c == '/')
    {
        return bad("white space, control characters and '/' are not allowed");
    }
    Ok(())
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and wraps it.
            ///
            /// # Errors
            /// [`BadName`] when the text is empty, longer than 253 characters or holds white space, control
            /// characters or `/`.
            pub fn new(text: impl AsRef<str>) -> Result<Self, BadName> {
                check($what, text.as_ref())?;
                Ok(Self(Arc::from(text.as_ref())))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = BadName;
            fn from_str(s: &str) -> Result<Self, BadName> {
                Self::new(s)
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(s: String) -> Result<Self, BadName> {
                Self::new(s)
            }
        }

        impl From<$name> for String {
            fn from(n: $name) -> String {
                n.0.to_string()
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name_type!(
    /// The name of a node (host), as in `NODENAME` and `Node` objects.
    NodeName,
    "node name"
);
name_type!(
    /// The name of a tier.
    TierName,
    "tier name"
);
name_type!(
    /// The name of a profile, for example `kns.default`.
    ProfileName,
    "profile name"
);
name_type!(
    /// The name of a Kubernetes namespace.
    NamespaceName,
    "namespace"
);
name_type!(
    /// An IPAM handle: who holds an address, for example `k8s-pod-network.<containerID>`.
    HandleId,
    "IPAM handle"
);
name_type!(
    /// The name of a `BlockAffinity` object.
    BlockAffinityName,
    "block affinity name"
);

impl TierName {
    /// The tier that policies without one belong to.
    #[must_use]
    pub fn default_tier() -> Self {
        Self(Arc::from("default"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_once_and_say_why() {
        assert_eq!(NodeName::new("node-1").unwrap().as_str(), "node-1");
        assert!(NodeName::new("").is_err());
        assert!(TierName::new("a b").is_err());
        assert!(HandleId::new("x".repeat(254)).is_err());
        let e = NodeName::new("a/b").unwrap_err().to_string();
        assert!(e.contains("node name") && e.contains("a/b"), "{e}");
    }
}
