//! From the rules' intermediate form to nf_tables messages.

mod expr;
mod rule;
mod set;
mod value;

pub(crate) use expr::counter_of;
pub(crate) use rule::{EncodedRule, encode_rule, rule_comment_of, rule_hash_of};
pub(crate) use set::{WireElement, check_def, def_hash, def_hash_of, put_set, read_elements, wire_elements};

use caracal_net::Family;
use caracal_netlink::{Attrs, MessageWriter};

use crate::numbers::{SUBSYSTEM, chain, table};
use caracal_rules::ir::{BaseChain, ChainKind, Hook, Policy};

/// Why something of the intermediate form has no place in this table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EncodeError(pub String);

pub(crate) fn af(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// Begins a message of nf_tables.
pub(crate) fn begin(buf: &mut Vec<u8>, kind: u16, flags: u16, seq: u32, family: u8) -> MessageWriter<'_> {
    let mut message = MessageWriter::new(buf, (SUBSYSTEM << 8) | kind, flags, seq);
    message.fixed(&[family, 0, 0, 0]);
    message
}

/// Userdata is a list of (type, length, value) with one byte for each of the first two.
pub(crate) fn push_tlv(out: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let Ok(len) = u8::try_from(value.len()) else {
        return;
    };
    out.extend_from_slice(&[kind, len]);
    out.extend_from_slice(value);
}

pub(crate) fn find_tlv(mut userdata: &[u8], kind: u8) -> Option<&[u8]> {
    while let [k, len, rest @ ..] = userdata {
        let value = rest.get(..usize::from(*len))?;
        if *k == kind {
            return Some(value);
        }
        userdata = &rest[value.len()..];
    }
    None
}

/// What `nft` itself accepts for a comment.
const COMMENT_MAX: usize = 127;

/// A comment as a C string, cut at a character's border.
pub(crate) fn comment_bytes(text: &str) -> Vec<u8> {
    let mut end = text.len().min(COMMENT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut bytes: Vec<u8> = text.as_bytes()[..end]
        .iter()
        .map(|b| if *b < 32 { b' ' } else { *b })
        .collect();
    bytes.push(0);
    bytes
}

const TABLE_COMMENT: u8 = 0;
/// A type that `nft` does not know and leaves alone.
const TABLE_SINCE: u8 = 0xca;

/// What our table says about itself.
pub(crate) fn table_userdata(layout: u32, since: u64) -> Vec<u8> {
    let mut out = Vec::new();
    push_tlv(
        &mut out,
        TABLE_COMMENT,
        &comment_bytes(&format!("caracal, layout {layout}")),
    );
    push_tlv(&mut out, TABLE_SINCE, &since.to_le_bytes());
    out
}

/// Since when the counters of a table of ours count, seconds of Unix time.
pub(crate) fn since_of(attrs: Attrs<'_>) -> Option<u64> {
    let since = find_tlv(attrs.find(table::USERDATA)?.value, TABLE_SINCE)?;
    Some(u64::from_le_bytes(since.try_into().ok()?))
}

/// The layout a table of ours was written with.
pub(crate) fn layout_of(attrs: Attrs<'_>) -> Option<u32> {
    let comment = find_tlv(attrs.find(table::USERDATA)?.value, TABLE_COMMENT)?;
    let text = std::str::from_utf8(comment).ok()?.trim_end_matches('\0');
    text.strip_prefix("caracal, layout ")?.parse().ok()
}

fn hook_number(hook: Hook) -> u32 {
    match hook {
        Hook::Prerouting => 0,
        Hook::Input => 1,
        Hook::Forward => 2,
        Hook::Output => 3,
        Hook::Postrouting => 4,
    }
}

fn kind_name(kind: ChainKind) -> &'static str {
    match kind {
        ChainKind::Filter => "filter",
        ChainKind::Nat => "nat",
        ChainKind::Route => "route",
    }
}

fn policy_number(policy: Policy) -> u32 {
    match policy {
        Policy::Drop => 0,
        Policy::Accept => 1,
    }
}

/// Attributes of a chain.
pub(crate) fn put_chain(message: &mut MessageWriter<'_>, table: &str, name: &str, base: Option<&BaseChain>) {
    let mut w = message.attrs();
    w.str(chain::TABLE, table).str(chain::NAME, name);
    if let Some(base) = base {
        w.nest(chain::HOOK, |w| {
            w.be32(chain::HOOK_NUMBER, hook_number(base.hook));
            w.bytes(chain::HOOK_PRIORITY, &base.priority.to_be_bytes());
        });
        w.be32(chain::POLICY, policy_number(base.policy))
            .str(chain::TYPE, kind_name(base.kind));
    }
}

/// How a chain in the kernel is hooked in; an unknown kind of hook reads as none of ours.
pub(crate) fn base_of(attrs: Attrs<'_>) -> Option<BaseChain> {
    let hook = attrs.find(chain::HOOK)?.nested();
    let number = hook.find(chain::HOOK_NUMBER)?.as_be32()?;
    let hooks = [
        Hook::Prerouting,
        Hook::Input,
        Hook::Forward,
        Hook::Output,
        Hook::Postrouting,
    ];
    let kinds = [ChainKind::Filter, ChainKind::Nat, ChainKind::Route];
    let name = attrs.find(chain::TYPE)?.as_str()?;
    let policy = attrs.find(chain::POLICY).and_then(|a| a.as_be32());
    Some(BaseChain {
        kind: kinds.into_iter().find(|k| kind_name(*k) == name)?,
        hook: hooks.into_iter().find(|h| hook_number(*h) == number)?,
        priority: hook.find(chain::HOOK_PRIORITY)?.as_be32()?.cast_signed(),
        policy: if policy == Some(0) {
            Policy::Drop
        } else {
            Policy::Accept
        },
    })
}
