//! `ipam` over a store, with databases that are in order and one that was broken by hand.

use std::{net::IpAddr, sync::Arc};

use caracal_api::{
    BlockAffinitySpec, ClusterInformationSpec, IpPoolSpec, IpamBlockSpec, IpamHandleSpec, Kind, NodeSpec,
    Object, Resource, ResourceKey, WorkloadEndpointSpec,
};
use caracal_calicoctl::Io;
use caracal_ipam_plan::{Block, Holder, Owner, Stamp, handle_with};
use caracal_net::Cidr;
use caracal_store::{ListOptions, Store};
use caracal_store_memory::MemoryStore;

use crate::rig::{Ran, run};

pub(crate) struct Shop(pub(crate) MemoryStore);

impl Shop {
    pub(crate) fn new() -> Self {
        let shop = Self(MemoryStore::etcd());
        let info = ClusterInformationSpec {
            cluster_guid: "guid".into(),
            datastore_ready: Some(true),
            ..ClusterInformationSpec::default()
        };
        shop.put(Object::new("default", info));
        for n in ["n1", "n2"] {
            shop.put(Object::new(n, NodeSpec::default()));
        }
        shop
    }

    pub(crate) fn put(&self, r: impl Into<Resource>) {
        self.0.derive(r.into());
    }

    pub(crate) fn pool(&self, name: &str, cidr: &str) {
        let spec = IpPoolSpec {
            cidr: cidr.into(),
            ..IpPoolSpec::default()
        };
        self.put(Object::new(name, spec));
    }

    /// A block in which each of `holders` has one address; their handles count it, unless told otherwise.
    pub(crate) fn block(&self, cidr: &str, node: &str, holders: &[&str]) -> Vec<IpAddr> {
        let cidr: Cidr = cidr.parse().unwrap();
        let mut b = Block::new(cidr, &Holder::Host(node.into()), Stamp::default(), None);
        let mut got = Vec::new();
        for h in holders {
            got.push(b.assign(1, &owner(node, h), &[])[0].addr);
            self.handle(h, &cidr, 1);
        }
        b.seal();
        self.put(b.into_object());
        self.affinity(node, &cidr);
        got
    }

    pub(crate) fn handle(&self, container: &str, cidr: &Cidr, count: u64) {
        let name = format!("net.{container}");
        let stored = self.all::<IpamHandleSpec>(Kind::IpamHandle);
        let stored = stored.into_iter().find(|h| h.metadata.name == name);
        self.put(handle_with(stored, &name, cidr, count));
    }

    pub(crate) fn affinity(&self, node: &str, cidr: &Cidr) {
        self.put(Holder::Host(node.into()).claim(None, cidr, "confirmed"));
    }

    pub(crate) fn endpoint(&self, node: &str, container: &str, addr: IpAddr) {
        let spec = WorkloadEndpointSpec {
            node: node.into(),
            pod: container.into(),
            container_id: container.into(),
            ip_networks: vec![addr.to_string()],
            ..WorkloadEndpointSpec::default()
        };
        self.put(Object::namespaced(
            "default",
            format!("{node}-k8s-{container}-eth0"),
            spec,
        ));
    }

    pub(crate) fn gone(&self, kind: Kind, name: &str) {
        assert!(self.0.underive(&ResourceKey::global(kind, name)), "{kind} {name}");
    }

    pub(crate) fn all<S: caracal_api::Spec>(&self, kind: Kind) -> Vec<Object<S>>
    where
        Object<S>: TryFrom<Resource>,
    {
        let every = ListOptions::default();
        let list = self.0.list_all(kind, &every);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let page = runtime.block_on(list).unwrap();
        page.items.into_iter().filter_map(|r| r.try_into().ok()).collect()
    }

    pub(crate) fn run(&self, line: &str) -> Ran {
        let io = Io {
            store: Some(Arc::new(self.0.clone())),
            ..Io::process()
        };
        let words: Vec<&str> = std::iter::once("calicoctl")
            .chain(line.split_whitespace())
            .collect();
        run(&words, io)
    }

    /// Who has which address, whatever block it is in.
    pub(crate) fn held(&self) -> Vec<(IpAddr, String)> {
        let mut held = Vec::new();
        for b in self.all::<IpamBlockSpec>(Kind::IpamBlock) {
            if let Ok(b) = Block::read(b) {
                held.extend(
                    b.allocations()
                        .map(|a| (a.addr, a.attribute.handle_id.clone().unwrap_or_default())),
                );
            }
        }
        held.sort();
        held
    }
}

pub(crate) fn owner(node: &str, container: &str) -> Owner {
    let attributes = [
        ("node", node),
        ("namespace", "default"),
        ("pod", container),
        ("timestamp", "2026-01-01T00:00:00Z"),
    ];
    Owner {
        handle: format!("net.{container}"),
        attributes: attributes.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
    }
}

/// Everything that can go wrong at once.
fn broken() -> Shop {
    let s = Shop::new();
    s.pool("p", "10.0.0.0/16");
    s.pool("six", "fd00::/112");
    // In order, but for a leak.
    let a = s.block("10.0.0.0/26", "n1", &["a", "leak"]);
    s.endpoint("n1", "a", a[0]);
    // Overlapping blocks: the address of b is in both, of two handles; c is in the narrow one only.
    let b = s.block("10.0.1.0/26", "n1", &["ghost", "other"]);
    let narrow = s.block("10.0.1.0/28", "n2", &["b", "pad", "c"]);
    assert_eq!(b[0], narrow[0]);
    s.endpoint("n2", "b", narrow[0]);
    s.endpoint("n1", "other", b[1]);
    s.endpoint("n2", "c", narrow[2]);
    // A claim is missing, and one is of a node that is gone.
    let d = s.block("10.0.2.0/26", "n2", &["d"]);
    s.endpoint("n2", "d", d[0]);
    s.gone(Kind::BlockAffinity, "n2-10-0-2-0-26");
    let e = s.block("fd00::40/122", "lost", &["e"]);
    s.endpoint("n1", "e", e[0]);
    s.block("10.0.3.0/26", "lost", &[]);
    // Handles: one counts nothing that there is, one is missing.
    s.handle("stale", &"10.0.0.0/26".parse().unwrap(), 2);
    let f = s.block("10.0.4.0/26", "n1", &["f"]);
    s.endpoint("n1", "f", f[0]);
    s.gone(Kind::IpamHandle, "net.f");
    // In use and not allocated.
    s.endpoint("n1", "0123456789ab", "10.0.4.9".parse().unwrap());
    // A block of no pool.
    s.block("172.16.0.0/26", "n1", &[]);
    // Half deleted.
    let mut dying = Holder::Host("n1".into()).claim(None, &"10.0.9.0/26".parse().unwrap(), "pendingDeletion");
    dying.spec.deleted = true;
    s.put(dying);
    s
}

#[test]
fn a_broken_database_is_named_in_full_and_repaired() {
    let s = broken();
    let ran = s.run("ipam check -o json");
    assert_eq!(ran.code, 1, "{}{}", ran.out, ran.err);
    let v: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let kinds: std::collections::BTreeSet<&str> = v["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["kind"].as_str().unwrap())
        .collect();
    let expected = [
        "affinity-missing",
        "affinity-orphan",
        "block-orphan",
        "double-holder",
        "half-deleted",
        "handle-leaked",
        "handle-missing",
        "leaked",
        "not-allocated",
        "overlapping-blocks",
    ];
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        expected,
        "{:#}",
        v["problems"]
    );
    for p in v["problems"].as_array().unwrap() {
        assert!(p["repair"].as_str().unwrap().starts_with("calicoctl "), "{p:#}");
    }

    let before = s.held();
    let dry = s.run("ipam check --fix");
    assert_eq!(dry.code, 1);
    assert!(dry.out.contains("Nothing was changed"), "{}", dry.out);
    assert_eq!(s.held(), before);

    let fixed = s.run("ipam check --fix --apply");
    assert_eq!((fixed.code, fixed.err.as_str()), (0, ""), "{}", fixed.out);
    assert!(fixed.out.contains("After repairs: 0 problems."), "{}", fixed.out);
    let again = s.run("ipam check").ok();
    assert!(again.contains("Check complete; found 0 problems."), "{again}");
    // Every pod has its address, once.
    let held = s.held();
    for e in s.all::<WorkloadEndpointSpec>(Kind::WorkloadEndpoint) {
        let addr: IpAddr = e.spec.ip_networks[0].parse().unwrap();
        let holders: Vec<&String> = held.iter().filter(|(a, _)| *a == addr).map(|(_, h)| h).collect();
        assert_eq!(holders, [&format!("net.{}", e.spec.container_id)], "{addr}");
    }
    assert_eq!(
        held.len(),
        s.all::<WorkloadEndpointSpec>(Kind::WorkloadEndpoint).len()
    );
}

#[test]
fn one_problem_can_be_repaired_alone() {
    let s = broken();
    let ran = s.run("ipam check --fix --apply --only 10.0.0.1");
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(ran.out.contains("[leaked] repaired 10.0.0.1"), "{}", ran.out);
    assert!(!s.held().iter().any(|(_, h)| h == "net.leak"));
    assert!(s.held().iter().any(|(_, h)| h == "net.ghost"));
}

#[test]
fn a_clean_database_and_one_that_cannot_be_read() {
    let s = Shop::new();
    s.pool("p", "10.0.0.0/16");
    let a = s.block("10.0.0.0/26", "n1", &["a", "b"]);
    s.endpoint("n1", "a", a[0]);
    s.endpoint("n1", "b", a[1]);
    let text = s.run("ipam check --show-all-ips").ok();
    for line in [
        " IPAM block 10.0.0.0/26 affinity=host:n1:",
        "  10.0.0.0 allocated; attrs Main:net.a Extra:namespace=default,node=n1,pod=a,timestamp=2026-01-01T00:00:00Z",
        "IPAM blocks record 2 allocations.",
        "Found 1 active IP pools.",
        "Found 2 workload IPs.",
        "Node with most allocations has 2; median is 2",
        "Found 0 handles with no matching IPs (and 2 handles with matches).",
        "Check complete; found 0 problems.",
    ] {
        assert!(text.lines().any(|l| l == line), "{line:?} is missing in\n{text}");
    }
    s.0.fail_next(1, &caracal_store::StoreError::Unavailable("it is away".into()));
    let ran = s.run("ipam check");
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    assert!(ran.err.contains("it is away"), "{}", ran.err);
    // One bad object is a problem like others.
    s.0.put_malformed(&ResourceKey::global(Kind::IpamBlock, "10-0-7-0-26"), "not JSON");
    s.0.put_malformed(&ResourceKey::global(Kind::IpamHandle, "net.a"), "not JSON");
    let fixed = s.run("ipam check --fix --apply");
    assert_eq!(fixed.code, 1, "{}", fixed.out);
    assert!(fixed.out.contains("After repairs: 1 problems."), "{}", fixed.out);
    assert!(
        s.all::<IpamHandleSpec>(Kind::IpamHandle)
            .iter()
            .any(|h| h.metadata.name == "net.a")
    );
    let ran = s.run("ipam check");
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(
        ran.out
            .contains("[unreadable] IPAMBlock(10-0-7-0-26) cannot be read: not JSON"),
        "{}",
        ran.out
    );
}

#[test]
fn shows_pools_blocks_borrowers_and_addresses() {
    let s = Shop::new();
    s.pool("p", "192.168.0.0/16");
    s.block("192.168.1.0/26", "n1", &["a"]);
    let mut b = s.all::<IpamBlockSpec>(Kind::IpamBlock).pop().unwrap();
    let mut read = Block::read(b.clone()).unwrap();
    read.assign(1, &owner("n2", "guest"), &[]);
    b.spec = read.into_object().spec;
    s.put(b);
    let text = s.run("ipam show --show-blocks").ok();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[1],
        "| GROUPING | CIDR           | IPS TOTAL | IPS IN USE | IPS RESERVED |     IPS FREE | IPS COOLING |"
    );
    assert_eq!(
        lines[3],
        "| IP Pool  | 192.168.0.0/16 |     65536 |     2 (0%) |       0 (0%) | 65534 (100%) |      0 (0%) |"
    );
    assert!(
        lines[4].starts_with("| Block    | 192.168.1.0/26 |        64 |     2 (3%) |"),
        "{text}"
    );
    assert_eq!(s.run("ipam show").ok().lines().count(), 5);
    let text = s.run("ipam show --show-borrowed").ok();
    assert!(
        text.contains(
            "| 192.168.1.1 | n2             | 192.168.1.0/26 | n1          | pod  | default/guest |"
        ),
        "{text}"
    );
    let text = s.run("ipam show --ip=192.168.1.0").ok();
    assert!(text.starts_with("IP 192.168.1.0 is in use\nHandle ID: net.a\nActive Owner Attributes:\n  namespace: default\n  node: n1\n"), "{text}");
    assert_eq!(
        s.run("ipam show --ip=192.168.1.9").ok(),
        "192.168.1.9 is not assigned\n"
    );
    assert!(s.run("ipam show --ip=nonsense").failed().contains("nonsense"));
    let text = s.run("ipam show --show-configuration").ok();
    assert!(
        text.contains("| StrictAffinity               | false   |"),
        "{text}"
    );
}

#[test]
fn releases_an_address_or_what_reports_agree_on() {
    let s = Shop::new();
    s.pool("p", "10.0.0.0/16");
    let a = s.block("10.0.0.0/26", "n1", &["a", "b", "c"]);
    s.endpoint("n1", "a", a[0]);
    s.handle("stale", &"10.0.0.0/26".parse().unwrap(), 1);
    assert_eq!(
        s.run("ipam release --ip=10.0.0.2").ok(),
        "Successfully released IP address 10.0.0.2\n"
    );
    assert_eq!(
        s.run("ipam release --ip=10.0.0.2").failed(),
        "IP address 10.0.0.2 is not assigned\n"
    );

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report").display().to_string();
    let ran = s.run(&format!("ipam check -o {path}"));
    assert_eq!(ran.code, 1, "{}", ran.err);
    let line = format!("ipam release --from-report={path}");
    assert!(s.run(&line).failed().contains("not locked"));
    let mut info = s
        .all::<ClusterInformationSpec>(Kind::ClusterInformation)
        .pop()
        .unwrap();
    info.spec.datastore_ready = Some(false);
    s.put(info);
    // The cluster's information changed: the report is from before the lock.
    assert!(s.run(&line).failed().contains("stale"));
    s.run(&format!("ipam check -o {path}"));
    let text = s.run(&line).ok();
    assert!(
        text.contains("Released 1 IPs successfully")
            && text.contains("Released 1 handles; 0 skipped; 0 errors."),
        "{text}"
    );
    assert_eq!(s.held(), [(a[0], "net.a".to_owned())]);
    let text = s.run(&line).ok();
    assert!(
        text.contains("1 addresses marked as leaked in the report had already been cleaned up"),
        "{text}"
    );
    assert!(
        s.run("ipam release --from-report=/nowhere")
            .failed()
            .contains("/nowhere")
    );
}

#[test]
fn configures_within_the_rules() {
    let s = Shop::new();
    assert!(s.run("ipam configure").failed().contains("at least one"));
    assert!(
        s.run("ipam configure --max-blocks-per-host=3")
            .failed()
            .contains("strictAffinity")
    );
    let text = s
        .run("ipam configure --strictaffinity=true --max-blocks-per-host=3")
        .ok();
    assert_eq!(
        text,
        "Successfully set StrictAffinity to: true\nSuccessfully set MaxBlocksPerHost to: 3\n"
    );
    assert!(
        s.run("ipam configure --ip-cooldown-seconds=1201")
            .failed()
            .contains("0 to 1200")
    );
    assert!(
        s.run("ipam configure --strictaffinity=maybe")
            .failed()
            .contains("maybe")
    );
    assert!(
        s.run("ipam configure --kubevirt-ip-persistence=On")
            .failed()
            .contains("Enabled or Disabled")
    );
    s.run("ipam configure --ip-cooldown-seconds=30 --kubevirt-ip-persistence=Enabled")
        .ok();
    let text = s.run("ipam show --show-configuration").ok();
    for line in [
        "| MaxBlocksPerHost             | 3       |",
        "| IPCooldownSeconds            | 30      |",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[test]
fn splits_a_pool_of_a_locked_datastore() {
    let s = Shop::new();
    s.pool("p", "10.0.0.0/16");
    assert!(s.run("ipam split 2 --name=p").failed().contains("not locked"));
    s.run("datastore migrate lock").ok();
    assert!(s.run("ipam split 3 --name=p").failed().contains("power of 2"));
    assert!(
        s.run("ipam split 2 --cidr=10.9.0.0/16")
            .failed()
            .contains("no IP pool")
    );
    let text = s.run("ipam split 2 --cidr=10.0.0.0/16").ok();
    assert!(
        text.contains("Created split-p-1 with CIDR 10.0.128.0/17."),
        "{text}"
    );
    let names: Vec<String> = s
        .all::<IpPoolSpec>(Kind::IpPool)
        .into_iter()
        .map(|p| p.metadata.name)
        .collect();
    assert_eq!(names, ["split-p-0", "split-p-1"]);
    assert!(s.all::<BlockAffinitySpec>(Kind::BlockAffinity).is_empty());
}

#[test]
fn a_split_that_was_cut_off_is_finished_and_pods_keep_their_addresses() {
    // Cut off after the old pool was closed, after the first of the new ones, and after both.
    for made in 0..=2usize {
        let s = Shop::new();
        s.pool("p", "10.0.0.0/16");
        let a = s.block("10.0.0.0/26", "n1", &["a"]);
        let b = s.block("10.0.128.0/26", "n2", &["b"]);
        s.endpoint("n1", "a", a[0]);
        s.endpoint("n2", "b", b[0]);
        s.run("datastore migrate lock").ok();
        let mut old = s.all::<IpPoolSpec>(Kind::IpPool).remove(0);
        old.spec.disabled = true;
        s.put(old);
        for (name, cidr) in [("split-p-0", "10.0.0.0/17"), ("split-p-1", "10.0.128.0/17")]
            .iter()
            .take(made)
        {
            s.pool(name, cidr);
        }
        s.run("ipam split 2 --name=p").ok();
        let pools = s.all::<IpPoolSpec>(Kind::IpPool);
        let names: Vec<&str> = pools.iter().map(|p| p.metadata.name.as_str()).collect();
        assert_eq!(names, ["split-p-0", "split-p-1"], "{made}");
        assert!(pools.iter().all(|p| !p.spec.disabled), "{made}");
        let there = [(a[0], "net.a".to_owned()), (b[0], "net.b".to_owned())];
        assert_eq!(s.held(), there, "{made}");
        s.run("ipam check").ok();
    }
    // A pool of that name and another range is somebody else's.
    let s = Shop::new();
    s.pool("p", "10.0.0.0/16");
    s.pool("split-p-0", "10.9.0.0/16");
    s.run("datastore migrate lock").ok();
    let refused = s.run("ipam split 2 --name=p").failed();
    assert!(
        refused.contains("split-p-0") && refused.contains("10.9.0.0/16"),
        "{refused}"
    );
    assert!(
        s.all::<IpPoolSpec>(Kind::IpPool)
            .iter()
            .any(|p| p.metadata.name == "p")
    );
}

#[test]
fn works_on_the_embedded_store() {
    let rig = crate::rig::Rig::new();
    let pool =
        "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: p}\nspec: {cidr: 10.0.0.0/16}\n";
    rig.run_reading("apply -f -", pool).ok();
    let text = rig.run("ipam check").ok();
    assert!(text.contains("  10.0.0.0/16\nFound 1 active IP pools."), "{text}");
    rig.run("ipam configure --strictaffinity=true --ip-cooldown-seconds=5")
        .ok();
    let text = rig.run("ipam show --show-configuration").ok();
    assert!(
        text.contains("| IPCooldownSeconds            | 5       |"),
        "{text}"
    );
    // Somebody's block without a claim, as a broken tool would leave it.
    let cidr: Cidr = "10.0.3.0/26".parse().unwrap();
    let mut block = Block::new(cidr, &Holder::Host("n1".into()), Stamp::default(), None);
    let addr = block.assign(1, &owner("n1", "a"), &[])[0].addr;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (_, store) = caracal_datastore::from_process(Some(&rig.path("calicoctl.cfg"))).unwrap();
        store.create(block.into_object().into()).await.unwrap();
    });
    let v: serde_json::Value = serde_json::from_str(&rig.run("ipam check -o json").out).unwrap();
    let kinds: Vec<&str> = v["problems"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["leaked", "handle-missing", "affinity-missing"]);
    let text = rig.run("ipam check --fix --apply").ok();
    assert!(text.contains("After repairs: 0 problems."), "{text}");
    let text = rig.run(&format!("ipam show --ip={addr}")).ok();
    assert!(
        text.contains("Handle ID: <none>") && text.contains("it rests"),
        "{text}"
    );
}
