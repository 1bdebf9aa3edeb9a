use caracal_api::{IpamHandleSpec, Object};
use caracal_net::Cidr;

/// The handle with `count` more addresses in `block`: the stored one changed, or a new one.
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
    *handle.spec.block.entry(block.to_string()).or_default() += count;
    handle
}

/// The handle with `count` fewer addresses in `block`; `None` when it holds none any more.
#[must_use]
pub fn handle_without(
    mut handle: Object<IpamHandleSpec>,
    block: &Cidr,
    count: u64,
) -> Option<Object<IpamHandleSpec>> {
    let key = block.to_string();
    let left = handle
        .spec
        .block
        .get(&key)
        .copied()
        .unwrap_or(0)
        .saturating_sub(count);
    if left == 0 {
        handle.spec.block.remove(&key);
    } else {
        handle.spec.block.insert(key, left);
    }
    (!handle.spec.block.is_empty()).then_some(handle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_up_and_down() {
        let c: Cidr = "10.0.0.0/26".parse().unwrap();
        let h = handle_with(None, "h", &c, 2);
        let h = handle_with(Some(h), "h", &c, 1);
        assert_eq!(h.spec.block[&c.to_string()], 3);
        let h = handle_without(h, &c, 1).unwrap();
        assert_eq!(h.spec.block[&c.to_string()], 2);
        assert_eq!(handle_without(h, &c, 5), None);
    }
}
