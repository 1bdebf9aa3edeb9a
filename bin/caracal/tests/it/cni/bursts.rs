//! ADDs that wait at one moment share one write per block. The datastore itself counts: the version of a key is how often
//! it was written.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::net::UnixStream,
    process::Command,
    time::Duration,
};

use caracal_agent_api::{
    pods,
    v1::{AssignRequest, PodAnswer, pod_answer::Answer, pod_call::Ask},
};
use caracal_testkit::{Background, eventually, netns};
use caracal_wire::{
    KeyValue,
    etcdserverpb::{PutRequest, RangeRequest, kv_client::KvClient},
};
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};

use super::{
    Machine, SOCKET, conf,
    storm::{AGENT, agent},
};

pub(super) const BLOCKS: &str = "/calico/ipam/v2/assignment/";
pub(super) const HANDLES: &str = "/calico/ipam/v2/handle/";
/// How long a slow machine may take.
const LONG: Duration = Duration::from_secs(60);

pub(super) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(work)
}

async fn connect(socket: &str) -> Channel {
    let endpoint = Endpoint::from_shared(format!("unix://{socket}")).unwrap();
    endpoint.connect().await.unwrap()
}

/// The pairs under a prefix.
pub(super) fn range(prefix: &str) -> Vec<KeyValue> {
    block_on(async {
        let mut end = prefix.as_bytes().to_vec();
        *end.last_mut().unwrap() += 1;
        let request = RangeRequest {
            key: prefix.to_owned().into(),
            range_end: end.into(),
            ..RangeRequest::default()
        };
        let mut client = KvClient::new(connect(SOCKET).await);
        client.range(request).await.unwrap().into_inner().kvs
    })
}

/// How often each key under a prefix was written since it was made.
pub(super) fn writes(prefix: &str) -> BTreeMap<String, i64> {
    let named = |k: &[u8]| String::from_utf8_lossy(k).into_owned();
    range(prefix)
        .iter()
        .map(|kv| (named(&kv.key), kv.version))
        .collect()
}

/// Writes what no program of ours would.
pub(super) fn put_raw(key: &str, value: &str) {
    block_on(async {
        let request = PutRequest {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            ..PutRequest::default()
        };
        KvClient::new(connect(SOCKET).await).put(request).await.unwrap();
    });
}

fn total(prefix: &str) -> i64 {
    writes(prefix).values().sum()
}

/// The node's object, and its agent.
pub(super) fn node_with_agent(machine: &Machine) -> Background {
    node(machine);
    let felix = agent(machine);
    eventually(LONG, || {
        std::os::unix::net::UnixStream::connect(AGENT)
            .map(drop)
            .map_err(|e| e.to_string())
    });
    felix
}

/// The node's object.
pub(super) fn node(machine: &Machine) {
    let output = Command::new(env!("CARGO_BIN_EXE_caracal"))
        .args([
            "node",
            "startup",
            "--nodename",
            "node-1",
            "--ip",
            "172.30.0.1",
            "--no-default-pools",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(machine.ctl(&["get", "nodes"]).contains("node-1"));
}

/// One family, so that one ADD is one address.
fn v4() -> Value {
    let mut conf = conf();
    conf["ipam"] = json!({"type": "calico-ipam", "ipv4_pools": ["p4"]});
    conf
}

/// `calico-ipam` as a runtime's other plugins call it: an address and nothing else.
pub(super) fn ipam(machine: &Machine, command: &str, pod: &str, conf: &Value) -> Result<Value, String> {
    let output = machine.run(
        &machine.bin().join("calico-ipam"),
        command,
        pod,
        &conf.to_string(),
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        Ok(serde_json::from_str(&text).unwrap_or_default())
    } else {
        Err(format!("{command} {pod}: {text}"))
    }
}

fn address(result: &Value) -> String {
    let text = result["ips"][0]["address"].as_str().unwrap();
    text.split_once('/').unwrap().0.to_owned()
}

/// Addresses that blocks give out, by handle, whatever is beside them in the datastore.
pub(super) fn held() -> BTreeMap<String, BTreeSet<String>> {
    let mut held: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for kv in range(BLOCKS) {
        let block: Value = serde_json::from_slice(&kv.value).unwrap_or_default();
        let (Some(allocations), Some(attributes)) =
            (block["allocations"].as_array(), block["attributes"].as_array())
        else {
            continue;
        };
        let (first, _) = block["cidr"].as_str().unwrap().split_once('/').unwrap();
        let first: IpAddr = first.parse().unwrap();
        for (ordinal, index) in (0u32..).zip(allocations) {
            let Some(index) = index.as_u64() else { continue };
            let address = match first {
                IpAddr::V4(a) => Ipv4Addr::from(u32::from(a) + ordinal).to_string(),
                IpAddr::V6(a) => Ipv6Addr::from(u128::from(a) + u128::from(ordinal)).to_string(),
            };
            let handle = attributes[index as usize]["handle_id"]
                .as_str()
                .unwrap_or_default();
            held.entry(handle.to_owned()).or_default().insert(address);
        }
    }
    held
}

#[test]
fn netns_a_burst_through_the_agent_writes_each_block_few_times() {
    netns!(180);
    const ASKERS: usize = 48;
    let machine = Machine::new();
    let _felix = node_with_agent(&machine);
    // The node's first block is there.
    ipam(&machine, "ADD", "first", &v4()).unwrap();
    let (blocks, handles) = (total(BLOCKS), total(HANDLES));
    let asking: Vec<UnixStream> = (0..ASKERS)
        .map(|i| {
            let request = AssignRequest {
                datastore: format!("embedded store at {SOCKET}"),
                node: "node-1".to_owned(),
                handle: format!("net.asker-{i}"),
                attributes: [("node".to_owned(), "node-1".to_owned())].into(),
                pools: vec!["p4".to_owned()],
                ..AssignRequest::default()
            };
            let mut stream = UnixStream::connect(pods::socket(AGENT)).unwrap();
            let call = pods::frame(&pods::call(Ask::Assign(request))).unwrap();
            stream.write_all(&call).unwrap();
            stream.set_read_timeout(Some(LONG)).unwrap();
            stream
        })
        .collect();
    let answers = asking.into_iter().map(|mut stream| {
        let answer: Option<PodAnswer> = pods::read(&mut stream).unwrap();
        match answer.unwrap().answer.unwrap() {
            Answer::Assign(reply) => reply.address,
            other => panic!("{other:?}"),
        }
    });
    let got: BTreeSet<String> = answers.collect();
    assert_eq!(got.len(), ASKERS, "each has another address");
    let (blocks, handles) = (total(BLOCKS) - blocks, total(HANDLES) - handles);
    println!("{ASKERS} ADDs at once: {blocks} writes of blocks, {handles} of handles");
    assert_eq!(handles, ASKERS as i64, "each handle once");
    // One or two for whoever came first, one for all who came meanwhile.
    assert!(blocks * 4 < ASKERS as i64, "{blocks} writes of blocks");
    let held = held();
    for i in 0..ASKERS {
        assert_eq!(held[&format!("net.asker-{i}")].len(), 1);
    }
}

#[test]
fn netns_without_the_agent_the_plugin_does_the_same() {
    netns!(180);
    let machine = Machine::new();
    let mut felix = node_with_agent(&machine);
    ipam(&machine, "ADD", "first", &v4()).unwrap();
    // What one ADD writes: its handle once, its block once.
    let add = |pod: &str| {
        let before = (writes(BLOCKS), writes(HANDLES));
        let result = ipam(&machine, "ADD", pod, &v4()).unwrap();
        let grown = |now: BTreeMap<String, i64>, then: &BTreeMap<String, i64>| -> Vec<i64> {
            now.iter()
                .map(|(k, v)| v - then.get(k).copied().unwrap_or_default())
                .filter(|n| *n > 0)
                .collect()
        };
        let handle = format!("net.container-of-{pod}");
        let held = held();
        assert_eq!(held[&handle], [address(&result)].into(), "{pod}");
        (
            grown(writes(BLOCKS), &before.0),
            grown(writes(HANDLES), &before.1),
        )
    };
    let with = add("with");
    felix.kill();
    assert!(std::os::unix::net::UnixStream::connect(AGENT).is_err());
    let without = add("without");
    assert_eq!((&with.0[..], &with.1[..]), (&[1][..], &[1][..]));
    assert_eq!(with, without);
    // Many at once without it: each writes the block itself, and none gets what another has.
    let before = total(BLOCKS);
    let pods: Vec<String> = (0..8).map(|i| format!("alone-{i}")).collect();
    let got: BTreeSet<String> = std::thread::scope(|scope| {
        let started: Vec<_> = pods
            .iter()
            .map(|pod| scope.spawn(|| address(&ipam(&machine, "ADD", pod, &v4()).unwrap())))
            .collect();
        started.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!((got.len(), total(BLOCKS) - before), (8, 8));
}

#[test]
fn netns_the_agent_is_killed_in_the_middle_of_a_burst() {
    netns!(240);
    const PODS: usize = 40;
    let machine = Machine::new();
    let mut felix = node_with_agent(&machine);
    let pods: Vec<String> = (0..PODS).map(|i| format!("pod-{i}")).collect();
    let results: Vec<(String, String)> = std::thread::scope(|scope| {
        let started: Vec<_> = pods
            .iter()
            .map(|pod| {
                let machine = &machine;
                let ask = move || {
                    let result = ipam(machine, "ADD", pod, &v4()).unwrap();
                    (format!("net.container-of-{pod}"), address(&result))
                };
                scope.spawn(ask)
            })
            .collect();
        // Some have their address, the others wait or are not even started.
        eventually(LONG, || match writes(HANDLES).len() {
            n if n >= 3 => Ok(()),
            n => Err(format!("{n} handles")),
        });
        felix.kill();
        started.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let different: BTreeSet<&String> = results.iter().map(|(_, a)| a).collect();
    assert_eq!(different.len(), PODS);
    let there = held();
    for (handle, address) in &results {
        assert!(there[handle].contains(address), "{handle}: {:?}", there[handle]);
    }
    let twice = there.values().filter(|a| a.len() > 1).count();
    println!("{twice} containers hold an address that the killed agent took for them, too");
    for pod in &pods {
        ipam(&machine, "DEL", pod, &v4()).unwrap();
    }
    assert_eq!(held(), BTreeMap::new(), "DEL gives all of it back");
    assert_eq!(writes(HANDLES), BTreeMap::new());
}
