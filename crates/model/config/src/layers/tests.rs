use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::{Outcome, Source, Sources, SpecLayer, pick_selected, resolve};
use crate::table::Param;

fn object(value: Json) -> Map<String, Json> {
    value.as_object().unwrap().clone()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn layer<'a>(name: &'a str, spec: &'a Map<String, Json>) -> Option<SpecLayer<'a>> {
    Some(SpecLayer {
        name,
        spec,
        annotations: Vec::new(),
    })
}

#[test]
fn the_strongest_source_that_speaks_wins() {
    let specs: Vec<_> = [1, 2, 3]
        .iter()
        .map(|n| object(json!({"healthPort": n})))
        .collect();
    let mut sources = Sources {
        internal: pairs(&[("HealthPort", "6")]),
        env: pairs(&[("FELIX_HEALTHPORT", "5")]),
        file: Some("HealthPort = 4"),
        node: layer("node.a", &specs[2]),
        selector: layer("some", &specs[1]),
        global: layer("default", &specs[0]),
    };
    let check = |sources: &Sources<'_>, raw: &str, source| {
        let resolved = resolve(sources);
        let port = resolved.get("HealthPort").unwrap();
        assert_eq!((port.raw.as_str(), port.source), (raw, source));
        assert_eq!(resolved.problems, []);
    };
    check(&sources, "6", Source::Internal);
    sources.internal.clear();
    check(&sources, "5", Source::Env);
    sources.env = pairs(&[("FELIX_HEALTHPORT", "")]);
    check(&sources, "4", Source::File);
    sources.file = None;
    check(&sources, "3", Source::Node);
    sources.node = None;
    check(&sources, "2", Source::Selector);
    sources.selector = None;
    check(&sources, "1", Source::Global);
    sources.global = None;
    check(&sources, "9099", Source::Default);
}

#[test]
fn none_is_the_zero_value() {
    let env = pairs(&[
        ("FELIX_FailsafeInboundHostPorts", "None"),
        ("FELIX_RouteRefreshInterval", "none"),
    ]);
    let resolved = resolve(&Sources {
        env,
        ..Sources::default()
    });
    assert_eq!(
        resolved.get("FailsafeInboundHostPorts").unwrap().value.to_json(),
        Json::Null
    );
    assert_eq!(
        resolved.get("RouteRefreshInterval").unwrap().value.to_json(),
        json!(0)
    );
    assert_eq!(resolved.problems, []);
}

#[test]
fn none_is_refused_where_zero_makes_no_sense() {
    let resolved = resolve(&Sources {
        env: pairs(&[("FELIX_InterfacePrefix", "none")]),
        ..Sources::default()
    });
    let fatal: Vec<_> = resolved.fatal().map(ToString::to_string).collect();
    assert_eq!(
        fatal,
        [
            "FELIX_InterfacePrefix = \"none\": this parameter cannot be none; the agent does not start with this"
        ]
    );
    assert_eq!(
        resolved.get("InterfacePrefix").unwrap().value.to_json(),
        json!("cali")
    );
}

#[test]
fn none_is_a_word_where_the_parameter_has_it() {
    let env = pairs(&[("FELIX_FlowLogsPolicyEvaluationMode", "none")]);
    let resolved = resolve(&Sources {
        env,
        ..Sources::default()
    });
    assert_eq!(
        resolved
            .get("FlowLogsPolicyEvaluationMode")
            .unwrap()
            .value
            .to_json(),
        json!("None")
    );
}

#[test]
fn a_bad_value_is_the_default_or_the_end() {
    let spec = object(json!({"healthPort": 1}));
    let sources = Sources {
        env: pairs(&[
            ("FELIX_HealthPort", "many"),
            ("FELIX_DefaultEndpointToHostAction", "ALLOW"),
        ]),
        global: layer("default", &spec),
        ..Sources::default()
    };
    let resolved = resolve(&sources);
    let port = resolved.get("HealthPort").unwrap();
    // A weaker source does not step in: the operator meant to override it.
    assert_eq!(
        (port.value.to_json(), port.source, port.raw.as_str()),
        (json!(9099), Source::Env, "many")
    );
    let said: Vec<_> = resolved
        .problems
        .iter()
        .map(|p| (p.name.as_str(), p.outcome))
        .collect();
    assert_eq!(
        said,
        [
            ("HealthPort", Outcome::DefaultUsed),
            ("DefaultEndpointToHostAction", Outcome::MustExit)
        ]
    );
    assert_eq!(
        resolved.problems[0].to_string(),
        "FELIX_HealthPort = \"many\": \"many\" is not a whole number; a whole number from 0 to 65535 is expected; \
         the default is used"
    );
}

#[test]
fn a_value_of_the_wrong_type_in_a_spec_is_a_bad_value() {
    let spec =
        object(json!({"healthPort": "x", "nftablesMarkMask": "x", "healthprot": 5, "nodeSelector": "all()"}));
    let resolved = resolve(&Sources {
        global: layer("default", &spec),
        ..Sources::default()
    });
    let said: Vec<_> = resolved
        .problems
        .iter()
        .map(|p| (p.place.as_str(), p.outcome))
        .collect();
    assert_eq!(
        said,
        [
            ("spec.healthprot of FelixConfiguration default", Outcome::Ignored),
            (
                "spec.healthPort of FelixConfiguration default",
                Outcome::DefaultUsed
            ),
            (
                "spec.nftablesMarkMask of FelixConfiguration default",
                Outcome::MustExit
            ),
        ]
    );
    assert!(resolved.problems[0].why.contains("did you mean healthPort?"));
}

#[test]
fn a_local_parameter_is_not_taken_from_the_datastore() {
    let spec = Map::new();
    let global = SpecLayer {
        name: "default",
        spec: &spec,
        annotations: vec![
            ("config.projectcalico.org/FelixHostname", "evil"),
            ("other/x", "y"),
        ],
    };
    let resolved = resolve(&Sources {
        global: Some(global),
        ..Sources::default()
    });
    assert_eq!(resolved.get("FelixHostname").unwrap().source, Source::Default);
    assert_eq!(resolved.problems.len(), 1);
    assert_eq!(resolved.problems[0].outcome, Outcome::Ignored);
}

#[test]
fn an_annotation_overrides_its_own_object_and_no_stronger_one() {
    let spec = object(json!({"healthPort": 1, "healthHost": "a"}));
    let node = object(json!({"healthHost": "b"}));
    let sources = Sources {
        node: layer("node.a", &node),
        global: Some(SpecLayer {
            name: "default",
            spec: &spec,
            annotations: vec![
                ("config.projectcalico.org/HealthPort", "2"),
                ("config.projectcalico.org/HealthHost", "c"),
                ("config.caracal/LogFormat", "json"),
            ],
        }),
        ..Sources::default()
    };
    let resolved = resolve(&sources);
    assert_eq!(resolved.get("HealthPort").unwrap().raw, "2");
    assert_eq!(resolved.get("HealthHost").unwrap().raw, "b");
    assert_eq!(resolved.get("LogFormat").unwrap().value.to_json(), json!("json"));
    assert_eq!(resolved.problems, []);
}

#[test]
fn unknown_names_are_reported_with_the_nearest() {
    let env = pairs(&[
        ("FELIX_HealthPrt", "1"),
        ("CARACAL_WHATEVER", "1"),
        ("PATH", "/bin"),
        ("NOTFELIX_A", "1"),
    ]);
    let resolved = resolve(&Sources {
        env,
        file: Some("junk\nNope = 1"),
        ..Sources::default()
    });
    let said: Vec<_> = resolved.problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "FELIX_HealthPrt = \"1\": there is no parameter of this name (did you mean HealthPort?); ignored",
            "line 1 of the configuration file = \"junk\": this is not name = value; ignored",
            "Nope in the configuration file = \"1\": there is no parameter of this name; ignored",
        ]
    );
}

#[test]
fn two_spellings_of_one_variable_do_not_pass_unnoticed() {
    let env = pairs(&[("felix_healthport", "2"), ("FELIX_HealthPort", "1")]);
    let resolved = resolve(&Sources {
        env,
        ..Sources::default()
    });
    assert_eq!(resolved.get("HealthPort").unwrap().raw, "1");
    assert_eq!(resolved.problems.len(), 1);
}

#[test]
fn own_parameters_have_their_own_prefix() {
    let env = pairs(&[("CARACAL_LOG_FORMAT", "JSON"), ("FELIX_AgentSocket", "/x")]);
    let resolved = resolve(&Sources {
        env,
        ..Sources::default()
    });
    assert_eq!(resolved.get("LogFormat").unwrap().value.to_json(), json!("json"));
    assert_eq!(
        resolved.get("LogFormat").unwrap().param.env(),
        "CARACAL_LOG_FORMAT"
    );
    assert_eq!(resolved.problems.len(), 1);
    assert_eq!(resolved.params().len(), 209);
    assert_eq!(resolved.own().len(), Param::own().count());
}

#[test]
fn a_parameter_without_its_feature_is_named_when_it_is_set() {
    let env = pairs(&[
        ("FELIX_BPFEnabled", "true"),
        ("FELIX_XDPEnabled", "true"),
        ("FELIX_HealthPort", "1"),
    ]);
    let resolved = resolve(&Sources {
        env,
        ..Sources::default()
    });
    // XDPEnabled is set to its default, which changes nothing.
    assert_eq!(
        resolved.unsupported().map(|p| p.param.name).collect::<Vec<_>>(),
        ["BPFEnabled"]
    );
}

#[test]
fn reports_have_calicos_names() {
    let resolved = resolve(&Sources {
        env: pairs(&[("FELIX_HEALTHPORT", "0x10")]),
        ..Sources::default()
    });
    assert_eq!(
        resolved.get("HealthPort").unwrap().to_json(),
        json!({"name": "HealthPort", "env": "FELIX_HealthPort", "value": 16, "raw": "0x10", "source": "env", "supported": true})
    );
}

#[test]
fn files_that_must_exist_and_changes_can_be_asked_for() {
    let before = resolve(&Sources::default());
    let after = resolve(&Sources {
        env: pairs(&[("FELIX_EtcdCaFile", "/ca")]),
        ..Sources::default()
    });
    assert_eq!(
        after.files_that_must_exist().collect::<Vec<_>>(),
        [("EtcdCaFile", "/ca")]
    );
    assert_eq!(after.changed_since(&before), ["EtcdCaFile"]);
}

#[test]
fn of_several_selected_only_the_oldest_counts() {
    let objects = [
        ("2026-01-02T00:00:00Z", "a", 1),
        ("2026-01-01T00:00:00Z", "c", 2),
        ("2026-01-01T00:00:00Z", "b", 3),
    ];
    assert_eq!(pick_selected(objects), Some(3));
    assert_eq!(pick_selected::<u8>([]), None);
}

proptest! {
    #[test]
    fn any_sources_resolve_every_parameter(
        env in prop::collection::vec(("(FELIX_|CARACAL_)?\\PC{0,10}", "\\PC{0,10}"), 0..6),
        named in prop::collection::vec((0..209_usize, "\\PC{0,10}|none|[0-9:,-]{1,8}"), 0..6),
        file in "\\PC{0,40}(\n\\PC{0,40}){0,3}",
    ) {
        let mut env = env;
        env.extend(named.into_iter().map(|(i, raw)| (Param::all().nth(i).unwrap().env(), raw)));
        let resolved = resolve(&Sources { env, file: Some(&file), ..Sources::default() });
        prop_assert_eq!(resolved.params().len(), 209);
        // Whatever was said, the typed view exists.
        let _ = crate::FelixConfig::new(&resolved);
    }
}
