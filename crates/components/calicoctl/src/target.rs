//! From the words of a command line to kinds and keys.

use caracal_api::{Kind, Resource, ResourceKey, nearest};

use crate::failure::Failure;

/// The namespace of objects that name none.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";

/// The kind of a word: its name, plural or an alias, in any case.
///
/// # Errors
/// With what was likely meant, or else all kinds.
pub(crate) fn kind(word: &str) -> Result<Kind, Failure> {
    if let Some(kind) = Kind::from_cli(word) {
        return Ok(kind);
    }
    let lower: Vec<String> = Kind::ALL
        .iter()
        .map(|k| k.as_str().to_ascii_lowercase())
        .collect();
    let words = Kind::ALL
        .iter()
        .flat_map(|k| k.aliases().iter().copied().chain([k.plural()]));
    let words = words.chain(lower.iter().map(String::as_str));
    let hint = match nearest(word, words) {
        Some(near) => format!("; did you mean {near:?}?"),
        None => {
            let known: Vec<&str> = public().map(Kind::plural).collect();
            format!("; the kinds are {}", known.join(", "))
        }
    };
    Err(Failure::Usage(format!("there is no kind {word:?}{hint}")))
}

/// The kinds that users work with.
pub(crate) fn public() -> impl Iterator<Item = Kind> {
    Kind::ALL.iter().copied().filter(|k| k.public())
}

/// The key of a named object: in the given namespace, or else the default one, if its kind lives in one.
pub(crate) fn key(kind: Kind, namespace: Option<&str>, name: &str) -> ResourceKey {
    let namespace = kind.namespaced().then(|| namespace.unwrap_or(DEFAULT_NAMESPACE));
    ResourceKey::of(kind, namespace, name)
}

/// Puts an object that names no namespace into the given or the default one.
///
/// # Errors
/// When the object names another than the given one.
pub(crate) fn settle_namespace(resource: &mut Resource, given: Option<&str>) -> Result<(), String> {
    if !resource.kind().namespaced() {
        return Ok(());
    }
    let key = resource.key();
    let own = &mut resource.metadata_mut().namespace;
    match (own.as_deref().filter(|ns| !ns.is_empty()), given) {
        (Some(own), Some(given)) if own != given => Err(format!(
            "{key}: metadata.namespace is {own:?}, but the command line says --namespace={given}"
        )),
        (Some(_), _) => Ok(()),
        (None, given) => {
            *own = Some(given.unwrap_or(DEFAULT_NAMESPACE).to_owned());
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use caracal_api::{NetworkSetSpec, Object, TierSpec};

    use super::*;

    #[test]
    fn kinds_have_many_names() {
        for (word, want) in [
            ("gnp", Kind::GlobalNetworkPolicy),
            ("GlobalNetworkPolicies", Kind::GlobalNetworkPolicy),
            ("ippool", Kind::IpPool),
            ("pools", Kind::IpPool),
            ("no", Kind::Node),
            ("WorkloadEndpoint", Kind::WorkloadEndpoint),
        ] {
            assert_eq!(kind(word).unwrap(), want);
        }
        let near = kind("workloadendpiont").unwrap_err().to_string();
        assert!(near.ends_with("did you mean \"workloadendpoint\"?"), "{near}");
        let far = kind("zzzzzzzzz").unwrap_err().to_string();
        assert!(far.contains("ippools") && !far.contains("ipamhandles"), "{far}");
    }

    #[test]
    fn namespaces_are_settled_or_disputed() {
        let mut set = Resource::from(Object::<NetworkSetSpec>::new("a", NetworkSetSpec::default()));
        settle_namespace(&mut set, None).unwrap();
        assert_eq!(set.metadata().namespace.as_deref(), Some("default"));
        let e = settle_namespace(&mut set, Some("x")).unwrap_err();
        assert!(
            e.contains("--namespace=x") && e.contains("NetworkSet(default/a)"),
            "{e}"
        );
        let mut tier = Resource::from(Object::<TierSpec>::new("t", TierSpec::default()));
        settle_namespace(&mut tier, Some("x")).unwrap();
        assert_eq!(tier.metadata().namespace, None);
        assert_eq!(
            key(Kind::NetworkSet, None, "a").to_string(),
            "NetworkSet(default/a)"
        );
        assert_eq!(key(Kind::Tier, Some("x"), "a").to_string(), "Tier(a)");
    }
}
