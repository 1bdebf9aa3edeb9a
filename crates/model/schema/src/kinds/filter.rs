use caracal_api::{
    AddCommunity, BgpFilterRule, BgpFilterSpec, CommunityMatch, FilterAction, FilterOperation, MatchOperator,
    PeerType, PrefixLength, PrependAsPath, RouteSource, SetPriority,
};

use super::bgp::PRIORITY;
use crate::{
    Reason::Invalid,
    schema::Schema,
    shape::{Shape, object, words},
};

words! {
    RouteSource { RemotePeers }
    MatchOperator { Equal, NotEqual, In, NotIn }
    PeerType { External, Internal }
    FilterAction { Accept, Reject }
}

object! { BgpFilterSpec {
    export_v4 "exportV4" .of(rule(18, 32)) .whole();
    import_v4 "importV4" .of(rule(18, 32)) .whole();
    export_v6 "exportV6" .of(rule(43, 128)) .whole();
    import_v6 "importV6" .of(rule(43, 128)) .whole();
} }

/// A rule of a family: how long its CIDRs can be written, and its longest prefix.
fn rule(cidr: usize, prefix: i64) -> Schema {
    let mut rule = BgpFilterRule::shape();
    if let Some(s) = rule.properties.get_mut("cidr") {
        s.bounds.max_length = Some(cidr);
    }
    if let Some(s) = rule.properties.get_mut("prefixLength") {
        for bound in s.properties.values_mut() {
            (bound.bounds.minimum, bound.bounds.maximum) = (Some(0), Some(prefix));
        }
    }
    rule
}

object! { BgpFilterRule {
    cidr "cidr" .format("cidr");
    prefix_length "prefixLength";
    source "source";
    interface "interface" .chars(15);
    match_operator "matchOperator";
    peer_type "peerType";
    communities "communities";
    as_path_prefix "asPathPrefix" .whole();
    priority "priority" .within(PRIORITY.0, PRIORITY.1);
    action "action" .must();
    operations "operations" .entries(1, 10) .whole();
} [
    .atomic()
    .rule(Invalid,
        "(has(self.cidr) && size(self.cidr) > 0) == (has(self.matchOperator) && size(self.matchOperator) > 0)",
        "cidr and matchOperator belong together: give both or none")
    .rule(Invalid,
        "!has(self.prefixLength) || (has(self.cidr) && size(self.cidr) > 0)",
        "prefixLength needs cidr")
    .plain_rule(
        "!has(self.operations) || size(self.operations) == 0 || self.action == 'Accept'",
        "operations change a route that passes: they need action Accept")
] }

object! { PrefixLength {
    min "min" .format("int32");
    max "max" .format("int32");
} [ .atomic() ] }

object! { CommunityMatch {
    values "values" .of(community()) .entries(1, 1) .whole() .must();
} [ .atomic() ] }

object! { FilterOperation {
    add_community "addCommunity";
    prepend_as_path "prependASPath";
    set_priority "setPriority";
} [ .atomic() .one_field() ] }

object! { AddCommunity {
    value "value" .chars(32) .pattern(community_pattern()) .must();
} [ .atomic() ] }

object! { PrependAsPath {
    prefix "prefix" .entries(1, 10) .whole() .must();
} [ .atomic() ] }

object! { SetPriority {
    value "value" .within(PRIORITY.0, PRIORITY.1) .must();
} [ .atomic() ] }

fn community() -> Schema {
    Schema::string().chars(32).pattern(community_pattern())
}

/// `aa:nn` of two 16-bit numbers, or `aa:nn:mm` of three 32-bit ones.
fn community_pattern() -> String {
    let short = up_to(u16::MAX.into());
    let long = up_to(u32::MAX.into());
    format!("^({short}:{short}|{long}:{long}:{long})$")
}

/// A regular expression for the decimal numbers from 0 to `max`, which has more than one digit: a single digit, numbers
/// of fewer digits, then digit by digit those that begin as `max` and fall below it, and `max` itself.
fn up_to(max: u64) -> String {
    let repeat = |n: usize| match n {
        0 => String::new(),
        1 => "[0-9]".to_owned(),
        n => format!("[0-9]{{{n}}}"),
    };
    let digits: Vec<u32> = max.to_string().chars().filter_map(|c| c.to_digit(10)).collect();
    let last = digits.len() - 1;
    let mut parts = vec!["[0-9]".to_owned(), format!("[1-9][0-9]{{1,{}}}", last - 1)];
    let mut head = String::new();
    for (i, digit) in digits.iter().enumerate() {
        let lowest = u32::from(i == 0);
        let range = match (i == last, *digit) {
            (true, d) => Some(format!("[0-{d}]")),
            (false, d) if d == lowest => None,
            (false, d) if d == lowest + 1 => Some(lowest.to_string()),
            (false, d) => Some(format!("[{lowest}-{}]", d - 1)),
        };
        parts.extend(range.map(|r| format!("{head}{r}{}", repeat(last - i))));
        head += &digit.to_string();
    }
    format!("({})", parts.join("|"))
}

#[cfg(test)]
mod tests {
    use regex::Regex;

    use super::*;

    #[test]
    fn numbers_up_to_a_bound() {
        for max in [u64::from(u16::MAX), u64::from(u32::MAX)] {
            let all = Regex::new(&format!("^{}$", up_to(max))).unwrap();
            for n in [0, 1, 9, 10, 99, 12345, max - 1, max] {
                assert!(all.is_match(&n.to_string()), "{n}");
            }
            for text in [&(max + 1).to_string(), "01", "", "-1", "99999999999"] {
                assert!(!all.is_match(text), "{text}");
            }
        }
    }
}
