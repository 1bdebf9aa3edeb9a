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

/// Kinds whose columns no other test shows.
const OTHERS: &str = "\
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: h}
spec: {node: n1, interfaceName: eth0, expectedIPs: [192.0.2.1, '2001:db8::1'], profiles: [p]}
---
apiVersion: projectcalico.org/v3
kind: Profile
metadata: {name: p}
spec: {labelsToApply: {a: b, c: d}}
---
apiVersion: projectcalico.org/v3
kind: IPReservation
metadata: {name: r}
spec: {reservedCIDRs: [10.0.0.1/32, 10.0.0.2]}
---
apiVersion: projectcalico.org/v3
kind: IPAMConfiguration
metadata: {name: default}
spec: {strictAffinity: true, autoAllocateBlocks: true, maxBlocksPerHost: 4}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: peer}
spec: {peerIP: 192.0.2.9, node: n1, asNumber: 64600}
---
apiVersion: projectcalico.org/v3
kind: BGPFilter
metadata: {name: f}
spec: {exportV4: [{action: Accept}, {action: Reject}], importV6: [{action: Accept}]}
---
apiVersion: projectcalico.org/v3
kind: CalicoNodeStatus
metadata: {name: s}
spec: {node: n1, classes: [Agent, BGP], updatePeriodSeconds: 10}
---
apiVersion: projectcalico.org/v3
kind: StagedNetworkPolicy
metadata: {name: sp, namespace: shop}
spec: {order: 2.5, selector: a == 'b'}
---
apiVersion: projectcalico.org/v3
kind: StagedGlobalNetworkPolicy
metadata: {name: sg}
spec: {order: -1, selector: all()}
---
apiVersion: projectcalico.org/v3
kind: StagedKubernetesNetworkPolicy
metadata: {name: sk, namespace: shop}
spec:
  podSelector: {matchLabels: {a: b}, matchExpressions: [{key: c, operator: In, values: [d, e]}, {key: f, operator: DoesNotExist}]}
---
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {logSeverityScreen: Warning}
---
apiVersion: projectcalico.org/v3
kind: KubeControllersConfiguration
metadata: {name: default}
spec: {controllers: {}}
";

const WIDE: &str = "
NAME|NODE|INTERFACE|IPS|PROFILES
h|n1|eth0|192.0.2.1,2001:db8::1|p

NAME|LABELS
p|a=b,c=d

NAME|CIDRS
r|10.0.0.1/32,10.0.0.2

NAME|STRICTAFFINITY|AUTOALLOCATEBLOCKS|MAXBLOCKSPERHOST
default|true|true|4

NAME|PEERIP|NODE|ASN
peer|192.0.2.9|n1|64600

NAME|NUMEXPORTV4|NUMIMPORTV4|NUMEXPORTV6|NUMIMPORTV6
f|2|0|0|1

NAME|NODE|CLASSES
s|n1|Agent,BGP

NAME|TIER|ORDER|SELECTOR
sp|default|2.5|a == 'b'

NAME|TIER|ORDER|SELECTOR
sg|default|-1|all()

NAME|PODSELECTOR
sk|a=b,c in (d,e),!f

NAME
default

NAME
default

";

const NARROW: &str = "
NAME|NODE
h|n1

NAME
p

NAME
r

NAME|STRICTAFFINITY|AUTOALLOCATEBLOCKS
default|true|true

NAME|PEERIP|NODE|ASN
peer|192.0.2.9|n1|64600

NAME|NUMEXPORTV4|NUMIMPORTV4|NUMEXPORTV6|NUMIMPORTV6
f|2|0|0|1

NAME|NODE
s|n1

NAME|TIER
sp|default

NAME|TIER
sg|default

NAME
sk

NAME
default

NAME
default

";

/// A table with one bar for each gap between columns.
fn bars(table: &str) -> String {
    let lines = table
        .lines()
        .map(|l| l.trim_end().split("   ").filter(|c| !c.is_empty()));
    let lines = lines.map(|cells| cells.map(str::trim).collect::<Vec<_>>().join("|") + "\n");
    lines.collect()
}

#[test]
fn every_other_kind_has_its_columns() {
    let rig = Rig::new();
    let file = rig.file("others.yaml", OTHERS);
    rig.run(&format!("create -f {file}")).ok();
    let wide = rig.run(&format!("get -f {file} -o wide")).ok();
    assert_eq!(bars(&wide), WIDE.trim_start());
    let narrow = rig.run(&format!("get -f {file}")).ok();
    assert_eq!(bars(&narrow), NARROW.trim_start());
}
