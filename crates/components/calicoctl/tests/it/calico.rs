//! What scripts for Calico's program of the name have in them: names of kinds, columns, and options in all their forms.

use caracal_calicoctl::Io;

use crate::rig::{Rig, run};

/// A kind, its names on a command line, its columns, and those that wide tables have beside them.
#[rustfmt::skip]
const KINDS: &[(&str, &str, &str, &str)] = &[
    ("BGPConfiguration", "bgpconfiguration bgpconfigurations bgpconfig bgpconfigs", "NAME LOGSEVERITY MESHENABLED ASNUMBER", ""),
    ("BGPFilter", "bgpfilter bgpfilters bgpf bgpfs bf bfs", "NAME NUMEXPORTV4 NUMIMPORTV4 NUMEXPORTV6 NUMIMPORTV6", ""),
    ("BGPPeer", "bgppeer bgppeers bgpp bgpps bp bps", "NAME PEERIP NODE ASN", ""),
    ("ClusterInformation", "clusterinformation clusterinformations clusterinfo clusterinfos", "NAME CLUSTERGUID CLUSTERTYPE CALICOVERSION DATASTOREREADY", ""),
    ("FelixConfiguration", "felixconfiguration felixconfigurations felixconfig felixconfigs", "NAME", ""),
    ("GlobalNetworkPolicy", "globalnetworkpolicy globalnetworkpolicies gnp gnps", "NAME TIER", "ORDER SELECTOR"),
    ("GlobalNetworkSet", "globalnetworkset globalnetworksets gnetsets", "NAME", "NETS"),
    ("HostEndpoint", "hostendpoint hostendpoints hep heps", "NAME NODE", "INTERFACE IPS PROFILES"),
    ("IPAMConfiguration", "ipamconfiguration ipamconfigurations ipamconfig ipamconfigs", "NAME STRICTAFFINITY AUTOALLOCATEBLOCKS", "MAXBLOCKSPERHOST"),
    ("IPPool", "ippool ippools ipp ipps pool pools", "NAME CIDR SELECTOR", "NAT IPIPMODE VXLANMODE DISABLED DISABLEBGPEXPORT ASSIGNMENTMODE"),
    ("IPReservation", "ipreservation ipreservations reservation reservations", "NAME", "CIDRS"),
    ("KubeControllersConfiguration", "kubecontrollersconfiguration kubecontrollersconfigurations kubecontrollersconfig kubecontrollersconfigs", "NAME", ""),
    ("NetworkPolicy", "networkpolicy networkpolicies policy np policies pol pols", "NAME TIER", "ORDER SELECTOR"),
    ("NetworkSet", "networkset networksets netsets", "NAME", "NETS"),
    ("Node", "node nodes no nos", "NAME", "ASN IPV4 IPV6"),
    ("CalicoNodeStatus", "caliconodestatus caliconodestatuses nodestatus nodestatuses", "NAME NODE", "CLASSES"),
    ("Profile", "profile profiles pro pros", "NAME", "LABELS"),
    ("StagedGlobalNetworkPolicy", "stagedglobalnetworkpolicy stagedglobalnetworkpolicies sgnp sgnps", "NAME TIER", "ORDER SELECTOR"),
    ("StagedKubernetesNetworkPolicy", "stagedkubernetesnetworkpolicy stagedkubernetesnetworkpolicies stagedkubernetespolicy sknp stagedkubernetespolicies skpol skpols", "NAME", "PODSELECTOR"),
    ("StagedNetworkPolicy", "stagednetworkpolicy stagednetworkpolicies stagedpolicy snp stagedpolicies spol spols", "NAME TIER", "ORDER SELECTOR"),
    ("Tier", "tier tiers", "NAME ORDER", ""),
    ("WorkloadEndpoint", "workloadendpoint workloadendpoints wep weps", "WORKLOAD NODE NETWORKS INTERFACE", "NAME PROFILES NATS"),
];

#[test]
fn every_kind_has_the_names_and_columns_of_calicos() {
    let rig = Rig::new();
    let headings = |line: &str| {
        let table = rig.run(line).ok();
        let first = table.lines().next().unwrap_or_default();
        first.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    for (kind, names, narrow, more) in KINDS {
        let narrow: Vec<&str> = narrow.split(' ').collect();
        for name in names.split(' ').chain([*kind]) {
            assert_eq!(headings(&format!("get {name}")), narrow, "{kind} as {name}");
            let upper = name.to_uppercase();
            assert_eq!(headings(&format!("get {upper}")), narrow, "{kind} as {upper}");
        }
        let mut wide = headings(&format!("get {kind} -o wide"));
        let mut wanted: Vec<&str> = narrow.iter().copied().chain(more.split_whitespace()).collect();
        wide.sort();
        wanted.sort_unstable();
        assert_eq!(wide, wanted, "{kind}");
    }
    let count: usize = KINDS.iter().map(|k| k.1.split(' ').count()).sum();
    assert!(
        KINDS.len() == 22 && count > 90,
        "{} kinds, {count} names",
        KINDS.len()
    );
}

/// Command lines with every option that Calico documents, in its long and its short form, before and behind the command,
/// with a blank and with `=`. FILE holds an object, CONFIG names a datastore that is not there.
const LINES: &[&str] = &[
    "-l panic --context=c --allow-version-mismatch create --filename=FILE --recursive --skip-empty --skip-exists --config=CONFIG --namespace=n",
    "create -f FILE -R --skip-empty --skip-exists -c CONFIG -n n --log-level=fatal --context c",
    "apply --filename=FILE --recursive --skip-empty --config=CONFIG --namespace=n",
    "apply -f FILE -R -c CONFIG -n n --allow-version-mismatch",
    "replace --filename=FILE --recursive --skip-empty --config=CONFIG --namespace=n",
    "replace -f FILE -R -c CONFIG -n n",
    "delete --filename=FILE --skip-not-exists --recursive --skip-empty --config=CONFIG --namespace=n",
    "delete ippool p q -s -c CONFIG -n n",
    "delete -f FILE -s -R -c CONFIG",
    "get ippool --output=wide --export --config=CONFIG",
    "get networkpolicy -a -o ps -c CONFIG",
    "get networkpolicy -A -o yaml -c CONFIG",
    "get networkpolicy --all-namespaces -o json -c CONFIG",
    "get networkpolicy a b -n n -o custom-columns=NAME,TIER -c CONFIG",
    "get -f FILE -R --skip-empty -o go-template={{.}} -c CONFIG",
    "get ippool p -o go-template-file=FILE -c CONFIG",
    "patch node n --patch={} --type=strategic --config=CONFIG --namespace=n",
    "patch node n -p {} -t merge -c CONFIG -n n",
    "patch node n -p [] -t json -c CONFIG",
    "label node n a=b --overwrite --config=CONFIG --namespace=n",
    "label node n a --remove -c CONFIG",
    "ipam check --show-all-ips --show-problem-ips -o REPORT --kubeconfig=x --config=CONFIG --allow-version-mismatch",
    "ipam release --ip=10.0.0.1 --force -c CONFIG",
    "ipam show --ip=10.0.0.1 -c CONFIG",
    "ipam show --show-blocks --show-borrowed --show-configuration --config=CONFIG",
    "ipam split 2 --cidr=10.0.0.0/16 -c CONFIG",
    "ipam split --name=p 4 -c CONFIG",
    "ipam configure --strictaffinity=true --max-blocks-per-host=4 --kubevirt-ip-persistence=Enabled --ip-cooldown-seconds=30 -c CONFIG",
    "datastore migrate export -c CONFIG",
    "datastore migrate import --filename=EXPORT -c CONFIG",
    "datastore migrate import -f EXPORT -c CONFIG",
    "datastore migrate lock --config=CONFIG",
    "datastore migrate unlock -c CONFIG",
    "datastore migrate-policy-names --config=CONFIG --allow-version-mismatch",
    "version -c CONFIG --allow-version-mismatch",
    "version --poll=1s --config=CONFIG",
];

#[test]
fn every_line_of_calicos_options_is_understood() {
    let rig = Rig::new();
    let set = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: set}\n";
    let export = "apiVersion: projectcalico.org/v3\nkind: ClusterInformation\nmetadata: {name: default}\nspec: {datastoreReady: false}\n";
    let gone = "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec: {datastoreType: etcdv3, etcdEndpoints: 'http://127.0.0.1:1'}\n";
    let [file, export, config] = [("set.yaml", set), ("export.yaml", export), ("gone.cfg", gone)]
        .map(|(name, text)| rig.file(name, text));
    let report = rig.path("report").display().to_string();
    for line in LINES {
        let line = line
            .replace("FILE", &file)
            .replace("CONFIG", &config)
            .replace("EXPORT", &export)
            .replace("REPORT", &report);
        let words: Vec<&str> = ["calicoctl"].into_iter().chain(line.split(' ')).collect();
        let ran = run(&words, Io::process());
        // It got as far as to the datastore, which is not there.
        let wanted = if line.starts_with("ipam check") { 2 } else { 1 };
        assert_eq!(ran.code, wanted, "{line}: {ran:?}");
        assert!(ran.err.contains("127.0.0.1:1"), "{line}: {ran:?}");
    }
    // Those that ask no datastore.
    rig.run(&format!(
        "validate --filename={file} --recursive --skip-empty --namespace=n"
    ))
    .ok();
    rig.run(&format!("validate -f {file} -R")).ok();
    rig.run("version --client").ok();
    let logs = rig.path("logs").display().to_string();
    let kernel = rig.file("kernel", "");
    assert_eq!(rig.run(&format!("node checksystem -f {kernel}")).code, 1);
    assert_eq!(
        rig.run(&format!("node checksystem --kernel-config={kernel}"))
            .code,
        1
    );
    assert!(
        rig.run(&format!("node diags --log-dir={logs} --help"))
            .ok()
            .contains("--log-dir")
    );
}
