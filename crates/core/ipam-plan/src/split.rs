use caracal_api::{IpPoolSpec, Object};

use crate::pool;

/// The pools that `pool` is split into: `parts` of equal size that together are the same range.
///
/// # Errors
/// A sentence that says why it cannot be split so.
pub fn split_pool(pool: &Object<IpPoolSpec>, parts: u64) -> Result<Vec<Object<IpPoolSpec>>, String> {
    if parts < 2 || !parts.is_power_of_two() {
        return Err(format!(
            "{parts} is not a number of parts: it must be a power of 2 (2, 4, 8, …)"
        ));
    }
    let whole = pool::candidate(pool)?;
    // A power of two below 2⁶⁴ has at most 63 trailing zeros.
    let bits = parts.trailing_zeros() as u8;
    let len = whole.cidr.len().saturating_add(bits);
    if bits > 16 || len > whole.block_len {
        return Err(format!(
            "the pool {} ({}) is too small for {parts} parts: each must hold at least one block of /{}",
            whole.name, whole.cidr, whole.block_len
        ));
    }
    let part = |(i, cidr): (usize, caracal_net::Cidr)| {
        let mut child = Object::new(child_name(&whole.name, i), pool.spec.clone());
        child.metadata.labels.clone_from(&pool.metadata.labels);
        child.metadata.annotations.clone_from(&pool.metadata.annotations);
        child.spec.cidr = cidr.to_string();
        child.spec.disabled = false;
        child
    };
    Ok(whole.cidr.subnets(len).enumerate().map(part).collect())
}

/// Names are at most 253 characters long.
fn child_name(pool: &str, index: usize) -> String {
    let end = format!("-{index}");
    let room = 253 - "split-".len() - end.len();
    let kept: String = pool.chars().take(room).collect();
    format!("split-{kept}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(name: &str, cidr: &str) -> Object<IpPoolSpec> {
        let spec = IpPoolSpec {
            cidr: cidr.into(),
            nat_outgoing: true,
            disabled: true,
            ..IpPoolSpec::default()
        };
        Object::new(name, spec)
    }

    #[test]
    fn parts_make_up_the_whole() {
        let parts = split_pool(&pool("p", "10.0.0.0/16"), 4).unwrap();
        let cidrs: Vec<&str> = parts.iter().map(|p| p.spec.cidr.as_str()).collect();
        assert_eq!(
            cidrs,
            ["10.0.0.0/18", "10.0.64.0/18", "10.0.128.0/18", "10.0.192.0/18"]
        );
        assert_eq!(parts[3].metadata.name, "split-p-3");
        assert!(parts.iter().all(|p| p.spec.nat_outgoing && !p.spec.disabled));
        let six = split_pool(&pool("s", "fd00::/120"), 2).unwrap();
        assert_eq!(six[1].spec.cidr, "fd00::80/121");
        let long = split_pool(&pool(&"x".repeat(253), "10.0.0.0/16"), 2).unwrap();
        assert_eq!(long[0].metadata.name.len(), 253);
    }

    #[test]
    fn what_cannot_be_split_is_refused() {
        for parts in [0, 1, 3, 1 << 40] {
            assert!(split_pool(&pool("p", "10.0.0.0/16"), parts).is_err(), "{parts}");
        }
        let e = split_pool(&pool("p", "10.0.0.0/26"), 2).unwrap_err();
        assert!(e.contains("too small"), "{e}");
    }
}
