//! A store, nodes and pods, each in a network namespace of its own; programs as processes that can be killed.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::IpAddr,
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use caracal_agent_api::v1::{AwaitEndpointRequest, ListEndpointsRequest, agent_client::AgentClient};
use caracal_api::{Kind, Resource, ResourceKey};
use caracal_datastore::Settings;
use caracal_store::{Preconditions, Store, Subject};
use caracal_sys::{MountPlan, NetNs, spawn_in};
use caracal_testkit::eventually;
use serde_json::{Value, json};

/// What a process of this program is to be.
const ROLE: &str = "CARACAL_TEST_ROLE";
const ARGS: &str = "CARACAL_TEST_ARGS";

/// How long anything may take on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// The link-layer address of every host side of a pod.
const HOST_MAC: &str = "ee:ee:ee:ee:ee:ee";
const HOST_LINK_LOCAL: &str = "fe80::ecee:eeff:feee:eeee";

pub(crate) fn play_role() {
    let args = std::env::var(ARGS).unwrap_or_default();
    let args: Vec<&str> = args.split_whitespace().collect();
    match std::env::var(ROLE).as_deref() {
        Ok("agent") => {
            let args = ["caracal felix"].iter().chain(&args).map(Into::into).collect();
            std::process::exit(caracal_felix::run(args));
        }
        Ok("calicoctl") => {
            let args = ["calicoctl"].iter().chain(&args).map(Into::into).collect();
            std::process::exit(caracal_calicoctl::run(args));
        }
        Ok(tool @ ("watch" | "top")) => {
            let own = [format!("caracal {tool}")];
            let args = own
                .iter()
                .map(String::as_str)
                .chain(args.iter().copied())
                .map(Into::into);
            let run = if tool == "top" {
                caracal_query::top
            } else {
                caracal_query::watch
            };
            std::process::exit(run(args.collect()));
        }
        // As before, and then it hangs.
        Ok("calicoctl that stays") => {
            let args = ["calicoctl"].iter().chain(&args).map(Into::into).collect();
            let _ = caracal_calicoctl::run(args);
            loop {
                std::thread::park();
            }
        }
        Ok("store") => serve_store(args[0].into(), args[1].into()),
        _ => {}
    }
}

fn serve_store(data: PathBuf, socket: PathBuf) {
    use caracal_store_embedded::{Engine, Listen, Options, Server};
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Engine::open(&data, Options::default()).unwrap();
        let listen = Listen {
            socket: Some(socket),
            tcp: None,
            tls: None,
        };
        let server = Server::bind(engine, listen).await.unwrap();
        server.serve(std::future::pending()).await.unwrap();
    });
}

fn role(role: &str, args: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["role", "--exact", "--nocapture", "--test-threads=1"])
        .env(ROLE, role)
        .env(ARGS, args)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

/// A program that is killed when this goes.
#[derive(Debug)]
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// SIGKILL, and its end.
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    pub(crate) fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.0.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Its exit code, once it has ended by itself.
    pub(crate) fn wait(&mut self) -> i32 {
        eventually(LONG, || match self.0.try_wait().unwrap() {
            Some(status) => Ok(status.code().unwrap_or(-1)),
            None => Err("it still runs".into()),
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// Runs a program in the calling thread's namespaces; its output. Panics when it fails.
pub(crate) fn run(line: &str) -> String {
    try_run(line).unwrap_or_else(|e| panic!("{e}"))
}

pub(crate) fn try_run(line: &str) -> Result<String, String> {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{line}: {}", text(&output.stderr)))
    }
}

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    store: Option<Process>,
    runtime: tokio::runtime::Runtime,
    client: Arc<dyn Store>,
}

impl World {
    /// A running store with a profile that allows everything.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("store.sock").display().to_string();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let client = {
            let _inside = runtime.enter();
            caracal_datastore::connect(&Settings::Embedded { socket }).unwrap()
        };
        let mut world = Self {
            dir,
            store: None,
            runtime,
            client,
        };
        world.start_store();
        let open = json!({"ingress": [{"action": "Allow"}], "egress": [{"action": "Allow"}]});
        world.put(Kind::Profile, "kns.default", open);
        world.put(
            Kind::Tier,
            "default",
            json!({"order": 1_000_000, "defaultAction": "Deny"}),
        );
        world
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("store.sock")
    }

    pub(crate) fn start_store(&mut self) {
        let args = format!(
            "{} {}",
            self.dir.path().join("store").display(),
            self.socket().display()
        );
        let child = role("store", &args).spawn().unwrap();
        self.store = Some(Process(child));
        eventually(LONG, || {
            UnixStream::connect(self.socket())
                .map(drop)
                .map_err(|e| e.to_string())
        });
    }

    pub(crate) fn kill_store(&mut self) {
        self.store = None;
    }

    /// Node n1, not up yet, with pods `a` and `b` of these labels.
    pub(crate) fn two_pods(&self, of_a: Value, of_b: Value) -> (Node, Pod, Pod) {
        let node = self.node("n1");
        let (a, b) = (
            node.pod("a", "10.65.0.1", "fd65::1"),
            node.pod("b", "10.65.0.2", "fd65::2"),
        );
        a.announce(self, of_a);
        b.announce(self, of_b);
        (node, a, b)
    }

    /// Writes an object, whatever was there. `name` may be `namespace/name`.
    pub(crate) fn put(&self, kind: Kind, name: &str, spec: Value) {
        self.put_with(kind, name, json!({}), spec);
    }

    pub(crate) fn put_with(&self, kind: Kind, name: &str, metadata: Value, spec: Value) {
        let mut metadata = metadata;
        if let Some((ns, name)) = name.split_once('/') {
            metadata["namespace"] = ns.into();
            metadata["name"] = name.into();
        } else {
            metadata["name"] = name.into();
        }
        let value = json!({"apiVersion": "projectcalico.org/v3", "kind": kind.as_str(), "metadata": metadata, "spec": spec});
        let resource = Resource::from_value(kind, value).unwrap();
        self.runtime
            .block_on(caracal_store::apply(self.client.as_ref(), resource))
            .unwrap_or_else(|e| panic!("{kind} {name}: {e}"));
    }

    pub(crate) fn delete(&self, kind: Kind, name: &str) {
        let key = match name.split_once('/') {
            Some((ns, name)) => ResourceKey::namespaced(kind, ns, name),
            None => ResourceKey::global(kind, name),
        };
        self.runtime
            .block_on(self.client.delete(&key, &Preconditions::default()))
            .unwrap_or_else(|e| panic!("{kind} {name}: {e}"));
    }

    /// Runs `calicoctl` to its end; its exit code.
    pub(crate) fn calicoctl(&self, args: &str) -> i32 {
        Process(self.calicoctl_as("calicoctl", args)).wait()
    }

    /// Runs `calicoctl` in a process that does not end by itself.
    pub(crate) fn calicoctl_that_stays(&self, args: &str) -> Process {
        Process(self.calicoctl_as("calicoctl that stays", args))
    }

    /// Runs a program (`watch`, `top`) that writes to a file.
    pub(crate) fn tool(&self, which: &str, args: &str, output: &std::path::Path) -> Process {
        let mut command = self.role_of_client(which, args);
        Process(command.stdout(fs::File::create(output).unwrap()).spawn().unwrap())
    }

    fn role_of_client(&self, which: &str, args: &str) -> Command {
        let mut command = role(which, args);
        command.env("ETCD_ENDPOINTS", format!("unix://{}", self.socket().display()));
        command
    }

    fn calicoctl_as(&self, which: &str, args: &str) -> Child {
        self.role_of_client(which, args).spawn().unwrap()
    }

    /// What nodes say of themselves in the datastore: about what, and what.
    pub(crate) fn reports(&self) -> Vec<(Subject, Value)> {
        let reports = self.client.reports().unwrap();
        let found = self.runtime.block_on(reports.reported(None)).unwrap_or_default();
        found
            .into_iter()
            .map(|(key, value)| (key.subject, value))
            .collect()
    }

    /// Parameters for every node.
    pub(crate) fn configure(&self, spec: Value) {
        self.put(Kind::FelixConfiguration, "default", spec);
    }

    /// A node with an uplink to the bridge-less wire `wire` (a veth pair made by [`World::wire`]), agent not started.
    pub(crate) fn node(&self, name: &str) -> Node {
        let ns = NetNs::create(name).unwrap();
        quick_addresses(&ns);
        run(&format!("ip -n {name} link set lo up"));
        let dir = self.dir.path().join(name);
        fs::create_dir_all(dir.join("run")).unwrap();
        fs::create_dir_all(dir.join("lib")).unwrap();
        let env = [
            ("NODENAME", name.to_owned()),
            ("ETCD_ENDPOINTS", format!("unix://{}", self.socket().display())),
            ("FELIX_HEALTHENABLED", "true".into()),
            ("FELIX_PROMETHEUSMETRICSENABLED", "true".into()),
            ("FELIX_PROMETHEUSMETRICSHOST", "127.0.0.1".into()),
            ("FELIX_LOGSEVERITYSCREEN", "INFO".into()),
        ];
        Node {
            name: name.to_owned(),
            ns,
            dir,
            env: env.map(|(k, v)| (k.to_owned(), v)).into(),
            agent: None,
        }
    }
}

/// Addresses are usable at once: no detection of duplicates.
fn quick_addresses(ns: &NetNs) {
    ns.run(|| {
        for who in ["default", "all"] {
            for setting in ["accept_dad", "dad_transmits"] {
                fs::write(format!("/proc/sys/net/ipv6/conf/{who}/{setting}"), "0").unwrap();
            }
        }
    })
    .unwrap();
}

/// Connects two namespaces: `eth0` of each, with the given addresses.
pub(crate) fn wire(a: (&str, &[&str]), b: (&str, &[&str])) {
    run(&format!(
        "ip link add name eth0 netns {} type veth peer name eth0 netns {}",
        a.0, b.0
    ));
    for (ns, addresses) in [a, b] {
        for address in addresses {
            run(&format!("ip -n {ns} address add {address} dev eth0"));
        }
        run(&format!("ip -n {ns} link set eth0 up"));
    }
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) ns: NetNs,
    pub(crate) dir: PathBuf,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) agent: Option<Process>,
}

/// A pod on a node: its namespace and addresses.
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) ns: NetNs,
    pub(crate) v4: IpAddr,
    pub(crate) v6: IpAddr,
    pub(crate) interface: String,
}

impl Pod {
    pub(crate) fn both(&self) -> [IpAddr; 2] {
        [self.v4, self.v6]
    }

    fn key(&self) -> String {
        format!("default/{}-k8s-{}-eth0", self.node, self.name)
    }

    /// Tells the datastore about it.
    pub(crate) fn announce(&self, world: &World, labels: Value) {
        self.announce_with(world, labels, json!({}));
    }

    /// As [`announce`](Self::announce), with more in its spec.
    pub(crate) fn announce_with(&self, world: &World, labels: Value, more: Value) {
        let mut spec = json!({
            "orchestrator": "k8s", "node": self.node, "pod": self.name, "endpoint": "eth0",
            "workload": "", "containerID": format!("c-{}", self.name), "interfaceName": self.interface,
            "ipNetworks": [format!("{}/32", self.v4), format!("{}/128", self.v6)], "profiles": ["kns.default"],
        });
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        let mut labels = labels;
        labels["projectcalico.org/namespace"] = "default".into();
        labels["projectcalico.org/orchestrator"] = "k8s".into();
        world.put_with(
            Kind::WorkloadEndpoint,
            &self.key(),
            json!({"labels": labels}),
            spec,
        );
    }

    pub(crate) fn withdraw(&self, world: &World) {
        world.delete(Kind::WorkloadEndpoint, &self.key());
    }
}

impl Node {
    fn command(&self, args: &str) -> Child {
        let mut command = role("agent", args);
        command.envs(&self.env);
        let mounts = MountPlan {
            empty: vec!["/var/lib".into()],
            binds: vec![
                (self.dir.join("run"), "/run/calico".into()),
                (self.dir.join("lib"), "/var/lib/calico".into()),
            ],
        };
        spawn_in(&mut command, Some(&self.ns), Some(&mounts)).unwrap()
    }

    pub(crate) fn start(&mut self) {
        self.agent = Some(Process(self.command("")));
    }

    pub(crate) fn kill(&mut self) {
        self.agent.as_mut().unwrap().kill();
    }

    /// Runs the agent with arguments to its end; its exit code.
    pub(crate) fn call(&self, args: &str) -> i32 {
        Process(self.command(args)).wait()
    }

    /// Starts the agent and waits until it is ready.
    pub(crate) fn up(&mut self) {
        self.start();
        self.ready();
    }

    pub(crate) fn ready(&self) {
        eventually(LONG, || match self.health("readiness") {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// Status and body of a request to the agent's port of health or metrics.
    fn http(&self, port: u16, path: &str) -> Result<(u16, String), String> {
        self.ns
            .run(|| {
                let limit = Duration::from_secs(5);
                let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
                let mut stream =
                    std::net::TcpStream::connect_timeout(&address, limit).map_err(|e| e.to_string())?;
                stream.set_read_timeout(Some(limit)).unwrap();
                write!(
                    stream,
                    "GET /{path} HTTP/1.1\r\nHost: me\r\nConnection: close\r\n\r\n"
                )
                .map_err(|e| e.to_string())?;
                let mut text = String::new();
                stream.read_to_string(&mut text).map_err(|e| e.to_string())?;
                let status = text.get(9..12).and_then(|s| s.parse().ok());
                Ok((status.ok_or("no status")?, text))
            })
            .unwrap()
    }

    pub(crate) fn health(&self, path: &str) -> Result<(u16, String), String> {
        self.http(9099, path)
    }

    /// The value of a metric; the first whose name and labels begin so.
    pub(crate) fn metric(&self, name: &str) -> Result<f64, String> {
        let (_, text) = self.http(9091, "metrics")?;
        let line = text.lines().find(|l| l.starts_with(name));
        let value = line.and_then(|l| l.rsplit(' ').next()?.parse().ok());
        value.ok_or_else(|| format!("no {name} in\n{text}"))
    }

    /// Waits until a metric has a value.
    pub(crate) fn metric_is(&self, name: &str, value: f64) {
        eventually(LONG, || match self.metric(name)? {
            now if now == value => Ok(()),
            now => Err(format!("{name} is {now}, not {value}")),
        });
    }

    /// Waits until the agent says that the pod's policy and routes are in force.
    pub(crate) fn programmed(&self, pod: &Pod) {
        let request = AwaitEndpointRequest {
            namespace: "default".into(),
            name: pod.key().split_once('/').unwrap().1.into(),
            container_id: format!("c-{}", pod.name),
            timeout_ms: 30_000,
        };
        let socket = self.dir.join("run/agent.sock");
        let reply = eventually(LONG, || {
            block_on(async {
                let mut client = connect(socket.clone()).await?;
                let reply = client.await_endpoint(request.clone()).await;
                reply.map(tonic::Response::into_inner).map_err(|e| e.to_string())
            })
        });
        assert!(reply.in_force, "{}: {}", pod.name, reply.reason);
    }

    /// State and reason of an endpoint, as the agent tells them.
    pub(crate) fn endpoint(&self, pod: &Pod) -> Result<(String, String), String> {
        let socket = self.dir.join("run/agent.sock");
        let reply = block_on(async {
            let mut client = connect(socket).await?;
            let reply = client.list_endpoints(ListEndpointsRequest {}).await;
            reply.map(tonic::Response::into_inner).map_err(|e| e.to_string())
        })?;
        let found = reply.endpoints.into_iter().find(|e| e.interface == pod.interface);
        found
            .map(|e| (e.state, e.reason))
            .ok_or_else(|| format!("no endpoint {}", pod.name))
    }

    /// A pod with an interface, but unknown to the datastore.
    pub(crate) fn pod(&self, name: &str, v4: &str, v6: &str) -> Pod {
        let (node, host) = (&self.name, format!("cali{name}"));
        let ns = NetNs::create(name).unwrap();
        quick_addresses(&ns);
        run(&format!(
            "ip link add name {host} netns {node} address {HOST_MAC} type veth peer name eth0 netns {name}
             ip -n {node} link set {host} up
             ip -n {name} link set lo up
             ip -n {name} link set eth0 up
             ip -n {name} address add {v4}/32 dev eth0
             ip -n {name} address add {v6}/128 dev eth0
             ip -n {name} route add 169.254.1.1 dev eth0 scope link
             ip -n {name} route add default via 169.254.1.1 dev eth0
             ip -n {name} -6 route add default via {HOST_LINK_LOCAL} dev eth0
             ip -n {name} neighbour add 169.254.1.1 lladdr {HOST_MAC} dev eth0 nud permanent
             ip -n {name} neighbour add {HOST_LINK_LOCAL} lladdr {HOST_MAC} dev eth0 nud permanent"
        ));
        Pod {
            name: name.to_owned(),
            node: node.clone(),
            ns,
            v4: v4.parse().unwrap(),
            v6: v6.parse().unwrap(),
            interface: host,
        }
    }

    /// What a program prints in the node's namespace.
    pub(crate) fn sh(&self, line: &str) -> String {
        self.ns.run(|| run(line)).unwrap()
    }
}

pub(crate) async fn connect(socket: PathBuf) -> Result<AgentClient<tonic::transport::Channel>, String> {
    channel(socket).await.map(AgentClient::new)
}

/// A connection to a socket that speaks gRPC.
pub(crate) async fn channel(socket: PathBuf) -> Result<tonic::transport::Channel, String> {
    let connector = tower::service_fn(move |_: tonic::codegen::http::Uri| {
        let socket = socket.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(socket).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://agent");
    let channel = endpoint.connect_with_connector(connector).await;
    channel.map_err(|e| e.to_string())
}
