use caracal_api::{IpamHandleSpec, Object};
use caracal_net::Cidr;

/// The handle that counts `count` addresses in `block`: the stored one changed, or a new one. It always differs from the
/// stored one, so that every writer who saw that finds out (Kubernetes keeps the revision when nothing changes): where
/// it counts as many already, it counts one too many until the next release.
#[must_use]
pub fn handle_with(
    stored: Option<Object<IpamHandleSpec>>,
    id: &str,
    block: &Cidr,
    count: u64,
) -> Object<IpamHandleSpec> {
    let fresh = || {
        Object::new(
            id,
            IpamHandleSpec {
                handle_id: id.to_owned(),
                ..IpamHandleSpec::default()
            },
        )
    };
    let mut handle = stored.unwrap_or_else(fresh);
    let counted = handle.spec.block.entry(block.to_string()).or_default();
    *counted = if *counted == count { count + 1 } else { count };
    handle
}

/// The handle that counts exactly `count` addresses in `block`; `None` when it counts none anywhere.
#[must_use]
pub fn handle_exact(
    mut handle: Object<IpamHandleSpec>,
    block: &Cidr,
    count: u64,
) -> Option<Object<IpamHandleSpec>> {
    let key = block.to_string();
    if count == 0 {
        handle.spec.block.remove(&key);
    } else {
        handle.spec.block.insert(key, count);
    }
    (!handle.spec.block.is_empty()).then_some(handle)
}

/// How many addresses the handle counts in `block`.
#[must_use]
pub fn counted(handle: &Object<IpamHandleSpec>, block: &Cidr) -> u64 {
    handle.spec.block.get(&block.to_string()).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_always_differs() {
        let c: Cidr = "10.0.0.0/26".parse().unwrap();
        let h = handle_with(None, "h", &c, 2);
        assert_eq!(counted(&h, &c), 2);
        let again = handle_with(Some(h.clone()), "h", &c, 2);
        assert_eq!(counted(&again, &c), 3);
        let d: Cidr = "10.0.0.64/26".parse().unwrap();
        let two = handle_with(Some(h), "h", &d, 1);
        let one = handle_exact(two, &c, 0).unwrap();
        assert_eq!((counted(&one, &c), counted(&one, &d)), (0, 1));
        assert_eq!(handle_exact(one, &d, 0), None);
    }
}
