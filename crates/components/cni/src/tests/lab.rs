//! A node of its own for a kernel test: the test's namespaces, a datastore in memory, pods in namespaces.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use caracal_api::{
    IpPoolSpec, IpamBlockSpec, IpamHandleSpec, Kind, Object, Resource, Spec, WorkloadEndpointSpec,
};
use caracal_link::{AddressSpec, LinkChange, Rtnl, VethSpec};
use caracal_route::{PROTOCOL_BOOT, Route, RouteKey, Target, put_route};
use caracal_store::{ListOptions, Store};
use caracal_store_memory::MemoryStore;
use caracal_sys::NetNs;
use serde_json::{Value, json};

use crate::{
    call::{AfterStep, Invocation},
    on_demand,
    run::{Plugin, answer},
};

/// On one runtime per test: a connection to a datastore lives on the runtime that made it.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}

/// One call of a plugin, to be changed before it is made.
pub(super) struct Request {
    pub(super) plugin: Plugin,
    pub(super) env: BTreeMap<String, String>,
    pub(super) conf: Value,
    pub(super) after_step: Option<AfterStep>,
}

impl Request {
    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    pub(super) fn conf(mut self, field: &str, value: Value) -> Self {
        self.conf[field] = value;
        self
    }
}

/// Where DELs are kept for later: private to the test, as all of `/run`.
pub(super) const JOURNAL: &str = "/run/pending";

pub(super) struct Lab {
    pub(super) store: MemoryStore,
}

pub(super) fn object<S: Spec>(name: &str, spec: Value) -> Resource
where
    Resource: From<Object<S>>,
{
    Object::<S>::new(name, serde_json::from_value(spec).unwrap()).into()
}

impl Lab {
    /// A node with an uplink, default routes (without which the kernel answers for no gateway) and a pool per family.
    pub(super) fn new() -> Self {
        let mut rtnl = Rtnl::open().unwrap();
        let pair = VethSpec {
            name: "up0",
            peer_name: "up1",
            ..VethSpec::default()
        };
        rtnl.create_veth(&pair).unwrap();
        for name in ["up1", "up0"] {
            rtnl.set_link(name, &LinkChange::up()).unwrap();
        }
        let up0 = rtnl.require_link("up0").unwrap().index;
        for (address, default, gateway) in [
            ("172.30.0.1/24", "0.0.0.0/0", "172.30.0.2"),
            ("fd00:30::1/64", "::/0", "fd00:30::2"),
        ] {
            rtnl.set_address(up0, &AddressSpec::new(address.parse().unwrap()))
                .unwrap();
            let target = Target::Via {
                link: "up0".into(),
                gateway: gateway.parse().unwrap(),
                onlink: true,
            };
            let key = RouteKey::main(default.parse().unwrap(), 0);
            put_route(&mut rtnl, &key, &Route::new(target, PROTOCOL_BOOT), Some(up0)).unwrap();
        }
        let lab = Self {
            store: MemoryStore::etcd(),
        };
        lab.put(object::<IpPoolSpec>(
            "p4",
            json!({"cidr": "10.65.0.0/24", "blockSize": 26}),
        ));
        lab.put(object::<IpPoolSpec>(
            "p6",
            json!({"cidr": "fd65::/120", "blockSize": 122}),
        ));
        lab
    }

    pub(super) fn put(&self, resource: Resource) {
        block_on(self.store.create(resource)).unwrap();
    }

    pub(super) fn list(&self, kind: Kind) -> Vec<Resource> {
        block_on(self.store.list_all(kind, &ListOptions::default()))
            .unwrap()
            .items
    }

    pub(super) fn endpoints(&self) -> Vec<WorkloadEndpointSpec> {
        let all = self.list(Kind::WorkloadEndpoint).into_iter();
        all.map(|r| Object::<WorkloadEndpointSpec>::try_from(r).unwrap().spec)
            .collect()
    }

    pub(super) fn handles(&self) -> Vec<String> {
        let all = self.list(Kind::IpamHandle).into_iter();
        all.map(|r| Object::<IpamHandleSpec>::try_from(r).unwrap().spec.handle_id)
            .collect()
    }

    /// How many addresses are taken.
    pub(super) fn taken(&self) -> usize {
        let all = self.list(Kind::IpamBlock).into_iter();
        all.map(|r| Object::<IpamBlockSpec>::try_from(r).unwrap().spec)
            .map(|b| b.allocations.iter().flatten().count())
            .sum()
    }

    /// The host's sides of pods.
    pub(super) fn host_links(&self) -> Vec<String> {
        let links = Rtnl::open().unwrap().links().unwrap().into_iter();
        links.map(|l| l.name).filter(|n| n.starts_with("cali")).collect()
    }

    /// Nothing of any container is left.
    pub(super) fn assert_empty(&self, context: &str) {
        assert_eq!(self.host_links(), Vec::<String>::new(), "{context}");
        assert_eq!(self.endpoints(), [], "{context}");
        assert_eq!(self.handles(), Vec::<String>::new(), "{context}");
        assert_eq!(self.taken(), 0, "{context}");
    }

    /// A request for pod `default/web`.
    pub(super) fn request(&self, command: &str, container: &str, netns: &str) -> Request {
        let env = [
            ("CNI_COMMAND", command.to_owned()),
            ("CNI_CONTAINERID", container.to_owned()),
            ("CNI_NETNS", format!("/run/netns/{netns}")),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_PATH", "/nonexistent".to_owned()),
            (
                "CNI_ARGS",
                "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web".to_owned(),
            ),
        ];
        let conf = json!({
            "cniVersion": "1.0.0", "name": "net1", "type": "calico", "nodename": "node-1", "mtu": 1440,
            "log_level": "debug", "ipam": {"type": "calico-ipam", "assign_ipv6": "true"},
            "args": {"cni": {"labels": [{"key": "app", "value": "web"}], "serviceAccount": "sa",
                             "ports": [{"name": "http", "protocol": "TCP", "port": 80}]}},
        });
        Request {
            plugin: Plugin::Calico,
            env: env.map(|(k, v)| (k.to_owned(), v)).into(),
            conf,
            after_step: None,
        }
    }

    /// Makes the call: exit code, and stdout as JSON (null when there is none).
    pub(super) fn call(&self, request: Request) -> (i32, Value) {
        let given = Invocation {
            env: request.env,
            stdin: request.conf.to_string().into_bytes(),
            store: Some(Arc::new(self.store.clone())),
            journal: Some(JOURNAL.into()),
            after_step: request.after_step,
        };
        // Every call has a runtime of its own, as the process of a plugin has; its connections end with it.
        let reply = on_demand::drive(answer(request.plugin, &given), on_demand::make).unwrap();
        let json = if reply.stdout.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&reply.stdout).unwrap()
        };
        (reply.exit, json)
    }

    pub(super) fn ok(&self, request: Request) -> Value {
        let (exit, json) = self.call(request);
        assert_eq!(exit, 0, "{json}");
        json
    }

    /// The error's code and whole text.
    pub(super) fn fails(&self, request: Request) -> (u64, String) {
        let (exit, json) = self.call(request);
        assert_eq!(exit, 1, "{json}");
        assert!(json["msg"].is_string(), "{json}");
        (json["code"].as_u64().unwrap(), json.to_string())
    }
}

/// The addresses of a result.
pub(super) fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().unwrap().iter();
    ips.map(|ip| {
        ip["address"]
            .as_str()
            .unwrap()
            .split_once('/')
            .unwrap()
            .0
            .parse()
            .unwrap()
    })
    .collect()
}

/// One datagram from inside to an address of the host, and one back.
pub(super) fn talks(netns: &NetNs, pod: IpAddr, host: &str) -> Result<(), String> {
    let limit = Some(Duration::from_millis(300));
    let server = UdpSocket::bind((host, 0)).map_err(|e| format!("bind {host}: {e}"))?;
    server.set_read_timeout(limit).map_err(|e| e.to_string())?;
    let target = server.local_addr().map_err(|e| e.to_string())?;
    let client = netns
        .run(|| UdpSocket::bind((pod, 0)))
        .map_err(|e| e.to_string())?
        .map_err(|e| format!("bind {pod}: {e}"))?;
    client.set_read_timeout(limit).map_err(|e| e.to_string())?;
    client
        .send_to(b"ping", target)
        .map_err(|e| format!("send: {e}"))?;
    let mut buffer = [0; 8];
    let (_, from): (_, SocketAddr) = server.recv_from(&mut buffer).map_err(|e| format!("ping: {e}"))?;
    if from.ip() != pod {
        return Err(format!("it came from {from}"));
    }
    server
        .send_to(b"pong", from)
        .map_err(|e| format!("answer: {e}"))?;
    client.recv_from(&mut buffer).map_err(|e| format!("pong: {e}"))?;
    Ok(())
}
