use std::{sync::Arc, time::Duration};

use caracal_api::{ClusterInformationSpec, Object, Resource};
use caracal_calicoctl::Io;
use caracal_store::{Store, StoreError};
use caracal_store_memory::{MemoryStore, Op};
use caracal_testkit::{Etcd, eventually, needs};

use crate::rig::{Rig, run};

const POLICY: &str = "\
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata:
  name: allow-web
  namespace: shop
spec:
  order: 100
  selector: app == 'web'
  ingress:
  - action: Allow
    protocol: TCP
    source:
      nets:
      - 10.0.0.0/8
    destination:
      ports:
      - 80
      - 8000:8080
";

#[test]
fn an_object_lives() {
    lives(&Rig::new());
}

#[test]
fn an_object_lives_in_etcd() {
    needs!("etcd");
    let etcd = Etcd::start();
    lives(&Rig::over(&etcd.endpoint()));
}

fn lives(rig: &Rig) {
    let file = rig.file("p.yaml", POLICY);
    assert_eq!(
        rig.run(&format!("create -f {file}")).ok(),
        "Successfully created 1 'NetworkPolicy' resource(s)\n"
    );
    let e = rig.run(&format!("create -f {file}")).failed();
    assert_eq!(
        e,
        format!(
            "Failed to create 'NetworkPolicy' resource: {file}, document 1: resource already exists: \
             NetworkPolicy(shop/allow-web)\n"
        )
    );
    let skipped = rig.run(&format!("create --skip-exists -f {file}"));
    assert_eq!(skipped.code, 0);
    assert_eq!(
        skipped.err,
        "Skipped 1 'NetworkPolicy' resource(s) that existed already\n"
    );

    // Defaults are filled in; what was written comes back.
    let exported = rig.run("get np allow-web -n shop -o yaml --export").ok();
    assert_eq!(
        exported,
        POLICY
            .replace(
                "name: allow-web\n  namespace: shop\n",
                "name: allow-web\n  namespace: shop\n  labels:\n    projectcalico.org/tier: default\n"
            )
            .replace("spec:\n", "spec:\n  tier: default\n")
            .replace("  selector: app == 'web'\n  ingress", "  ingress")
            + "  selector: app == 'web'\n  types:\n  - Ingress\n"
    );
    // What get prints, apply takes.
    let whole = rig.run("get np allow-web -n shop -o yaml").ok();
    assert!(
        whole.contains("resourceVersion: ") && whole.contains("uid: "),
        "{whole}"
    );
    assert_eq!(
        rig.run_reading("apply -f -", &whole).ok(),
        "Successfully applied 1 'NetworkPolicy' resource(s)\n"
    );
    let json = rig.run("get np allow-web -n shop -o json").ok();
    assert!(
        json.starts_with("{\n  \"apiVersion\": \"projectcalico.org/v3\",\n"),
        "{json}"
    );

    let changed = rig.file("c.yaml", &POLICY.replace("order: 100", "order: 7"));
    assert_eq!(
        rig.run(&format!("replace -f {changed}")).ok(),
        "Successfully replaced 1 'NetworkPolicy' resource(s)\n"
    );
    // Somebody changed it since it was read.
    let e = rig.run_reading("replace -f -", &whole).failed();
    assert!(
        e.contains("stdin, document 1: update conflict: NetworkPolicy(shop/allow-web)"),
        "{e}"
    );
    assert_eq!(
        rig.run("get np -n shop -o wide").ok(),
        "NAME        TIER      ORDER   SELECTOR       \n\
         allow-web   default   7       app == 'web'   \n\n"
    );

    assert_eq!(
        rig.run("delete np allow-web --namespace=shop").ok(),
        "Successfully deleted 1 'NetworkPolicy' resource(s)\n"
    );
    let e = rig.run("delete np allow-web -n shop").failed();
    assert!(
        e.starts_with(
            "Failed to delete 'NetworkPolicy' resource: resource does not exist: NetworkPolicy(shop/allow-web)"
        ),
        "{e}"
    );
    assert_eq!(rig.run("delete np allow-web -n shop -s").code, 0);
    let e = rig.run("get np allow-web -n shop").failed();
    assert!(
        e.starts_with("resource does not exist: NetworkPolicy(shop/allow-web)"),
        "{e}"
    );
    let e = rig.run(&format!("replace -f {file}")).failed();
    assert!(
        e.contains("resource does not exist: NetworkPolicy(shop/allow-web)"),
        "{e}"
    );
}

#[test]
fn mixed_kinds_and_lists_in_one_file() {
    let rig = Rig::new();
    // The tier that the policy is in comes after it.
    let text = "\
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicyList
items:
- metadata: {name: net.a}
  spec: {tier: net, order: 1, selector: all()}
---
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: net}
spec: {order: 50}
---
# nothing
---
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata: {name: s}
spec: {nets: [10.0.0.0/8, 2001:db8::/32]}
";
    let file = rig.file("d/all.yaml", text);
    assert_eq!(
        rig.run(&format!("apply -f {file} -n shop")).ok(),
        "Successfully applied 3 resource(s)\n"
    );
    assert_eq!(
        rig.run(&format!("get -f {file} -n shop -o wide")).ok(),
        "NAME    TIER   ORDER   SELECTOR   \n\
         net.a   net    1       all()      \n\n\
         NAME   ORDER   \n\
         net    50      \n\n\
         NAME   NETS                       \n\
         s      10.0.0.0/8,2001:db8::/32   \n\n"
    );
    let several = rig.run(&format!("get -f {file} -n shop -o yaml")).ok();
    assert!(
        several.starts_with("apiVersion: projectcalico.org/v3\nkind: List\n"),
        "{several}"
    );
    // A tier with policies stays; a file that names both is taken apart in the right order.
    let e = rig.run("delete tier net").failed();
    assert!(
        e.contains("Tier(net)") && e.contains("GlobalNetworkPolicy(net.a)"),
        "{e}"
    );
    assert_eq!(
        rig.run(&format!("delete -f {} -n shop", rig.path("d").display()))
            .ok(),
        "Successfully deleted 3 resource(s)\n"
    );
    assert_eq!(rig.run("get tier").ok(), "NAME   ORDER   \n\n");
}

#[test]
fn what_comes_before_a_failure_stays() {
    let rig = Rig::new();
    let pool = |name: &str, cidr: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {{name: {name}}}\nspec: {{cidr: {cidr}}}\n---\n"
        )
    };
    let text = pool("a", "10.1.0.0/16") + &pool("b", "10.1.128.0/17") + &pool("c", "10.2.0.0/16");
    let file = rig.file("pools.yaml", &text);
    let ran = rig.run(&format!("create -f {file}"));
    assert_eq!(
        ran.out,
        "Partial success: created 2 out of 3 'IPPool' resources\n"
    );
    let e = ran.failed();
    assert!(
        e.starts_with(&format!(
            "Hit error: {file}, document 2: IPPool(b) is not valid: spec.cidr:"
        )) && e.contains("of the pool \"a\""),
        "{e}"
    );
    assert_eq!(
        rig.run("get pools").ok(),
        "NAME   CIDR          SELECTOR   \n\
         a      10.1.0.0/16   all()      \n\
         c      10.2.0.0/16   all()      \n\n"
    );
    assert_eq!(
        rig.run("get pools a -o wide").ok(),
        "NAME   CIDR          NAT     IPIPMODE   VXLANMODE   DISABLED   DISABLEBGPEXPORT   SELECTOR   ASSIGNMENTMODE   \n\
         a      10.1.0.0/16   false   Never      Never       false      false              all()      Automatic        \n\n"
    );
    // Found ones are shown, the missing one is named.
    let ran = rig.run("get ippool c nope a");
    assert!(
        ran.out.ends_with("all()      \n\n") && ran.out.contains("\nc "),
        "{}",
        ran.out
    );
    assert!(ran.failed().starts_with("resource does not exist: IPPool(nope)"));
}

#[test]
fn the_versions_of_client_and_cluster() {
    let no_store = run(
        &["calicoctl", "version", "--client", "-c", "/nonexistent"],
        Io::process(),
    );
    let client = no_store.ok();
    assert!(client.starts_with("Client Version:    v0"), "{client}");
    assert!(client.contains("\nGit commit:        "), "{client}");

    let rig = Rig::new();
    let e = rig.run("version").failed();
    assert!(e.contains("ClusterInformation(default)"), "{e}");
    let text = "apiVersion: projectcalico.org/v3\nkind: ClusterInformation\nmetadata: {name: default}\n\
                spec: {clusterGUID: abc, clusterType: 'k8s,bgp', calicoVersion: v3.33.0, datastoreReady: true}\n";
    rig.run_reading("create -f -", text).ok();
    let version = rig.run("version --allow-version-mismatch").ok();
    assert!(
        version.ends_with("Cluster Version:   v3.33.0\nCluster Type:      k8s,bgp\nCluster GUID:      abc\n"),
        "{version}"
    );
    assert_eq!(
        rig.run("get clusterinfo").ok(),
        "NAME      CLUSTERGUID   CLUSTERTYPE   CALICOVERSION   DATASTOREREADY   \n\
         default   abc           k8s,bgp       v3.33.0         true             \n\n"
    );
}

#[test]
fn a_polled_version_is_printed_when_it_changes() {
    let information = |version: &str| {
        let spec = ClusterInformationSpec {
            calico_version: version.to_owned(),
            ..ClusterInformationSpec::default()
        };
        Resource::from(Object::new("default", spec))
    };
    let store = Arc::new(MemoryStore::etcd());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.create(information("v1"))).unwrap();
    let operator = std::thread::spawn({
        let store = store.clone();
        let new = information("v2");
        move || {
            let asked = |times: usize| {
                eventually(Duration::from_secs(20), || {
                    let calls = store.calls(Op::Get);
                    if calls >= times {
                        Ok(calls)
                    } else {
                        Err(format!("asked {calls} times"))
                    }
                })
            };
            // The first answer is old; from then on it is the new one, until the datastore goes away.
            asked(1);
            runtime.block_on(store.update(new)).unwrap();
            let then = asked(1) + 3;
            asked(then);
            store.fail_next(1, &StoreError::Unavailable("gone".into()));
        }
    });
    let io = Io {
        store: Some(store.clone()),
        ..Io::process()
    };
    let ran = run(&["calicoctl", "version", "--poll", "5ms"], io);
    operator.join().unwrap();
    assert_eq!(
        ran.out.matches("Cluster Version:   v1\n").count(),
        1,
        "{}",
        ran.out
    );
    assert_eq!(
        ran.out.matches("Cluster Version:   v2\n").count(),
        1,
        "{}",
        ran.out
    );
    assert!(ran.failed().contains("gone"));
}
