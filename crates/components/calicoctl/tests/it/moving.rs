use crate::rig::Rig;

const CLUSTER: &str = "\
apiVersion: projectcalico.org/v3
kind: ClusterInformation
metadata: {name: default}
spec: {clusterGUID: abc, datastoreReady: true}
---
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: net}
spec: {order: 5}
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: net.a, namespace: shop}
spec: {tier: net, selector: all()}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: p}
spec: {cidr: 10.0.0.0/16}
";

#[test]
fn everything_moves_from_one_datastore_to_another() {
    let (old, new) = (Rig::new(), Rig::new());
    old.run_reading("apply -f -", CLUSTER).ok();
    let e = old.run("datastore migrate export").failed();
    assert!(e.contains("not locked"), "{e}");
    assert_eq!(old.run("datastore migrate lock").ok(), "Datastore locked.\n");
    let export = old.run("datastore migrate export").ok();
    let handle = "---\napiVersion: projectcalico.org/v3\nkind: IPAMHandle\nmetadata: {name: h}\nspec: {handleID: h, block: {10.0.0.0/26: 1}}\n";

    // A cluster that is in use is not written over.
    new.run_reading("apply -f -", CLUSTER).ok();
    let e = new.run_reading("datastore migrate import -f -", &export).failed();
    assert!(
        e.contains("uses embedded store") || e.contains("uses etcd"),
        "{e}"
    );
    new.run("datastore migrate lock").ok();
    new.run("delete np net.a -n shop").ok();
    assert_eq!(
        new.run_reading(
            "datastore migrate import --filename -",
            &(export.clone() + handle)
        )
        .ok(),
        "Successfully imported 4 resource(s)\n"
    );
    let strip = |text: String| {
        let volatile = ["uid:", "resourceVersion:", "creationTimestamp:"];
        let kept = text
            .lines()
            .filter(|l| !volatile.iter().any(|v| l.trim_start().starts_with(v)));
        kept.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(strip(new.all()), strip(old.all()));
    assert!(new.run("get ipamhandle h -o yaml").ok().contains("handleID: h"));
    assert!(new.run("get clusterinfo").ok().contains("false"));
    assert_eq!(new.run("datastore migrate unlock").ok(), "Datastore unlocked.\n");
    assert!(new.run("get clusterinfo").ok().contains("true"));

    let e = new.run_reading("datastore migrate import -f -", handle).failed();
    assert!(e.contains("no export"), "{e}");
    let e = Rig::new().run("datastore migrate lock").failed();
    assert!(e.contains("ClusterInformation(default)"), "{e}");
}
