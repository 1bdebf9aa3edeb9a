//! From the first moment of a pod's life its policy is in force: somebody sends to its future addresses before it is
//! attached, and never stops.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use caracal_link::{LinkChange, Rtnl};
use caracal_testkit::{NetNs, eventually};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use crate::world::{down, good, lab, labs, machine, program, status};

/// The future addresses.
const ADDRESSES: [&str; 2] = ["10.65.77.5", "fd65::77:5"];
const PORT: u16 = 7777;
/// Makes the packets ours.
const MESSAGE: &[u8] = b"let me in";
/// Between two packets of a sender, so that it leaves the machine some time.
const PACE: Duration = Duration::from_micros(200);
/// After a pod is attached, each sender has another so many tries.
const MORE: u64 = 100;

/// How many pods are started.
fn starts() -> u32 {
    let text = std::env::var("CARACAL_POD_STARTS").unwrap_or_else(|_| "30".to_owned());
    text.parse()
        .unwrap_or_else(|e| panic!("CARACAL_POD_STARTS={text}: {e}"))
}

/// Sends to all addresses from inside a namespace until it goes.
struct Sender {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Sender {
    fn start(netns: &str) -> Self {
        let netns = NetNs::named(netns).unwrap();
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (stop.clone(), sent.clone());
        let thread = std::thread::spawn(move || {
            netns.enter().unwrap();
            let sockets = ADDRESSES.map(|address| {
                let to: IpAddr = address.parse().unwrap();
                let from = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                (UdpSocket::bind(from).unwrap(), SocketAddr::new(to, PORT))
            });
            while !stopped.load(Relaxed) {
                for (socket, to) in &sockets {
                    // The network may say that nobody is there; that changes nothing.
                    let _ = socket.send_to(MESSAGE, to);
                }
                count.fetch_add(1, Relaxed);
                std::thread::sleep(PACE);
            }
        });
        Self {
            stop,
            sent,
            thread: Some(thread),
        }
    }

    /// Waits until it has sent some more.
    fn await_more(&self) {
        let goal = self.sent.load(Relaxed) + MORE;
        eventually(Duration::from_secs(30), || {
            let sent = self.sent.load(Relaxed);
            if sent >= goal {
                Ok(())
            } else {
                Err(format!("{sent} of {goal} packets are sent"))
            }
        });
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Sees every packet of a namespace, whatever interface it comes in by, now and later.
struct Receiver(Socket);

impl Receiver {
    fn open(netns: &NetNs) -> Self {
        let every = i32::from(u16::to_be(u16::try_from(libc::ETH_P_ALL).unwrap()));
        let open = || {
            Socket::new(
                Domain::PACKET,
                Type::DGRAM.nonblocking(),
                Some(Protocol::from(every)),
            )
        };
        Self(netns.run(open).unwrap().unwrap())
    }

    /// The senders whose packets have come since this was asked last.
    fn sources(&self) -> BTreeSet<IpAddr> {
        let mut sources = BTreeSet::new();
        let mut buffer = [0_u8; 2048];
        loop {
            match (&self.0).read(&mut buffer) {
                Ok(n) if buffer[..n].ends_with(MESSAGE) => sources.extend(source(&buffer[..n])),
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return sources,
                Err(e) => panic!("{e}"),
            }
        }
    }

    #[track_caller]
    fn has_seen_nobody(&self, when: &str) {
        let seen = self.sources();
        assert!(seen.is_empty(), "{when}: packets from {seen:?}");
    }
}

/// The source of a UDP packet; none for what the pod itself says about one.
fn source(packet: &[u8]) -> Option<IpAddr> {
    let (protocol, source): (u8, IpAddr) = match packet[0] >> 4 {
        4 => (packet[9], <[u8; 4]>::try_from(&packet[12..16]).unwrap().into()),
        6 => (packet[6], <[u8; 16]>::try_from(&packet[8..24]).unwrap().into()),
        other => panic!("IP version {other}"),
    };
    (i32::from(protocol) == libc::IPPROTO_UDP).then_some(source)
}

/// A pod that this test makes itself, as a container runtime would.
struct Container {
    netns: String,
    id: String,
    namespace: &'static str,
}

impl Container {
    /// Its namespace, with nothing in it, and whoever sees what comes in.
    fn create(n: u32, namespace: &'static str) -> (Self, Receiver) {
        let container = Self {
            netns: format!("container-{n}"),
            id: format!("container{n}"),
            namespace,
        };
        let netns = NetNs::create(&container.netns).unwrap();
        let receiver = Receiver::open(&netns);
        Rtnl::open_in(&netns)
            .unwrap()
            .set_link("lo", &LinkChange::up())
            .unwrap();
        (container, receiver)
    }

    /// Calls the CNI plugin on node-1; with `wait`, ADD waits for policy.
    fn plugin(&self, verb: &str, wait: bool) {
        let endpoints = status()["datastore"]["endpoint"].clone();
        let mut conf = json!({
            "cniVersion": "1.0.0",
            "name": "test",
            "type": "calico",
            "etcd_endpoints": endpoints,
            "ipam": {"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"},
            "args": {"cni": {"ips": ADDRESSES, "serviceAccount": "default"}},
        });
        if !wait {
            conf["policy_setup_timeout_seconds"] = json!(0);
        }
        let file = format!("/run/{}.json", self.id);
        std::fs::write(&file, conf.to_string()).unwrap();
        let mut command = Command::new(program());
        command
            .args(["lab", "node", "exec", "node-1", "--"])
            .arg(program())
            .arg("cni")
            .env("CARACAL_LAB_DIR", labs())
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &self.id)
            .env("CNI_NETNS", format!("/run/netns/{}", self.netns))
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/nowhere")
            .env(
                "CNI_ARGS",
                format!("K8S_POD_NAMESPACE={};K8S_POD_NAME=victim", self.namespace),
            )
            .stdin(Stdio::from(std::fs::File::open(&file).unwrap()));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{verb}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        std::fs::remove_file(file).unwrap();
    }

    fn destroy(self) {
        self.plugin("DEL", true);
        NetNs::delete(&self.netns).unwrap();
    }
}

/// The namespaces that pods of the lab are in, by the pods' names.
fn senders() -> Vec<Sender> {
    let names = NetNs::list().unwrap();
    let of = |pod: &str| names.iter().find(|n| n.contains(&format!(".{pod}."))).unwrap();
    // One on the node of the pod to be started, one on the other node.
    ["pod-1", "pod-2"].map(|pod| Sender::start(of(pod))).into()
}

fn agent_of_node_1_runs() -> bool {
    let status = status();
    status["nodes"][0]["pid"] != Value::Null
}

#[test]
fn netns_no_packet_before_policy_over_many_pod_starts() {
    machine!(120 + 2 * u64::from(starts()));
    let policies = "apiVersion: v1\nkind: Namespace\nmetadata: {name: closed}\n---\n\
                    apiVersion: v1\nkind: Namespace\nmetadata: {name: open}\n---\n\
                    apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
                    metadata: {name: deny, namespace: closed}\n\
                    spec: {podSelector: {}, policyTypes: [Ingress]}\n";
    std::fs::write("/run/policies.yaml", policies).unwrap();
    let up = [
        "up",
        "--nodes",
        "2",
        "--pods-per-node",
        "1",
        "--dual-stack",
        "-f",
        "/run/policies.yaml",
    ];
    good(&up);
    let senders = senders();
    for n in 0..starts() {
        let (pod, receiver) = Container::create(n, "closed");
        // Every other runtime does not wait for policy.
        pod.plugin("ADD", n % 2 == 0);
        senders.iter().for_each(Sender::await_more);
        receiver.has_seen_nobody(&format!("start {n}"));
        pod.destroy();
        receiver.has_seen_nobody(&format!("end {n}"));
    }

    // Without an agent, what it left behind keeps a new pod closed.
    good(&["node", "kill", "1"]);
    assert!(!agent_of_node_1_runs());
    let (pod, receiver) = Container::create(starts(), "closed");
    pod.plugin("ADD", false);
    senders.iter().for_each(Sender::await_more);
    receiver.has_seen_nobody("a pod that no agent knows");
    good(&["node", "start", "node-1"]);
    senders.iter().for_each(Sender::await_more);
    receiver.has_seen_nobody("a pod whose agent has just started");
    pod.destroy();

    // The same without the policy: the senders do send, and the receiver does see it, from both senders in both families.
    let (pod, receiver) = Container::create(starts() + 1, "open");
    pod.plugin("ADD", true);
    let mut seen = BTreeSet::new();
    eventually(Duration::from_secs(20), || {
        seen.extend(receiver.sources());
        if seen.len() == 4 {
            Ok(())
        } else {
            Err(format!("the open pod has heard of {seen:?}"))
        }
    });
    pod.destroy();
    drop(senders);
    let said = lab(&["probe"]);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    down();
}
