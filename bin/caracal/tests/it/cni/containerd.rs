//! containerd with our plugin and Debian's `portmap`: pod sandboxes through the CRI, of an image that is made here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use caracal_testkit::{Background, NetNs, eventually, needs, netns};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tonic::codegen::http::uri::PathAndQuery;

use super::{
    Machine,
    clients::{OTHERS, each_other, uplink},
    conf, links,
};

const ADDRESS: &str = "/run/containerd.sock";
const IMAGE: &str = "localhost/pause:1";

/// The messages of the CRI as far as they are used here, with the fields' numbers of its definition.
mod cri {
    use std::collections::HashMap;

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Metadata {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) uid: String,
        #[prost(string, tag = "3")]
        pub(super) namespace: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct PortMapping {
        #[prost(int32, tag = "2")]
        pub(super) container_port: i32,
        #[prost(int32, tag = "3")]
        pub(super) host_port: i32,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SandboxConfig {
        #[prost(message, optional, tag = "1")]
        pub(super) metadata: Option<Metadata>,
        #[prost(message, repeated, tag = "5")]
        pub(super) port_mappings: Vec<PortMapping>,
        #[prost(map = "string, string", tag = "7")]
        pub(super) annotations: HashMap<String, String>,
        #[prost(message, optional, tag = "8")]
        pub(super) linux: Option<Empty>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Empty {}

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct RunRequest {
        #[prost(message, optional, tag = "1")]
        pub(super) config: Option<SandboxConfig>,
    }

    /// Of requests and replies that have nothing but a sandbox's id.
    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SandboxId {
        #[prost(string, tag = "1")]
        pub(super) id: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Ip {
        #[prost(string, tag = "1")]
        pub(super) ip: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct Network {
        #[prost(string, tag = "1")]
        pub(super) ip: String,
        #[prost(message, repeated, tag = "2")]
        pub(super) more: Vec<Ip>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct SandboxStatus {
        #[prost(message, optional, tag = "5")]
        pub(super) network: Option<Network>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct StatusRequest {
        #[prost(string, tag = "1")]
        pub(super) id: String,
        #[prost(bool, tag = "2")]
        pub(super) verbose: bool,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct StatusReply {
        #[prost(message, optional, tag = "1")]
        pub(super) status: Option<SandboxStatus>,
        #[prost(map = "string, string", tag = "2")]
        pub(super) info: HashMap<String, String>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ImageSpec {
        #[prost(string, tag = "1")]
        pub(super) image: String,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ImageRequest {
        #[prost(message, optional, tag = "1")]
        pub(super) image: Option<ImageSpec>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub(super) struct ImageReply {
        #[prost(message, optional, tag = "1")]
        pub(super) image: Option<SandboxId>,
    }
}

/// containerd as a process of the test, and the sandboxes that are to be removed at its end.
struct Containerd {
    runtime: tokio::runtime::Runtime,
    sandboxes: Vec<String>,
    _process: Background,
}

impl Containerd {
    fn start(machine: &Machine) -> Self {
        let dir = machine.dir.path();
        let bin = dir.join("all-plugins");
        fs::create_dir(&bin).unwrap();
        for (name, from) in [
            ("calico", machine.bin()),
            ("calico-ipam", machine.bin()),
            ("portmap", OTHERS.into()),
            ("loopback", OTHERS.into()),
        ] {
            std::os::unix::fs::symlink(from.join(name), bin.join(name)).unwrap();
        }
        let net = dir.join("net.d");
        fs::create_dir(&net).unwrap();
        let mut plugin = conf();
        plugin["capabilities"] = json!({"io.kubernetes.cri.pod-annotations": true});
        let list = json!({"name": "net", "cniVersion": "1.0.0", "plugins": [
            plugin, {"type": "portmap", "capabilities": {"portMappings": true}}]});
        fs::write(net.join("10-calico.conflist"), list.to_string()).unwrap();
        let config = format!(
            r#"version = 2
root = "{root}"
state = "/run/containerd"
[grpc]
address = "{ADDRESS}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{IMAGE}"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{bin}"
conf_dir = "{net}"
"#,
            root = dir.join("containerd").display(),
            bin = bin.display(),
            net = net.display(),
        );
        fs::write(dir.join("containerd.toml"), config).unwrap();
        let log = fs::File::create(dir.join("containerd.log")).unwrap();
        let mut command = Command::new("containerd");
        command
            .arg("--config")
            .arg(dir.join("containerd.toml"))
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let process = Background::spawn(&mut command);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let this = Self {
            runtime,
            sandboxes: Vec::new(),
            _process: process,
        };
        let image = make_image(dir);
        eventually(Duration::from_secs(60), || {
            let output = Command::new("ctr")
                .args(["--address", ADDRESS, "--namespace", "k8s.io", "images", "import"])
                .args(["--snapshotter", "native"])
                .arg(&image)
                .output()
                .map_err(|e| e.to_string())?;
            if output.status.success() {
                return Ok(());
            }
            let log = fs::read_to_string(dir.join("containerd.log")).unwrap_or_default();
            Err(format!("{}{log}", String::from_utf8_lossy(&output.stderr)))
        });
        let wanted = cri::ImageRequest {
            image: Some(cri::ImageSpec { image: IMAGE.into() }),
        };
        eventually(Duration::from_secs(30), || {
            let reply: cri::ImageReply = this.ask("ImageService/ImageStatus", wanted.clone())?;
            reply
                .image
                .map(drop)
                .ok_or_else(|| "the image is not known yet".to_owned())
        });
        this
    }

    fn ask<A, B>(&self, method: &str, request: A) -> Result<B, String>
    where
        A: prost::Message + 'static,
        B: prost::Message + Default + 'static,
    {
        self.runtime.block_on(async {
            let endpoint = tonic::transport::Endpoint::from_shared(format!("unix://{ADDRESS}")).unwrap();
            let channel = endpoint.connect().await.map_err(|e| e.to_string())?;
            let mut client = tonic::client::Grpc::new(channel);
            client.ready().await.map_err(|e| e.to_string())?;
            let path: PathAndQuery = format!("/runtime.v1.{method}").parse().unwrap();
            let codec = tonic_prost::ProstCodec::<A, B>::default();
            let reply = client.unary(tonic::Request::new(request), path, codec).await;
            reply.map(tonic::Response::into_inner).map_err(|e| e.to_string())
        })
    }

    /// The sandbox's id.
    fn run_pod(&mut self, name: &str, config: cri::SandboxConfig) -> Result<String, String> {
        let metadata = cri::Metadata {
            name: name.into(),
            uid: format!("uid-{name}"),
            namespace: "default".into(),
        };
        let config = cri::SandboxConfig {
            metadata: Some(metadata),
            linux: Some(cri::Empty {}),
            ..config
        };
        let request = cri::RunRequest { config: Some(config) };
        let reply: cri::SandboxId = self.ask("RuntimeService/RunPodSandbox", request)?;
        self.sandboxes.push(reply.id.clone());
        Ok(reply.id)
    }

    /// Its addresses and its network namespace.
    fn network(&self, id: &str) -> (Vec<String>, NetNs) {
        let request = cri::StatusRequest {
            id: id.to_owned(),
            verbose: true,
        };
        let reply: cri::StatusReply = self.ask("RuntimeService/PodSandboxStatus", request).unwrap();
        let network = reply.status.unwrap().network.unwrap();
        let more = network.more.into_iter().map(|ip| ip.ip);
        let info: Value = serde_json::from_str(&reply.info["info"]).unwrap();
        let spaces = info["runtimeSpec"]["linux"]["namespaces"].as_array().unwrap();
        let path = spaces.iter().find(|n| n["type"] == "network").unwrap()["path"]
            .as_str()
            .unwrap();
        let ns = NetNs::open(Path::new(path)).unwrap();
        (std::iter::once(network.ip).chain(more).collect(), ns)
    }

    fn remove(&self, id: &str) -> Result<(), String> {
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            let request = cri::SandboxId { id: id.to_owned() };
            let _: cri::Empty = self.ask(&format!("RuntimeService/{method}"), request)?;
        }
        Ok(())
    }
}

impl Drop for Containerd {
    /// Without this the processes of sandboxes would outlive a test that fails.
    fn drop(&mut self) {
        for id in &self.sandboxes {
            let _ = self.remove(id);
        }
    }
}

/// An image with one static program that waits, as an archive of the OCI's layout.
fn make_image(dir: &Path) -> PathBuf {
    let layout = dir.join("image");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let source = dir.join("pause.c");
    fs::write(
        &source,
        "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n",
    )
    .unwrap();
    let files = dir.join("files");
    fs::create_dir(&files).unwrap();
    let run = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
    run(Command::new("cc")
        .args(["-static", "-Os", "-o"])
        .arg(files.join("pause"))
        .arg(&source));
    let tar = |what: &Path, into: &Path| {
        run(Command::new("tar")
            .arg("-C")
            .arg(what)
            .arg("-cf")
            .arg(into)
            .arg("."));
    };
    let layer = dir.join("layer.tar");
    tar(&files, &layer);
    let put = |bytes: &[u8], kind: &str| {
        let digest: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
        fs::write(blobs.join(&digest), bytes).unwrap();
        json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let layer = put(
        &fs::read(layer).unwrap(),
        "application/vnd.oci.image.layer.v1.tar",
    );
    let config = json!({"architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
        "os": "linux", "config": {"Entrypoint": ["/pause"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}});
    let config = put(
        config.to_string().as_bytes(),
        "application/vnd.oci.image.config.v1+json",
    );
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config, "layers": [layer]});
    let mut manifest = put(
        manifest.to_string().as_bytes(),
        "application/vnd.oci.image.manifest.v1+json",
    );
    manifest["annotations"] = json!({"io.containerd.image.name": IMAGE});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    let archive = dir.join("image.tar");
    tar(&layout, &archive);
    archive
}

#[test]
fn netns_containerd_runs_pods() {
    netns!(300);
    needs!(
        "containerd",
        "ctr",
        "runc",
        "cc",
        "/usr/lib/cni/portmap",
        "iptables"
    );
    let machine = Machine::new();
    uplink();
    let mut containerd = Containerd::start(&machine);
    let port = cri::PortMapping {
        container_port: 80,
        host_port: 8080,
    };
    let web = cri::SandboxConfig {
        port_mappings: vec![port],
        annotations: [("cni.projectcalico.org/ipAddrs".into(), r#"["10.65.0.99"]"#.into())].into(),
        ..cri::SandboxConfig::default()
    };
    let web = containerd.run_pod("web", web).unwrap();
    let client = containerd
        .run_pod("client", cri::SandboxConfig::default())
        .unwrap();
    assert_eq!(machine.pods(), ["client", "web"]);
    let (addresses, web_ns) = containerd.network(&web);
    assert_eq!(addresses, ["10.65.0.99"], "the annotation says which");
    let (others, client_ns) = containerd.network(&client);
    assert_eq!(others.len(), 2, "both families: {others:?}");
    let result = |list: &[String]| {
        let ips: Vec<Value> = list
            .iter()
            .map(|a| json!({"address": format!("{a}/32")}))
            .collect();
        json!({ "ips": ips })
    };
    each_other(
        (&web_ns, &result(&addresses)),
        (&client_ns, &result(&others[..1])),
    );
    // An address that is taken: the runtime tells what the plugin said.
    let twice = cri::SandboxConfig {
        annotations: [("cni.projectcalico.org/ipAddrs".into(), r#"["10.65.0.99"]"#.into())].into(),
        ..cri::SandboxConfig::default()
    };
    let told = containerd.run_pod("twice", twice).unwrap_err();
    assert!(told.contains("10.65.0.99") && told.contains(&web), "{told}");
    drop((web_ns, client_ns));
    for id in [&web, &client] {
        containerd.remove(id).unwrap();
    }
    containerd.sandboxes.clear();
    assert_eq!((machine.pods(), links()), (vec![], vec![]));
}
