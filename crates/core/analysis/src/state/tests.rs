use super::*;

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c}]}\n";

fn read(text: &str) -> (State, Vec<String>) {
    let mut state = State::default();
    let mut problems = Vec::new();
    state.read("x.yaml", text, &mut problems);
    (state, problems)
}

#[test]
fn pods_get_addresses_that_are_the_same_in_all_states() {
    let (mut old, problems) = read(POD);
    assert_eq!(problems, Vec::<String>::new());
    let (mut new, _) = read(&format!("{POD}---\n{}", POD.replace("name: a", "name: '0'")));
    give_addresses(&mut [&mut old, &mut new]);
    let address = |s: &State, name: &str| {
        let of = |r: &Resource| match r {
            Resource::WorkloadEndpoint(w) if w.spec.pod == name => w.spec.ip_networks.first().cloned(),
            _ => None,
        };
        s.objects().find_map(of)
    };
    assert_eq!(address(&old, "a").as_deref(), Some("192.168.0.2/32"));
    assert_eq!(address(&new, "a"), address(&old, "a"));
    assert_eq!(address(&new, "0").as_deref(), Some("192.168.0.1/32"));
}

#[test]
fn what_is_missing_is_made_up_and_what_is_foreign_left_out() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n";
    let (mut state, problems) = read(&format!("{POD}---\n{deployment}"));
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(state.skipped().collect::<Vec<_>>(), ["x.yaml: Deployment d"]);
    state.complete();
    let names: Vec<&str> = state.objects().map(|o| o.metadata().name.as_str()).collect();
    for name in ["default", "kns.default", "ksa.default.default"] {
        assert!(names.contains(&name), "{names:?}");
    }
}

#[test]
fn mistakes_name_the_place() {
    for (text, part) in [
        (format!("{POD}---\n{POD}"), "given twice"),
        ("kind: Pod".to_owned(), "apiVersion is missing"),
        (
            "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: bad}\nspec: {selector: 'a ='}"
                .to_owned(),
            "spec.selector",
        ),
    ] {
        let (_, problems) = read(&text);
        assert!(problems.len() == 1 && problems[0].contains(part) && problems[0].contains("x.yaml"), "{problems:?}");
    }
}
