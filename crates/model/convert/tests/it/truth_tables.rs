//! Every policy of the truth tables converts, whole.

use std::io::Read;

use caracal_api::{ManifestObject, parse_value};
use caracal_convert::foreign;
use serde_json::Value;

#[test]
fn every_policy_of_the_truth_tables_converts() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../../testdata/policy/kubernetes-truth-tables.json.gz"
    );
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).expect("testdata is there"))
        .read_to_string(&mut text)
        .expect("gzip");
    let cases: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    let steps = cases.iter().filter_map(|c| c["Steps"].as_array()).flatten();
    let mut converted = 0;
    for policy in steps.filter_map(|s| s["Policies"].as_array()).flatten() {
        let ManifestObject::Foreign(f) =
            parse_value("truth tables", policy).unwrap_or_else(|e| panic!("{e}"))
        else {
            panic!("{policy} is Calico's");
        };
        let out = foreign(&f).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(out.len(), 1);
        let bad = caracal_api::validate(&out[0]);
        assert!(bad.is_empty(), "{policy}: {bad:?}");
        converted += 1;
    }
    assert_eq!(converted, 142);
}
