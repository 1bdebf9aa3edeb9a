use caracal_api::Kind;
use serde_json::json;

use super::*;
use crate::{Group, Type, cluster_network_policy, schema_of};

#[test]
fn every_rule_can_be_read() {
    fn walk(schema: &Schema, seen: &mut usize) {
        for rule in &schema.rules {
            if let Err(e) = expression(rule.expression) {
                panic!("{}: {e}", rule.expression);
            }
            *seen += 1;
        }
        let below = schema.properties.values().chain(schema.items.as_deref());
        for s in below.chain(schema.additional.as_deref()) {
            walk(s, seen);
        }
    }
    let mut seen = 0;
    for group in Group::ALL {
        for kind in Kind::ALL {
            if let Some(s) = schema_of(*kind, group) {
                walk(s, &mut seen);
            }
        }
    }
    walk(cluster_network_policy(), &mut seen);
    assert!(seen > 500, "{seen}");
}

fn truth(text: &str, value: &Value) -> Result<bool, String> {
    let schema = Schema::object()
        .with("n", Schema::of_type(Type::Integer))
        .with("f", Schema::of_type(Type::Number))
        .with("any", Schema::number_or_text())
        .with("list", Schema::list(Schema::string()))
        .with("s", Schema::string());
    eval::holds(
        &parse::parse(text).unwrap(),
        Place {
            value,
            schema: &schema,
        },
    )
}

#[test]
fn meanings() {
    let value = json!({"n": 5, "f": 5, "any": 6, "s": "10.1.2.3/8", "list": ["a", "b"]});
    for (text, want) in [
        ("self.n == 5 && self.f == 5.0 && self.f == 5", true),
        ("self.any == 6 && self.any != 'TCP'", true),
        ("has(self.n) && !has(self.m)", true),
        (
            "self.list.exists(x, x == 'b') && !self.list.exists(x, x == 'c')",
            true,
        ),
        ("size(self.list) == 2 && size(self.s) == 10", true),
        ("cidr(self.s) == cidr(self.s).masked()", false),
        (
            "cidr(self.s).prefixLength() == 8 && cidr(self.s).ip().family() == 4",
            true,
        ),
        (
            "cidr(self.s).containsIP('10.9.9.9') && !cidr(self.s).containsIP('fd00::1')",
            true,
        ),
        (
            "isIP('1.2.3.4') && !isIP('01.2.3.4') && !isIP('::ffff:1.2.3.4')",
            true,
        ),
        (
            "isCIDR('1.2.3.0/24') && !isCIDR('1.2.3.0/33') && !isCIDR('1.2.3.0/08')",
            true,
        ),
        ("false ? self.m : self.n <= 5", true),
        ("self.s.startsWith('10.') && self.s.contains('/')", true),
    ] {
        assert_eq!(truth(text, &value), Ok(want), "{text}");
    }
}

#[test]
fn one_side_that_decides_is_enough() {
    let value = json!({"n": 5});
    assert_eq!(truth("self.m == 1 || self.n == 5", &value), Ok(true));
    assert_eq!(truth("self.n == 5 || self.m == 1", &value), Ok(true));
    assert_eq!(truth("self.m == 1 && self.n == 6", &value), Ok(false));
    assert!(truth("self.m == 1 && self.n == 5", &value).is_err());
    assert!(truth("self.m == 1 || self.n == 6", &value).is_err());
}

#[test]
fn what_has_no_answer_is_an_error() {
    for text in [
        "self.m",
        "cidr('x') == cidr('x')",
        "ip('1.2.3')  == ip('1.2.3')",
        "self.n < 'a'",
        "size(self.n) == 1",
        "self.n.x == 1",
        "other == 1",
        "self.n",
    ] {
        assert!(truth(text, &json!({"n": 5})).is_err(), "{text}");
    }
    for text in ["(", "self.", "1 2", "'a", "#", "has(self)", "f(1", "1 ? 2"] {
        assert!(parse::parse(text).is_err(), "{text}");
    }
}
