//! `caracal why` says of every probe of the tables what the tables say; and the kernel of a node that has the rules of
//! a step agrees.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use caracal_desired::Desired;
use caracal_ids::NodeName;
use caracal_net::Family;
use caracal_nft::{Config, Nft};
use caracal_oracle::Verdict;
use caracal_policy::Engine;
use caracal_rules::{Compiler, RulesConfig};
use caracal_store::Store;
use caracal_store_memory::MemoryStore;
use caracal_testkit::{needs, netns};
use caracal_update::{InSync, Update};
use serde_json::Value;

use super::model::has_family;
use super::table::{Case, Probe, Step};
use super::{mapping, objects, table};
use crate::asking::{self, is_night};

const NODE: &str = "model";

/// Of the tables' 60 000 probes one of so many is asked by day, and all at night.
const BY_DAY: usize = 151;
/// With the rules in the kernel, which are read for every probe.
const BY_DAY_IN_THE_KERNEL: usize = 1999;
const AT_NIGHT_IN_THE_KERNEL: usize = 11;

fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../testdata/policy");
    let files = ["kubernetes-truth-tables.json.gz", "calico-cases.json"];
    let read = |name: &str| table::read(&path.join(name)).expect("the table is there");
    files.into_iter().flat_map(read).collect()
}

/// The first of one in `stride` probes: the same every day, another each night, so that in as many nights all are asked.
fn first_of(stride: usize) -> usize {
    let given = std::env::var("WHY_FIRST").ok().and_then(|t| t.parse().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nights = now.map_or(0, |t| usize::try_from(t.as_secs() / 86_400).unwrap_or(0));
    given.unwrap_or(if is_night() { nights } else { 0 }) % stride
}

/// The exit code of `caracal why` for a probe, and what it said.
fn why(store: &Arc<dyn Store>, step: &Step, probe: &Probe, family: Family, kernel: &str) -> (i32, String) {
    let address = |at: usize| mapping::address(step.pods[at].addr, family).to_string();
    let words = [
        address(probe.from),
        address(probe.to),
        format!("{}/{}", probe.port, probe.protocol.proto()),
        "--kernel".to_owned(),
        kernel.to_owned(),
        "--node".to_owned(),
        NODE.to_owned(),
        "--output=json".to_owned(),
    ];
    asking::why(store, &words)
}

/// Whether an answer says of both directions what the table says; the second is asked where the first lets it through.
fn has_both_directions(text: &str, probe: &Probe) -> bool {
    let answers: Value = serde_json::from_str(text).unwrap_or_default();
    let places = answers[0]["places"].as_array().map_or(&[][..], Vec::as_slice);
    let said = |direction: &str| {
        let mut of_it = places.iter().filter(|p| p["direction"] == direction);
        of_it.next().map(|p| p["verdict"].clone())
    };
    let ingress = (probe.egress == Verdict::Allowed).then(|| probe.ingress.to_string().into());
    said("egress") == Some(probe.egress.to_string().into()) && said("ingress") == ingress
}

/// Asks one of `stride` probes; `prepare` is called once for a step that has one.
fn ask(
    cases: &[Case],
    family: Family,
    stride: usize,
    kernel: &str,
    mut prepare: impl FnMut(&objects::Objects),
) -> usize {
    let first = first_of(stride);
    println!("-- {family:?}: probe {first} and then each {stride}th");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let (mut seen, mut asked) = (0, 0);
    for case in cases {
        for (n, step) in case.steps.iter().enumerate() {
            let judged = step
                .probes
                .iter()
                .filter(|p| !p.is_to_itself() && has_family(step, p, family));
            let chosen: Vec<&Probe> = judged
                .filter(|_| {
                    seen += 1;
                    seen % stride == first
                })
                .collect();
            if chosen.is_empty() {
                continue;
            }
            let wanted = objects::of_step(step, family, &|_| NODE);
            prepare(&wanted);
            let store: Arc<dyn Store> = Arc::new(MemoryStore::etcd());
            for object in wanted.values() {
                let made = runtime.block_on(store.create((**object).clone()));
                made.unwrap_or_else(|e| panic!("{case}, step {}: {e}", n + 1));
            }
            for probe in chosen {
                let (code, text) = why(&store, step, probe, family, kernel);
                let expected = i32::from(probe.combined == Verdict::Blocked);
                assert_eq!(code, expected, "{case}, step {}, {probe:?}\n{text}", n + 1);
                let both = has_both_directions(&text, probe);
                assert!(both, "{case}, step {}, {probe:?}\n{text}", n + 1);
                asked += 1;
            }
        }
    }
    asked
}

#[test]
fn why_says_what_the_tables_say() {
    let cases = cases();
    let stride = if is_night() { 1 } else { BY_DAY };
    for family in Family::BOTH {
        // At night the second family, too, would take its time: of the same tables each night asks another third.
        let stride = if family == Family::V6 { stride * 3 } else { stride };
        let asked = ask(&cases, family, stride, "never", |_| {});
        assert!(asked > 40_000 / stride, "{asked} of {family:?}");
    }
}

#[test]
fn netns_the_kernel_agrees_with_why_on_the_tables() {
    netns!(900);
    needs!("root", "nft");
    let cases = cases();
    let stride = if is_night() {
        AT_NIGHT_IN_THE_KERNEL
    } else {
        BY_DAY_IN_THE_KERNEL
    };
    for family in Family::BOTH {
        let stride = if family == Family::V6 { stride * 2 } else { stride };
        let asked = ask(&cases, family, stride, "always", |objects| {
            let mut engine = Engine::new(NodeName::new(NODE).expect("a name"));
            objects.iter().for_each(|(key, value)| {
                engine.apply(&Update {
                    key: key.clone(),
                    value: Some(value.clone()),
                });
            });
            let deltas = engine.flush();
            let mut desired = Desired::default();
            desired.apply_all(deltas.clone());
            let mut compiler = Compiler::new(RulesConfig::default());
            compiler.apply_all(&deltas);
            let mut driver = Nft::open(Config::default()).expect("root in a fresh namespace");
            driver
                .start(compiler.full_state(), &InSync::after_complete_snapshot())
                .expect("a load");
        });
        assert!(asked > 40_000 / stride, "{asked} of {family:?}");
    }
}
