use crate::rig::Rig;

const NODES: &str = "\
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: n1}
spec: {bgp: {ipv4Address: 192.0.2.1/24, ipv6Address: '2001:db8::1/64'}}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: n2}
spec: {bgp: {asNumber: 65001, ipv4Address: 192.0.2.2/24}}
---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {name: n3}
spec: {}
";

const POD: &str = "\
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {name: n1-k8s-web--0-eth0, namespace: shop}
spec:
  orchestrator: k8s
  node: n1
  pod: web-0
  endpoint: eth0
  containerID: c1
  ipNetworks: [10.65.0.2/32, 'fd00::2/128']
  interfaceName: cali1
  profiles: [kns.shop, ksa.shop.default]
";

#[test]
fn nodes_inherit_the_as_number() {
    let rig = Rig::new();
    rig.run_reading("apply -f -", NODES).ok();
    assert_eq!(
        rig.run("get nodes").ok(),
        "NAME   \nn1     \nn2     \nn3     \n\n"
    );
    let table = |asn: &str| {
        format!(
            "NAME   ASN       IPV4           IPV6             \n\
             n1     {asn}   192.0.2.1/24   2001:db8::1/64   \n\
             n2     65001     192.0.2.2/24                    \n\
             n3                                               \n\n"
        )
    };
    assert_eq!(rig.run("get no -o wide").ok(), table("(64512)"));
    let bgp = "apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {name: default}\nspec: {asNumber: 64999}\n";
    rig.run_reading("apply -f -", bgp).ok();
    assert_eq!(rig.run("get no -o wide").ok(), table("(64999)"));
    assert_eq!(
        rig.run("get bgpconfig").ok(),
        "NAME      LOGSEVERITY   MESHENABLED   ASNUMBER   \n\
         default   Info          -             64999      \n\n"
    );
}

#[test]
fn namespaces_are_one_all_or_the_default() {
    let rig = Rig::new();
    rig.run_reading("apply -f -", POD).ok();
    assert_eq!(
        rig.run("get wep").ok(),
        "WORKLOAD   NODE   NETWORKS   INTERFACE   \n\n"
    );
    assert_eq!(
        rig.run("get wep -A").ok(),
        "NAMESPACE   WORKLOAD   NODE   NETWORKS                   INTERFACE   \n\
         shop        web-0      n1     10.65.0.2/32,fd00::2/128   cali1       \n\n"
    );
    assert_eq!(
        rig.run("get weps -n shop -o wide").ok(),
        "NAME                 WORKLOAD   NODE   NETWORKS                   INTERFACE   PROFILES                    NATS   \n\
         n1-k8s-web--0-eth0   web-0      n1     10.65.0.2/32,fd00::2/128   cali1       kns.shop,ksa.shop.default          \n\n"
    );
    let e = rig.run("get wep x -A").failed();
    assert!(e.contains("--namespace"), "{e}");
    let e = rig.run_reading("apply -f - -n other", POD).failed();
    assert!(e.contains("\"shop\"") && e.contains("--namespace=other"), "{e}");
}

#[test]
fn a_list_is_a_list_even_of_one() {
    let rig = Rig::new();
    assert_eq!(
        rig.run("get gnp -o yaml").ok(),
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicyList\nmetadata: {}\nitems: []\n"
    );
    let policy = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: NAME}\nspec: {selector: all()}\n";
    rig.run_reading("apply -f -", &policy.replace("NAME", "a")).ok();
    let list = rig.run("get gnp -o yaml").ok();
    assert!(
        list.starts_with("apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicyList\n"),
        "{list}"
    );
    rig.run_reading("apply -f -", &policy.replace("NAME", "b")).ok();
    let two = rig.run("get gnp b a -o yaml").ok();
    assert!(
        two.contains("kind: GlobalNetworkPolicyList") && two.find("name: b") < two.find("name: a"),
        "{two}"
    );
    // What get prints of several, the other commands take.
    assert_eq!(
        rig.run_reading("delete -f -", &two).ok(),
        "Successfully deleted 2 'GlobalNetworkPolicy' resource(s)\n"
    );
    assert_eq!(rig.run("get gnp").ok(), "NAME   TIER   \n\n");
}

#[test]
fn a_policy_without_order_and_a_tier_with_a_large_one() {
    let rig = Rig::new();
    let text = "apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {name: default}\nspec: {}\n---\n\
                apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: a}\nspec: {}\n";
    rig.run_reading("create -f -", text).ok();
    assert_eq!(
        rig.run("get tier").ok(),
        "NAME      ORDER   \ndefault   1e+06   \n\n"
    );
    assert_eq!(
        rig.run("get gnp -o wide").ok(),
        "NAME   TIER      ORDER   SELECTOR   \na      default   <nil>              \n\n"
    );
}
