use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::{Severity, nearest, spec_to_raw, validate_spec};
use crate::table::Param;

fn object(value: Json) -> Map<String, Json> {
    value.as_object().unwrap().clone()
}

#[test]
fn values_become_the_text_that_the_file_would_have() {
    for (field, value, want) in [
        ("healthEnabled", json!(true), "true"),
        ("healthPort", json!(9099), "9099"),
        ("routeRefreshInterval", json!("1m30s"), "90"),
        ("routeRefreshInterval", json!("1500ms"), "1.5"),
        ("routeRefreshInterval", json!(""), ""),
        ("iptablesLockProbeInterval", json!("50ms"), "50"),
        ("logSeverityScreen", json!("Debug"), "Debug"),
        (
            "externalNodesList",
            json!(["10.0.0.0/8", "fd00::/8"]),
            "10.0.0.0/8,fd00::/8",
        ),
        ("externalNodesList", json!([]), "none"),
        (
            "failsafeInboundHostPorts",
            json!([{"port": 22}, {"protocol": "UDP", "port": 53, "net": "10.0.0.0/8"},
                   {"protocol": "tcp", "port": 1, "net": "::/0"}]),
            "tcp:22,udp:10.0.0.0/8:53,tcp:[::/0]:1",
        ),
        ("failsafeInboundHostPorts", json!([]), "none"),
        ("natPortRange", json!("1:2"), "1:2"),
        ("natPortRange", json!(7), "7"),
        ("kubeNodePortRanges", json!([80, "90:91"]), "80,90:91"),
        ("routeTableRange", json!({"min": 1, "max": 5}), "1-5"),
        (
            "routeTableRanges",
            json!([{"min": 1, "max": 5}, {"min": 7, "max": 8}]),
            "1-5,7-8",
        ),
        ("bpfLogFilters", json!({"all": "host"}), "all=host"),
        (
            "bpfConntrackTimeouts",
            json!({"tcpEstablished": "1h", "tcpFinsSeen": "Auto"}),
            "TCPEstablished=1h,TCPFinsSeen=Auto",
        ),
        (
            "healthTimeoutOverrides",
            json!([{"name": "a", "timeout": "1m"}]),
            "a=1m",
        ),
        ("nftablesMarkMask", json!(4_294_901_760_u32), "4294901760"),
        ("featureGates", json!("a=b"), "a=b"),
        ("healthHost", Json::Null, ""),
    ] {
        let param = Param::by_field(field).unwrap();
        assert_eq!(spec_to_raw(param, &value).as_deref(), Ok(want), "{field} {value}");
    }
}

#[test]
fn a_good_spec_has_no_problem() {
    let spec = object(json!({
        "nodeSelector": "all()", "healthEnabled": false, "healthPort": 0, "logSeverityScreen": "info",
        "floatingIPs": "Enabled", "routeRefreshInterval": "0s", "deviceRouteSourceAddress": "10.0.0.1",
        "natPortRange": "1:2", "failsafeInboundHostPorts": [], "logPrefix": "a %t/", "interfacePrefix": "cali,tap",
        "logActionRateLimit": "10/second", "kubeNodePortRanges": [80], "bpfConntrackTimeouts": {"udpTimeout": "1m"},
        "routeTableRanges": [{"min": 1, "max": 5}], "mtuIfacePattern": "^eth", "vxlanVNI": 5, "iptablesBackend": "NFT",
        "bpfMapSizePerCpuConntrack": 1, "defaultEndpointToHostAction": ""
    }));
    assert_eq!(validate_spec(&spec), []);
}

#[test]
fn problems_name_the_field_and_what_is_allowed() {
    use Severity::{Error, Warning};
    for (field, value, severity, words) in [
        ("healthport", json!(1), Error, "did you mean healthPort?"),
        ("HealthEnabeld", json!(1), Error, "did you mean healthEnabled?"),
        ("utterNonsenseOfSomeLength", json!(1), Error, "has no such field"),
        ("healthPort", json!("9099"), Error, "a whole number is expected"),
        (
            "healthPort",
            json!(70000),
            Warning,
            "70000 is out of range; a whole number from 0 to 65535",
        ),
        ("healthEnabled", json!("true"), Error, "true or false is expected"),
        (
            "routeRefreshInterval",
            json!(90),
            Error,
            "a duration text such as 1m30s",
        ),
        ("routeRefreshInterval", json!("90"), Error, "is not a duration"),
        ("floatingIPs", json!("enabled"), Error, "one of Enabled, Disabled"),
        (
            "defaultEndpointToHostAction",
            json!("Allow"),
            Error,
            "one of ACCEPT, DROP, RETURN",
        ),
        (
            "nftablesMarkMask",
            json!(-1),
            Error,
            "a number from 0 to 4294967295",
        ),
        ("nftablesMarkMask", json!(1), Warning, "fewer than two bits set"),
        (
            "interfacePrefix",
            json!("a/b"),
            Warning,
            "the agent would refuse to start",
        ),
        ("dataplaneDriver", json!(["x"]), Error, "a text is expected"),
        ("logActionRateLimit", json!(""), Error, "that matches"),
        ("logActionRateLimitBurst", json!(10000), Error, "from 0 to 9999"),
        ("bpfMapSizeConntrackCleanupQueue", json!(0), Error, "from 1"),
        (
            "kubeNodePortRanges",
            json!([1, 2, 3, 4, 5, 6, 7, 8]),
            Error,
            "at most 7",
        ),
        (
            "routeTableRange",
            json!({"min": 0, "max": 5}),
            Error,
            "from 1 to 250",
        ),
        (
            "routeTableRange",
            json!({"min": 1}),
            Error,
            "an object {min, max}",
        ),
        ("bpfConntrackTimeouts", json!({"udp": "1m"}), Error, "udpTimeout"),
        (
            "bpfConntrackTimeouts",
            json!({"udpTimeout": "soon"}),
            Error,
            "is not a duration",
        ),
        (
            "healthTimeoutOverrides",
            json!([{"name": "a"}]),
            Error,
            "a list of {name, timeout}",
        ),
        (
            "failsafeInboundHostPorts",
            json!([{"protocol": "tcp"}]),
            Error,
            "needs a port",
        ),
        (
            "failsafeInboundHostPorts",
            json!([{"protocol": "sctp", "port": 1}]),
            Warning,
            "neither tcp nor udp",
        ),
        (
            "externalNodesList",
            json!(["10.0.0.0/33"]),
            Warning,
            "is not a CIDR",
        ),
        ("featureDetectOverride", json!("a=maybe"), Error, "that matches"),
        ("nodeSelector", json!(5), Error, "a selector text"),
        (
            "deviceRouteSourceAddress",
            json!("::1"),
            Error,
            "is not an IPv4 address",
        ),
    ] {
        let problems = validate_spec(&object(json!({field: value.clone()})));
        let [problem] = problems.as_slice() else {
            panic!("{field} {value}: {problems:?}")
        };
        assert_eq!(problem.severity, severity, "{problem}");
        assert!(
            problem.to_string().starts_with(&format!("spec.{field} = ")),
            "{problem}"
        );
        assert!(
            problem.to_string().contains(words),
            "{problem} does not say {words}"
        );
    }
}

#[test]
fn each_field_is_judged_alone() {
    let spec = object(json!({"healthPort": "x", "healthHost": 5, "healthEnabled": true}));
    let fields: Vec<_> = validate_spec(&spec).into_iter().map(|p| p.field).collect();
    assert_eq!(fields, ["healthPort", "healthHost"]);
}

#[test]
fn a_near_name_is_found_and_a_far_one_is_not() {
    let known = || Param::all().map(|p| p.field);
    assert_eq!(nearest("vxlanPorts", known()), Some("vxlanPort"));
    assert_eq!(nearest("zzz", known()), None);
    assert_eq!(nearest(&"x".repeat(10_000), known()), None);
}

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        "\\PC{0,12}".prop_map(Json::from),
        "[-0-9.:smh/]{0,12}".prop_map(Json::from),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        let keys = prop_oneof![
            "port",
            "net",
            "protocol",
            "min",
            "max",
            "name",
            "timeout",
            "[a-z]{1,4}"
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
            prop::collection::vec((keys, inner), 0..4).prop_map(|m| Json::Object(m.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_value_makes_a_field_panic(value in any_json(), pick in 0..209_usize) {
        let param = Param::all().nth(pick).unwrap();
        let field = if param.field.is_empty() { param.name } else { param.field };
        for problem in validate_spec(&object(json!({field: value}))) {
            prop_assert!(!problem.to_string().is_empty());
        }
    }
}
