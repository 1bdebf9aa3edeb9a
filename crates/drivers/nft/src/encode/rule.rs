use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hasher},
};

use caracal_net::{Family, PortRange};
use caracal_netlink::Attrs;
use caracal_rules::ir::{
    FibKey, Field, KeyType, LogTo, Match, NatTo, Per, PktType, RejectWith, Rule, Set, SetName, Span,
    Statement,
};

use super::{
    EncodeError, af, comment_bytes,
    expr::{Exprs, Header, Op, addr_reg, ct, fib, meta, nat, reg},
    find_tlv, push_tlv,
    set::is_concat,
    value::{addr_bytes, ends, padded, width},
};
use crate::numbers::rule;

const COMMENT: u8 = 0;
/// A type that `nft` does not know and leaves alone.
const HASH: u8 = 0xca;

/// A rule as the kernel takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EncodedRule {
    pub(crate) exprs: Vec<u8>,
    pub(crate) userdata: Vec<u8>,
    /// Of expressions and comment. It is kept in the rule's userdata, and is all that is ever compared: another
    /// encoder or another compiler's hash function costs one rewrite, never a wrong verdict.
    pub(crate) hash: u64,
}

/// The sets of a table: how a key is read depends on the set it is looked up in.
pub(crate) type Sets = BTreeMap<SetName, Set>;

/// Makes the expressions and the userdata of a rule.
pub(crate) fn encode_rule(rule: &Rule, family: Family, sets: &Sets) -> Result<EncodedRule, EncodeError> {
    let mut e = Encoder {
        family,
        sets,
        out: Exprs::default(),
    };
    rule.matches.iter().try_for_each(|m| e.condition(m))?;
    rule.statements.iter().try_for_each(|s| e.statement(s))?;
    let exprs = e.out.bytes;
    if exprs.len() > usize::from(u16::MAX) - 64 {
        return Err(EncodeError(
            "the rule is longer than the kernel takes (64 KiB)".into(),
        ));
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(&exprs);
    hasher.write(rule.comment.as_bytes());
    // 0 stands for a rule that is not ours.
    let hash = hasher.finish().max(1);
    let mut userdata = Vec::with_capacity(rule.comment.len().min(128) + 16);
    if !rule.comment.is_empty() {
        push_tlv(&mut userdata, COMMENT, &comment_bytes(&rule.comment));
    }
    push_tlv(&mut userdata, HASH, &hash.to_le_bytes());
    Ok(EncodedRule {
        exprs,
        userdata,
        hash,
    })
}

/// The hash that a rule in the kernel carries; 0 when it is not ours.
pub(crate) fn rule_hash_of(attrs: Attrs<'_>) -> u64 {
    attrs
        .find(rule::USERDATA)
        .and_then(|u| find_tlv(u.value, HASH))
        .and_then(|h| h.try_into().ok())
        .map_or(0, u64::from_le_bytes)
}

/// The comment that a rule in the kernel carries.
pub(crate) fn rule_comment_of(attrs: Attrs<'_>) -> String {
    let comment = attrs
        .find(rule::USERDATA)
        .and_then(|u| find_tlv(u.value, COMMENT));
    let text = comment.map(String::from_utf8_lossy).unwrap_or_default();
    text.trim_end_matches('\0').to_owned()
}

struct Encoder<'a> {
    family: Family,
    sets: &'a Sets,
    out: Exprs,
}

impl Encoder<'_> {
    /// Reads a field into a register, only its first `len` bytes where the packet lets us.
    fn load(&mut self, field: Field, len: usize, to: u32) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let v4 = self.family == Family::V4;
        let out = &mut self.out;
        match field {
            Field::Iif => out.meta_load(meta::IIFNAME, to),
            Field::Oif => out.meta_load(meta::OIFNAME, to),
            Field::Proto => out.meta_load(meta::L4PROTO, to),
            Field::Mark => out.meta_load(meta::MARK, to),
            Field::CtMark => out.ct_load(ct::MARK, false, to),
            Field::Saddr => out.payload(Header::Network, if v4 { 12 } else { 8 }, len, to),
            Field::Daddr => out.payload(Header::Network, if v4 { 16 } else { 24 }, len, to),
            Field::Sport => out.payload(Header::Transport, 0, len, to),
            Field::Dport => out.payload(Header::Transport, 2, len, to),
            Field::IcmpType => out.payload(Header::Transport, 0, len, to),
            Field::IcmpCode => out.payload(Header::Transport, 1, len, to),
            Field::OrigDaddr => out.ct_load(if v4 { ct::DST_IP } else { ct::DST_IP6 }, true, to),
            Field::OrigDport => out.ct_load(ct::PROTO_DST, true, to),
        }
    }

    /// Reads fields into registers side by side, as a set's key has them.
    fn load_all(&mut self, fields: &[Field], set: &SetName) -> Result<(), EncodeError> {
        let swapped = self.sets.get(set).is_some_and(|s| is_concat(&s.def));
        if fields.is_empty() {
            return Err(EncodeError("a look-up needs a field".into()));
        }
        let mut at = 0;
        for field in fields {
            self.load(*field, width(field.key_type(), self.family), reg(at));
            if swapped && field.key_type() == KeyType::Mark {
                self.out.network_order(reg(at), 4);
            }
            at += padded(field.key_type(), self.family) / 4;
        }
        if at > 16 {
            return Err(EncodeError(
                "the fields of a look-up are longer than 64 bytes".into(),
            ));
        }
        Ok(())
    }

    fn condition(&mut self, m: &Match) -> Result<(), EncodeError> {
        let r = reg(0);
        match m {
            Match::Is { field, not, span } => self.is(*field, *not, span)?,
            Match::InSet { fields, not, set } => {
                self.load_all(fields, set)?;
                self.out.lookup(set.as_str(), r, *not);
            }
            Match::Counted { fields, map } => {
                self.load_all(fields, map)?;
                self.out.count_by(map.as_str(), r);
            }
            Match::Mark { mask, value, not } => {
                self.out.meta_load(meta::MARK, r);
                self.masked(*mask, *value, *not);
            }
            Match::CtMark { mask, value, not } => {
                self.out.ct_load(ct::MARK, false, r);
                self.masked(*mask, *value, *not);
            }
            Match::CtState { any, not } => {
                self.out.ct_load(ct::STATE, false, r);
                self.any_bit(u32::from(any.0), *not);
            }
            Match::CtStatus { any, not } => {
                self.out.ct_load(ct::STATUS, false, r);
                self.any_bit(any.0, *not);
            }
            Match::NoReversePath(key) => {
                let mark = if *key == FibKey::IifMark { fib::MARK } else { 0 };
                self.out
                    .fib(fib::RESULT_OIF, fib::SADDR | fib::IIF | fib::PRESENT | mark, r);
                self.out.cmp(r, Op::Eq, &[0; 4]);
            }
            Match::Local { field, not } => {
                let flag = if *field == Field::Saddr {
                    fib::SADDR
                } else {
                    fib::DADDR
                };
                self.out.fib(fib::RESULT_TYPE, flag, r);
                self.out.cmp(r, Op::from_not(*not), &fib::LOCAL.to_ne_bytes());
            }
            Match::PktType { kind, not } => {
                let number = match kind {
                    PktType::Host => 0,
                    PktType::Broadcast => 1,
                    PktType::Multicast => 2,
                    PktType::Other => 3,
                };
                self.out.meta_load(meta::PKTTYPE, r);
                self.out.cmp(r, Op::from_not(*not), &[number]);
            }
            Match::TcpFlags { mask, value, not } => {
                self.out.payload(Header::Transport, 13, 1, r);
                self.out.bitwise(r, &[*mask], &[0]);
                self.out.cmp(r, Op::from_not(*not), &[*value]);
            }
            Match::ConnectionsOver(n) => self.out.connlimit_over(*n),
        }
        Ok(())
    }

    fn masked(&mut self, mask: u32, value: u32, not: bool) {
        if mask != u32::MAX {
            self.out.bitwise(reg(0), &mask.to_ne_bytes(), &[0; 4]);
        }
        self.out.cmp(reg(0), Op::from_not(not), &value.to_ne_bytes());
    }

    fn any_bit(&mut self, bits: u32, not: bool) {
        self.out.bitwise(reg(0), &bits.to_ne_bytes(), &[0; 4]);
        self.out.cmp(reg(0), Op::from_not(!not), &[0; 4]);
    }

    fn is(&mut self, field: Field, not: bool, span: &Span) -> Result<(), EncodeError> {
        if field.key_type() != span.key_type() {
            return Err(EncodeError(format!("{field:?} cannot be compared with {span}")));
        }
        let (r, op) = (reg(0), Op::from_not(not));
        let (first, last) = ends(span, self.family)?;
        let full = first.len();
        if let Span::If(name) = span {
            self.load(field, full, r);
            let value = if name.is_prefix() {
                name.text().as_bytes()
            } else {
                &first
            };
            self.out.cmp(r, op, value);
        } else if first == last {
            self.load(field, full, r);
            self.out.cmp(r, op, &first);
        } else if let Some(prefix) = span.prefix().filter(|p| p.len() > 0) {
            let bits = usize::from(prefix.len());
            // Whole bytes of a header are read alone, which saves an expression; `ct` reads all or nothing.
            if bits.is_multiple_of(8) && field != Field::OrigDaddr {
                self.load(field, bits / 8, r);
                self.out.cmp(r, op, &first[..bits / 8]);
            } else {
                let mask: Vec<u8> = (0..full).map(|i| mask_byte(bits, i)).collect();
                self.load(field, full, r);
                self.out.bitwise(r, &mask, &vec![0; full]);
                self.out.cmp(r, op, &first);
            }
        } else if span.prefix().is_none() || not {
            self.load(field, full, r);
            self.out.range(r, op, &first, &last);
        }
        Ok(())
    }

    fn statement(&mut self, s: &Statement) -> Result<(), EncodeError> {
        match s {
            Statement::Counter => self.out.counter(),
            Statement::Count(name) => self.out.count(name.as_str()),
            Statement::Verdict(v) => self.out.verdict(v),
            Statement::VerdictMap { fields, map } => self.map(fields, map, crate::numbers::REG_VERDICT)?,
            Statement::Reject(with) => self.reject(*with),
            Statement::Log { to, prefix } => {
                let prefix = comment_bytes(prefix);
                match to {
                    LogTo::Kernel(level) => self.out.log_to_kernel(&prefix, *level),
                    LogTo::Group { group, snaplen } => self.out.log_to_group(&prefix, *group, *snaplen),
                }
            }
            Statement::Limit {
                rate,
                per,
                burst,
                over,
            } => {
                let unit = match per {
                    Per::Second => 1,
                    Per::Minute => 60,
                    Per::Hour => 3600,
                    Per::Day => 86400,
                };
                self.out.limit(*rate, unit, *burst, *over);
            }
            Statement::SetMark { mask, value } => {
                self.new_mark(*mask, *value, |out| out.meta_load(meta::MARK, reg(0)));
                self.out.meta_set(meta::MARK, reg(0));
            }
            Statement::SetCtMark { mask, value } => {
                self.new_mark(*mask, *value, |out| out.ct_load(ct::MARK, false, reg(0)));
                self.out.ct_set(ct::MARK, reg(0));
            }
            Statement::SetMarkFromMap { fields, map } => {
                self.map(fields, map, reg(0))?;
                self.out.meta_set(meta::MARK, reg(0));
            }
            Statement::SaveMark { mask } => {
                self.out.meta_load(meta::MARK, reg(0));
                if *mask != u32::MAX {
                    self.out.bitwise(reg(0), &mask.to_ne_bytes(), &[0; 4]);
                }
                self.out.ct_set(ct::MARK, reg(0));
            }
            Statement::SetDscp(n) => {
                // The first two bytes of the header hold it: behind the lengths in IPv4, across both in IPv6.
                let (mask, value) = match self.family {
                    Family::V4 => (0xff03_u16, u16::from(n & 63) << 2),
                    Family::V6 => (0xf03f, u16::from(n & 63) << 6),
                };
                let r = reg(0);
                self.out.payload(Header::Network, 0, 2, r);
                self.out.bitwise(r, &mask.to_be_bytes(), &value.to_be_bytes());
                let checksum = (self.family == Family::V4).then_some(10);
                self.out.payload_set(Header::Network, 0, 2, r, checksum);
            }
            Statement::NoTrack => self.out.notrack(),
            Statement::Masquerade { ports, fully_random } => {
                let (regs, flags) = self.nat_ports(*ports, *fully_random);
                self.out.masquerade(flags, regs);
            }
            Statement::Snat(to) => self.nat(nat::SNAT, to)?,
            Statement::Dnat(to) => self.nat(nat::DNAT, to)?,
        }
        Ok(())
    }

    fn map(&mut self, fields: &[Field], map: &SetName, into: u32) -> Result<(), EncodeError> {
        self.load_all(fields, map)?;
        self.out.lookup_into(map.as_str(), reg(0), into);
        Ok(())
    }

    fn reject(&mut self, with: RejectWith) {
        let (kind, code) = match (with, self.family) {
            (RejectWith::TcpReset, _) => (1, 0),
            (RejectWith::PortUnreachable, Family::V4) => (0, 3),
            (RejectWith::PortUnreachable, Family::V6) => (0, 4),
            (RejectWith::AdminProhibited, Family::V4) => (0, 13),
            (RejectWith::AdminProhibited, Family::V6) => (0, 1),
        };
        self.out.reject(kind, code);
    }

    fn new_mark(&mut self, mask: u32, value: u32, load: impl FnOnce(&mut Exprs)) {
        if mask == u32::MAX {
            self.out.immediate(reg(0), &value.to_ne_bytes());
        } else {
            load(&mut self.out);
            self.out
                .bitwise(reg(0), &(!mask).to_ne_bytes(), &(value & mask).to_ne_bytes());
        }
    }

    fn nat_ports(&mut self, ports: Option<PortRange>, random: bool) -> (Option<(u32, u32)>, u32) {
        let flags = if random { nat::F_FULLY_RANDOM } else { 0 };
        let Some(ports) = ports else { return (None, flags) };
        let min = addr_reg(2);
        let max = if ports.first == ports.last {
            min
        } else {
            addr_reg(3)
        };
        self.out.immediate(min, &ports.first.to_be_bytes());
        if max != min {
            self.out.immediate(max, &ports.last.to_be_bytes());
        }
        (Some((min, max)), flags | nat::F_PORTS)
    }

    fn nat(&mut self, kind: u32, to: &NatTo) -> Result<(), EncodeError> {
        for addr in [to.first, to.last] {
            if Family::of(addr) != self.family {
                return Err(EncodeError(format!(
                    "{} cannot be translated to {addr}",
                    self.family
                )));
            }
        }
        let min = addr_reg(0);
        let max = if to.first == to.last { min } else { addr_reg(1) };
        self.out.immediate(min, &addr_bytes(to.first));
        if max != min {
            self.out.immediate(max, &addr_bytes(to.last));
        }
        let (ports, flags) = self.nat_ports(to.ports, to.fully_random);
        self.out
            .nat(kind, af(self.family), (min, max), ports, flags | nat::F_MAP_IPS);
        Ok(())
    }
}

/// Byte `i` of a mask of `bits` ones.
fn mask_byte(bits: usize, i: usize) -> u8 {
    match bits.saturating_sub(i * 8) {
        0 => 0,
        n @ 1..8 => !(0xff >> n),
        _ => 0xff,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks() {
        let mask = |bits| (0..4).map(|i| mask_byte(bits, i)).collect::<Vec<_>>();
        assert_eq!(mask(9), [255, 128, 0, 0]);
        assert_eq!(mask(31), [255, 255, 255, 254]);
        assert_eq!(mask(16), [255, 255, 0, 0]);
    }

    #[test]
    fn the_hash_tells_rules_apart_by_content_and_comment() {
        let rule = |port: u16, comment: &str| {
            let r = Rule::new(
                [Match::is(Field::Dport, PortRange::single(port))],
                [Statement::ACCEPT],
                comment,
            );
            encode_rule(&r, Family::V4, &Sets::new())
                .expect("a plain rule")
                .hash
        };
        assert_eq!(rule(80, "a"), rule(80, "a"));
        assert_ne!(rule(80, "a"), rule(81, "a"));
        assert_ne!(rule(80, "a"), rule(80, "b"));
    }

    #[test]
    fn what_does_not_fit_is_refused_in_words() {
        let bad = Rule::new([Match::is(Field::Dport, Span::Mark(1))], [], "");
        let error = encode_rule(&bad, Family::V4, &Sets::new()).expect_err("a port is no mark");
        assert_eq!(error.to_string(), "Dport cannot be compared with 0x00000001");
    }
}
