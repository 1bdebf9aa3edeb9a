//! Names of chains and sets: readable, short, and functions of what they name.

use std::sync::Arc;

use caracal_ids::{PolicyId, PolicyKind};
use sha2::{Digest as _, Sha256};

/// What the kernel keeps of a comment, less room for a suffix.
const COMMENT_MAX: usize = 100;

/// A short digest of parts that cannot run into one another. 60 bits: nobody who picks names of policies can make
/// two lists share a chain.
#[derive(Default)]
pub(crate) struct Digest(Sha256);

impl Digest {
    pub(crate) fn part(mut self, part: impl AsRef<[u8]>) -> Self {
        self.add(part);
        self
    }

    pub(crate) fn add(&mut self, part: impl AsRef<[u8]>) {
        let part = part.as_ref();
        self.0.update(part.len().to_le_bytes());
        self.0.update(part);
    }

    pub(crate) fn add_policy(&mut self, id: &PolicyId) {
        self.add([id.kind as u8]);
        self.add(id.namespace.as_bytes());
        self.add(id.name.as_bytes());
    }

    pub(crate) fn text(self) -> String {
        let bytes: [u8; 32] = self.0.finalize().into();
        let mut bits = bytes.iter().take(8).fold(0u64, |n, b| n << 8 | u64::from(*b));
        let mut text = String::with_capacity(12);
        for _ in 0..12 {
            text.push(char::from(
                b"abcdefghijklmnopqrstuvwxyz234567"[usize::from((bits >> 59) as u8)],
            ));
            bits <<= 5;
        }
        text
    }
}

fn plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

/// A name's part that `nft` can read back, for people; identity is in the digest beside it.
pub(crate) fn readable(text: &str) -> String {
    let keep = |c| if plain(c) || c == '.' { c } else { '_' };
    text.chars().take(40).map(keep).collect()
}

/// The kernel name of an IP set's beginning: the id itself where its letters allow, and always another one for
/// another id.
pub(crate) fn of_set_id(id: &str) -> String {
    let (kind, rest) = id.split_once(':').unwrap_or(("", id));
    let safe = kind.starts_with(|c: char| c.is_ascii_alphabetic())
        && !rest.is_empty()
        && id.len() <= 64
        && kind.chars().chain(rest.chars()).all(plain);
    if safe {
        format!("{kind}.{rest}")
    } else {
        format!("set..{}", Digest::default().part(id).text())
    }
}

/// How people call a policy: short kind, namespace, name.
pub(crate) fn policy_label(id: &PolicyId) -> String {
    shortened(&whole_label(id), COMMENT_MAX)
}

/// The same, however long.
pub(crate) fn whole_label(id: &PolicyId) -> String {
    let kind = match id.kind {
        PolicyKind::NetworkPolicy => "np",
        PolicyKind::GlobalNetworkPolicy => "gnp",
        PolicyKind::KubernetesNetworkPolicy => "knp",
        PolicyKind::KubernetesClusterNetworkPolicy => "kcnp",
        PolicyKind::StagedNetworkPolicy => "snp",
        PolicyKind::StagedGlobalNetworkPolicy => "sgnp",
        PolicyKind::StagedKubernetesNetworkPolicy => "sknp",
    };
    let slash = if id.namespace.is_empty() { "" } else { "/" };
    format!("{kind}/{}{slash}{}", id.namespace, id.name)
}

/// The beginning of the names of a policy's or profile's counters: its label where that says all, and always another one
/// for another policy.
pub(crate) fn of_counters(label: &str, whole: &str) -> String {
    let safe = |c| plain(c) || matches!(c, '.' | '/');
    if label == whole && label.chars().all(safe) {
        return label.to_owned();
    }
    let kind = label.split('/').next().unwrap_or_default();
    format!("{kind}/..{}", Digest::default().part(whole).text())
}

/// The text, cut in the middle if it is longer than `max` bytes.
pub(crate) fn shortened(text: &str, max: usize) -> String {
    if text.len() <= max {
        return text.to_owned();
    }
    let half = max / 2 - 1;
    let head = (0..=half).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
    let tail = (text.len() - half..=text.len())
        .find(|i| text.is_char_boundary(*i))
        .unwrap_or(text.len());
    format!("{}..{}", &text[..head], &text[tail..])
}

/// What a log line of a policy or profile begins with.
pub(crate) fn log_prefix(pattern: &str, tier: &str, kind: &str, name: &str, profile: &str) -> Arc<str> {
    let mut out = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push_str(tier),
            Some('k') => out.push_str(kind),
            Some('n') => out.push_str(name),
            Some('p') => out.push_str(profile),
            Some(other) => out.extend(['%', other]),
            None => out.push('%'),
        }
    }
    format!("{}: ", shortened(&out, 120)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sets_differ_where_ids_do() {
        assert_eq!(of_set_id("s:Ab_-9"), "s.Ab_-9");
        let odd = [
            "s:a b",
            "s:a.b",
            "",
            ":",
            "s:",
            "9:x",
            "s:a:b",
            "s",
            &"s:".repeat(200),
        ];
        let mut names: Vec<String> = odd.iter().map(|id| of_set_id(id)).collect();
        assert!(names.iter().all(|n| n.starts_with("set..")), "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), odd.len());
    }

    #[test]
    fn long_names_keep_both_ends() {
        let id = PolicyId::namespaced(PolicyKind::NetworkPolicy, "ns", &"ä".repeat(120));
        let label = policy_label(&id);
        assert!(label.starts_with("np/ns/ä") && label.ends_with('ä') && label.len() <= COMMENT_MAX);
        assert_eq!(
            policy_label(&PolicyId::global(PolicyKind::GlobalNetworkPolicy, "x")),
            "gnp/x"
        );
    }

    #[test]
    fn log_prefixes_are_filled_in() {
        assert_eq!(
            &*log_prefix("a %t/%k/%n %z%", "T", "K", "N", "P"),
            "a T/K/N %z%: "
        );
    }
}
