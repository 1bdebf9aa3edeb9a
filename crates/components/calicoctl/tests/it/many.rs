use crate::rig::Rig;

#[test]
fn many_objects_in_one_file_keep_their_order() {
    let rig = Rig::new();
    // As many as a large cluster has at night, when it may take its time.
    let count = if std::env::var_os("CARACAL_NIGHTLY").is_some() {
        10_000
    } else {
        1_000
    };
    let set = |i: usize, net: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {{name: s{i:05}}}\nspec: {{nets: [{net}]}}\n---\n"
        )
    };
    let text: String = (0..count).map(|i| set(i, "10.0.0.0/8")).collect();
    // The last word on an object is the last document about it.
    let text = text + &set(7, "10.7.0.0/16");
    let file = rig.file("many.yaml", &text);
    assert_eq!(
        rig.run(&format!("apply -f {file}")).ok(),
        format!(
            "Successfully applied {} 'GlobalNetworkSet' resource(s)\n",
            count + 1
        )
    );
    let table = rig.run("get gnetsets -o wide").ok();
    assert_eq!(table.lines().count(), count + 2);
    assert!(table.contains("\ns00007   10.7.0.0/16   \n"), "{table}");

    // Some exist, some do not: each of these is named with its document.
    rig.run("delete gnetsets s00003 s00500").ok();
    let ran = rig.run(&format!("replace -f {file}"));
    assert_eq!(
        ran.out,
        format!(
            "Partial success: replaced {} out of {} 'GlobalNetworkSet' resources\n",
            count - 1,
            count + 1
        )
    );
    let e = ran.failed();
    assert!(
        e.contains("document 4: resource does not exist: GlobalNetworkSet(s00003)"),
        "{e}"
    );
    assert!(
        e.contains("document 501: resource does not exist: GlobalNetworkSet(s00500)"),
        "{e}"
    );

    assert_eq!(
        rig.run(&format!("delete -s -f {file}")).out,
        format!(
            "Successfully deleted {} 'GlobalNetworkSet' resource(s)\n",
            count - 2
        )
    );
}
