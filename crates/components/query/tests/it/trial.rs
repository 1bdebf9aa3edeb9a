//! Objects that wait for confirmation: judged as nodes have them now.

use caracal_query::{calicoq_with, why_with};

use crate::rig::run;

/// A host endpoint that did not exist before.
fn host(until: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata:\n  name: gate\n  annotations:\n    \
         confirm.caracal/since: 2020-01-01T00:00:00Z\n    confirm.caracal/until: {until}\n    \
         confirm.caracal/previous: 'null'\nspec: {{node: n1, interfaceName: eth0, expectedIPs: [192.0.2.1]}}\n---\n\
         apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: n1}}\nspec: {{bgp: {{ipv4Address: 192.0.2.1/24}}}}\n"
    )
}

#[test]
fn past_the_deadline_it_is_as_if_it_had_never_been() {
    let why = |text: &str| {
        run(
            why_with,
            &["-f", "-", "198.51.100.7", "192.0.2.1", "8080/tcp"],
            text,
        )
    };
    let on = why(&host("2199-01-01T00:00:00Z"));
    assert_eq!(on.code, 1, "{on:?}");
    assert!(
        on.errors
            .contains("note: HostEndpoint(gate) is on trial until 2199"),
        "{on:?}"
    );
    let over = why(&host("2020-01-01T00:01:00Z"));
    assert_eq!(over.code, 0, "{over:?}");
    assert!(
        over.errors.contains(
            "note: HostEndpoint(gate) was not confirmed before 2020-01-01T00:01:00Z: it does not exist"
        ),
        "{over:?}"
    );
    let listed = |text: &str| run(calicoq_with, &["-f", "-", "eval", "all()"], text).output;
    assert!(listed(&host("2199-01-01T00:00:00Z")).contains("Host endpoint n1/gate"));
    assert!(!listed(&host("2020-01-01T00:01:00Z")).contains("gate"));
    // What cannot be read is refused by its name.
    let bad = why(&host("tomorrow"));
    assert!(
        bad.code == 2 && bad.errors.contains("confirm.caracal/until"),
        "{bad:?}"
    );
}
