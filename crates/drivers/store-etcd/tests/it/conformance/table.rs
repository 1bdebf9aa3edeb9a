//! The table of behaviours and datastores in `docs/datastore.md`, and where a behaviour is not to be had.

use std::fmt::Write;

use super::ALL;
use crate::backend::Column;

/// Behaviours that a datastore need not show, and why.
const EXEMPT: &[(&str, &[Column], &str)] = &[
    ("too_large_values_are_refused", MEMORY, "no limit"),
    ("a_value_over_the_limit_changes_nothing", MEMORY, "no limit"),
    ("reports_are_written_listed_and_retracted", MEMORY, "no reports"),
    ("reports_go_with_their_lease", MEMORY, "no reports"),
    ("of_several_writes_all_are_done_or_none", ALONE, NO_TXN),
    ("what_is_written_together_is_one_change", ALONE, NO_TXN),
    ("what_is_read_together_is_of_one_moment", ALONE, NO_TXN),
    ("more_than_a_transaction_takes_is_refused_whole", ALONE, NO_TXN),
    ("nothing_to_write_together_is_done", ALONE, NO_TXN),
    ("one_object_twice_in_a_transaction_is_refused", ALONE, NO_TXN),
    ("writes_together_keep_what_single_writes_keep", ALONE, NO_TXN),
    ("of_many_transactions_on_one_object_one_succeeds", ALONE, NO_TXN),
    (
        "a_transaction_that_a_restart_cuts_off_is_no_refusal",
        ALONE,
        NO_TXN,
    ),
];
const ALONE: &[Column] = &[Column::MemoryKubernetes];
const NO_TXN: &str = "no transactions";
const MEMORY: &[Column] = &[Column::MemoryEtcd, Column::MemoryKubernetes];

/// The name of a function without its module.
fn plain(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name).trim()
}

/// Why the datastore need not show the behaviour; `None` if it must.
pub(super) fn exempt(name: &str, column: Column) -> Option<&'static str> {
    let row = EXEMPT
        .iter()
        .find(|(n, columns, _)| *n == plain(name) && columns.contains(&column));
    row.map(|(.., why)| *why)
}

const BEGIN: &str = "<!-- behaviours: made by the conformance suite; CARACAL_WRITE_DOCS=1 writes it -->\n";
const END: &str = "<!-- end of behaviours -->";

fn table() -> String {
    let mut text = String::from("| behaviour |");
    let heads = Column::ALL.map(|c| format!(" {} |", c.heading())).concat();
    let _ = writeln!(text, "{heads}\n|---|{}", "---|".repeat(Column::ALL.len()));
    for (name, _) in ALL {
        let cells = Column::ALL.map(|c| format!(" {} |", exempt(name, c).unwrap_or("yes")));
        let _ = writeln!(text, "| {} |{}", plain(name).replace('_', " "), cells.concat());
    }
    let _ = writeln!(text, "\n{} behaviours.", ALL.len());
    text
}

#[test]
fn the_table_in_the_docs_is_this_suites() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/datastore.md");
    let text = std::fs::read_to_string(path).unwrap();
    let (before, rest) = text
        .split_once(BEGIN)
        .expect("the docs have a place for the table");
    let (now, after) = rest.split_once(END).expect("the table ends");
    let want = table();
    if now == want {
        return;
    }
    if std::env::var_os("CARACAL_WRITE_DOCS").is_some() {
        std::fs::write(path, format!("{before}{BEGIN}{want}{END}{after}")).unwrap();
        return;
    }
    panic!(
        "docs/datastore.md has another table than the suite: run the test with CARACAL_WRITE_DOCS=1 and commit"
    );
}

#[test]
fn every_exemption_is_of_a_behaviour() {
    for (name, ..) in EXEMPT {
        assert!(ALL.iter().any(|(n, _)| plain(n) == *name), "{name}");
    }
    assert!(ALL.len() >= 60);
}
