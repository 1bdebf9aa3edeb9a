use proptest::prelude::*;
use serde_json::json;

use super::parse;
use crate::table::{Kind, PairsAs, Param};

/// A kind, texts it takes with the JSON they become, texts it refuses.
type Row = (
    Kind,
    &'static [(&'static str, &'static str)],
    &'static [&'static str],
);

const ALL: &[Row] = &[
    (
        Kind::Bool,
        &[
            ("true", "true"),
            ("YES", "true"),
            ("1", "true"),
            ("t", "true"),
            ("n", "false"),
            (" 0 ", "false"),
        ],
        &["on", "2", "truee"],
    ),
    (Kind::OptionalBool, &[("F", "false"), ("", "null")], &["maybe"]),
    (
        Kind::Int((1, 3000)),
        &[("1", "1"), ("0xff", "255"), ("3000", "3000")],
        &["0", "3001", "x", "1.0"],
    ),
    (
        Kind::Seconds,
        &[
            ("90", "90000000000"),
            ("0.25", "250000000"),
            ("-1", "-1000000000"),
        ],
        &["90s", "inf"],
    ),
    (Kind::Millis, &[("50", "50000000"), ("0.5", "500000")], &["50ms"]),
    (
        Kind::OneOf(&["DROP", "RETURN"]),
        &[("drop", "\"DROP\""), ("Return", "\"RETURN\"")],
        &["ACCEPT", "dr op"],
    ),
    (Kind::Text, &[("a b", "\"a b\"")], &[]),
    (
        Kind::Matching("^[a-z]{1,3}$"),
        &[("abc", "\"abc\"")],
        &["abcd", "A"],
    ),
    (Kind::Path, &[("/a/b", "\"/a/b\"")], &[]),
    (Kind::Regex, &[("^(en|wl).*", "\"^(en|wl).*\"")], &["(", "a{2,1}"]),
    (
        Kind::InterfacePatterns,
        &[
            ("kube-ipvs0,/^veth/", "[\"^kube-ipvs0$\",\"^veth\"]"),
            ("a.b", "[\"^a\\\\.b$\"]"),
        ],
        &["/(/", "//", "name of more than fifteen", "/"],
    ),
    (
        Kind::Interfaces,
        &[("docker+, eth0", "[\"docker+\",\"eth0\"]")],
        &["a b", "a-name-that-is-too-long"],
    ),
    (
        Kind::Cidrs,
        &[
            ("10.1.2.3/8,fd00::/8", "[\"10.0.0.0/8\",\"fd00::/8\"]"),
            ("1.2.3.4", "[\"1.2.3.4/32\"]"),
        ],
        &["10.0.0.0/33", "x", "10.0.0/8"],
    ),
    (
        Kind::Endpoints,
        &[(
            "http://a:1, https://[::1]:2379/",
            "[\"http://a:1\",\"https://[::1]:2379\"]",
        )],
        &[
            "a:1",
            "http://a",
            "http://:1",
            "http://a:x",
            "ftp://a:1",
            "http://a/b:1",
        ],
    ),
    (
        Kind::ProtoPorts,
        &[
            ("22", "[{\"protocol\":\"tcp\",\"port\":22}]"),
            ("UDP:53", "[{\"protocol\":\"udp\",\"port\":53}]"),
            (
                "tcp:10.0.0.0/8:80",
                "[{\"protocol\":\"tcp\",\"port\":80,\"net\":\"10.0.0.0/8\"}]",
            ),
            (
                "tcp:[fd00::/8]:80",
                "[{\"protocol\":\"tcp\",\"port\":80,\"net\":\"fd00::/8\"}]",
            ),
        ],
        &[
            "sctp:1",
            "tcp:fd00::/8:80",
            "tcp:70000",
            "x",
            "tcp:10.0.0.0/40:1",
            "tcp:",
            "-1",
        ],
    ),
    (
        Kind::PortRange,
        &[("80", "80"), ("80:90", "\"80:90\""), ("5:5", "5")],
        &["90:80", "65536", "a", "1:2:3"],
    ),
    (Kind::PortRanges, &[("80,90:91", "[80,\"90:91\"]")], &["80,x"]),
    (
        Kind::TableRange,
        &[("1-250", "{\"Min\":1,\"Max\":250}")],
        &["1-251", "5-1", "5", "a-b"],
    ),
    (
        Kind::TableRanges,
        &[(
            "1-2, 4294967295-4294967295",
            "[{\"Min\":1,\"Max\":2},{\"Min\":4294967295,\"Max\":4294967295}]",
        )],
        &["1-65536", "0-4294967295", "2-1", "-1-2"],
    ),
    (
        Kind::Pairs(PairsAs::Object),
        &[("a=b,c=", "{\"a\":\"b\",\"c\":\"\"}")],
        &["a", "=b"],
    ),
    (
        Kind::NamedDurations,
        &[("a=1m,b=2s", "{\"a\":60000000000,\"b\":2000000000}")],
        &["a=1", "a"],
    ),
    (
        Kind::Ipv4,
        &[("10.0.0.1", "\"10.0.0.1\""), ("", "\"\"")],
        &["::1", "10.0.0.256", "x"],
    ),
    (Kind::Ipv6, &[("fd00::1", "\"fd00::1\"")], &["10.0.0.1", "g::"]),
    (
        Kind::Dscp,
        &[("ef", "46"), ("AF11", "10"), ("63", "63"), ("cs0", "0")],
        &["64", "AF99", "-1"],
    ),
    (
        Kind::MarkMask,
        &[("0xffff0000", "4294901760"), ("3", "3")],
        &["1", "0", "0x1ffffffff", "-3", "mask"],
    ),
    (
        Kind::Region,
        &[("region-1", "\"region-1\"")],
        &["Region", "-a", "a.b"],
    ),
];

#[test]
fn good_and_bad_values_of_every_kind() {
    for (kind, good, bad) in ALL {
        for (raw, want) in *good {
            let value = parse(*kind, raw).unwrap_or_else(|e| panic!("{kind:?} {raw}: {e}"));
            assert_eq!(
                value.to_json(),
                serde_json::from_str::<serde_json::Value>(want).unwrap(),
                "{kind:?} {raw}"
            );
        }
        for raw in *bad {
            let error = parse(*kind, raw).expect_err(raw);
            assert!(error.to_string().ends_with("is expected"), "{error}");
        }
    }
}

#[test]
fn every_kind_of_the_table_is_tried() {
    for param in Param::all() {
        let kind = std::mem::discriminant(&param.kind);
        let same_parser = matches!(param.kind, Kind::ExistingFile | Kind::Executable);
        assert!(
            same_parser || ALL.iter().any(|(k, ..)| std::mem::discriminant(k) == kind),
            "{:?}",
            param.kind
        );
    }
}

#[test]
fn an_error_says_what_is_wrong_and_what_is_allowed() {
    let error = parse(Kind::Int((0, 65535)), "70000").unwrap_err();
    assert_eq!(
        error.to_string(),
        "70000 is out of range; a whole number from 0 to 65535 is expected"
    );
}

#[test]
fn table_ranges_are_not_read_across_signs() {
    assert_eq!(
        parse(Kind::TableRanges, "1-2 3-4").unwrap().to_json(),
        json!([{"Min":1,"Max":2},{"Min":3,"Max":4}])
    );
}

proptest! {
    #[test]
    fn no_text_makes_any_parameter_panic(raw in "\\PC{0,24}|[-+0-9a-fx.:,=/ \\[\\]snmh]{0,24}", pick in 0..209_usize) {
        let param = Param::all().nth(pick).unwrap();
        if let Ok(value) = parse(param.kind, &raw) {
            let _ = value.to_json();
        }
    }

    #[test]
    fn durations_survive_the_way_through_a_spec(millis in 0_i64..10_000_000_000) {
        let text = super::seconds_text(millis * 1_000_000, 9);
        let back = parse(Kind::Seconds, &text).unwrap().to_json().as_i64().unwrap();
        prop_assert!((back - millis * 1_000_000).abs() <= 1_000_000, "{text} became {back}");
    }
}
