use std::time::Duration;

use caracal_testkit::eventually;

use crate::rig::Rig;

const HOST: &str = "\
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: n1, labels: {role: web}}
spec: {node: n1, interfaceName: eth0}
";

fn host(interface: &str) -> String {
    HOST.replace("eth0", interface)
}

/// The value of an annotation of the stored object.
fn annotation(rig: &Rig, name: &str) -> String {
    let template =
        format!("-o=go-template={{{{index (index .Items 0).Annotations \"confirm.caracal/{name}\"}}}}");
    rig.run_words(&["get", "hep", "n1", &template], "").out
}

#[test]
fn what_is_applied_on_trial_waits_for_confirmation() {
    let rig = Rig::new();
    rig.run_reading("apply -f -", HOST).ok();
    let tried = rig.run_reading("apply -f - --confirm-within 1h", &host("eth1"));
    assert_eq!(
        (tried.code, tried.out.as_str()),
        (0, "Successfully applied 1 'HostEndpoint' resource(s)\n")
    );
    let until = annotation(&rig, "until");
    assert_eq!(
        tried.err,
        format!(
            "Until 'calicoctl confirm' this is on trial: past {until} nodes go back to what was before\n"
        )
    );
    let previous: serde_json::Value = serde_json::from_str(&annotation(&rig, "previous")).unwrap();
    assert_eq!(previous["spec"]["interfaceName"], "eth0");
    assert_eq!(previous["labels"]["role"], "web");
    let shown = rig.run("get hep n1 -o wide");
    assert!(shown.out.contains("eth1"), "{}", shown.out);
    assert_eq!(shown.err, format!("HostEndpoint(n1) is on trial until {until}\n"));

    // What is exported is for good wherever it is applied.
    let exported = rig.run("get hep n1 -o yaml --export").out;
    assert!(
        exported.contains("eth1") && !exported.contains("confirm.caracal"),
        "{exported}"
    );

    // Another one goes back to what was confirmed last, not to the first one.
    assert_eq!(
        rig.run_reading("apply -f - --confirm-within 2h", &host("eth2"))
            .code,
        0
    );
    let previous: serde_json::Value = serde_json::from_str(&annotation(&rig, "previous")).unwrap();
    assert_eq!(previous["spec"]["interfaceName"], "eth0");

    let confirmed = rig.run("confirm hep n1").ok();
    assert_eq!(confirmed, "Successfully confirmed 1 'HostEndpoint' resource(s)\n");
    let stored = rig.run("get hep n1 -o yaml").ok();
    assert!(
        stored.contains("eth2") && !stored.contains("confirm.caracal"),
        "{stored}"
    );
    let e = rig.run("confirm hep n1").failed();
    assert!(
        e.contains("HostEndpoint(n1)") && e.contains("does not wait"),
        "{e}"
    );

    // The same again changes nothing and begins no trial.
    assert_eq!(
        rig.run_reading("apply -f - --confirm-within 1h", &host("eth2"))
            .code,
        0
    );
    assert_eq!(rig.run("get hep n1 -o yaml").ok(), stored);
}

#[test]
fn after_the_deadline_nothing_can_be_confirmed() {
    let rig = Rig::new();
    let file = rig.file("h.yaml", HOST);
    assert_eq!(rig.run(&format!("apply -f {file} --confirm-within 1s")).code, 0);
    assert_eq!(annotation(&rig, "previous"), "null");
    let e = eventually(Duration::from_secs(30), || {
        let got = rig.run("get hep n1");
        let over = got.err.contains("for nodes it does not exist");
        if over { Ok(got.err) } else { Err(got.err) }
    });
    assert!(e.contains("HostEndpoint(n1) was not confirmed before 2"), "{e}");
    let e = rig.run(&format!("confirm -f {file}")).failed();
    assert!(
        e.contains("HostEndpoint(n1)") && e.contains("went back") && e.contains("document 1"),
        "{e}"
    );
    // An apply without the option is for good.
    rig.run(&format!("apply -f {file}")).ok();
    assert!(!rig.run("get hep n1 -o yaml").ok().contains("confirm.caracal"));
}

#[test]
fn trials_that_make_no_sense_are_refused_before_anything_is_written() {
    let rig = Rig::new();
    let set = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: s}\nspec: {}\n";
    let mixed = rig.file("mixed.yaml", &format!("{HOST}---\n{set}"));
    let e = rig.run(&format!("apply -f {mixed} --confirm-within 1m")).failed();
    assert!(
        e.contains("document 2: GlobalNetworkSet(s)") && e.contains("by itself"),
        "{e}"
    );
    assert!(rig.run("get hep n1").failed().contains("does not exist"));
    for time in ["0", "1", "soon", "9999h"] {
        let e = rig
            .run(&format!("apply -f {mixed} --confirm-within {time}"))
            .failed();
        assert!(e.contains(&format!("--confirm-within={time}")), "{e}");
    }
    // Annotations that cannot be read are refused, whoever wrote them, and named.
    for (annotation, value) in [("until", "soon"), ("previous", "{}"), ("sinc", "x")] {
        let with = HOST.replace(
            "labels: {role: web}",
            &format!(
                "annotations: {{confirm.caracal/since: 2026-01-01T00:00:00Z, confirm.caracal/until: \
                 2026-01-01T00:00:00Z, confirm.caracal/previous: \"null\", confirm.caracal/{annotation}: \"{value}\"}}"
            ),
        );
        let with = if annotation == "sinc" {
            with.replace("confirm.caracal/until: 2026-01-01T00:00:00Z, ", "")
        } else {
            // A key twice would be an error of its own.
            let first = format!("confirm.caracal/{annotation}: ");
            let at = with.find(&first).unwrap();
            let end = with[at..].find(", ").unwrap() + at + 2;
            format!("{}{}", &with[..at], &with[end..])
        };
        for verb in ["apply", "create", "validate"] {
            let e = rig.run_reading(&format!("{verb} -f -"), &with).failed();
            let named = if annotation == "sinc" { "until" } else { annotation };
            assert!(
                e.contains("HostEndpoint") && e.contains(&format!("confirm.caracal/{named}")),
                "{verb}: {e}"
            );
        }
    }
    assert!(rig.run("get hep n1").failed().contains("does not exist"));
}
