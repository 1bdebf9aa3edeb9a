//! Installing, log files, readiness gates.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use super::lab::block_on;
use crate::{
    install::Plan,
    logging::rotate::{Limits, open},
    netconf::NetConf,
    readiness,
};

struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        fs::write(host.path("program"), "the program").unwrap();
        host
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn install(&self, env: &[(&str, &str)], more: &[&str]) -> Result<String, String> {
        let bin = self.path("bin").into_os_string();
        let mut args: Vec<OsString> = vec![
            "--bin-dir".into(),
            bin,
            "--net-dir".into(),
            self.path("net").into(),
        ];
        args.extend(more.iter().map(OsString::from));
        let env: BTreeMap<String, String> = env.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Plan::read(&args, env, self.path("program"), &|_| false)
            .and_then(|plan| plan.execute())
            .map_err(|e| e.to_string())
    }

    fn read(&self, name: &str) -> Value {
        serde_json::from_str(&fs::read_to_string(self.path(name)).unwrap()).unwrap()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn install_writes_plugins_and_configuration() {
    let host = Host::new();
    let said = host.install(
        &[("ETCD_ENDPOINTS", "http://10.0.0.1:2379"), ("CNI_MTU", "1400")],
        &[],
    );
    assert_eq!(said.unwrap().lines().count(), 3);
    assert_eq!(names(&host.path("bin")), ["calico", "calico-ipam"]);
    assert_eq!(mode(&host.path("bin/calico")), 0o755);
    assert_eq!(fs::read(host.path("bin/calico-ipam")).unwrap(), b"the program");
    let conf = host.path("net/10-calico.conflist");
    assert_eq!((names(&host.path("net")).len(), mode(&conf)), (1, 0o600));
    let list = host.read("net/10-calico.conflist");
    assert_eq!(
        (&list["name"], &list["cniVersion"]),
        (&json!("k8s-pod-network"), &json!("1.0.0"))
    );
    let plugin = &list["plugins"][0];
    assert_eq!(plugin["etcd_endpoints"], "http://10.0.0.1:2379");
    assert_eq!(
        (&plugin["mtu"], &plugin["ipam"]["type"]),
        (&json!(1400), &json!("calico-ipam"))
    );
    // What it writes, the plugin can read.
    let mut given = plugin.clone();
    given["name"] = list["name"].clone();
    assert!(
        NetConf::read(given.to_string().as_bytes())
            .unwrap()
            .check()
            .is_ok()
    );
    // Again, with a portmap plugin beside ours, under another name.
    fs::write(host.path("bin/portmap"), "").unwrap();
    let env = [
        ("CNI_CONF_NAME", "05-new.conflist"),
        ("CNI_OLD_CONF_NAME", "10-calico.conflist"),
    ];
    host.install(&env, &[]).unwrap();
    assert_eq!(names(&host.path("net")), ["05-new.conflist"]);
    assert_eq!(host.read("net/05-new.conflist")["plugins"][1]["type"], "portmap");
}

#[test]
fn install_leaves_out_what_it_is_told_to() {
    let host = Host::new();
    host.install(&[("SKIP_CNI_BINARIES", "calico-ipam, other")], &[])
        .unwrap();
    assert_eq!(names(&host.path("bin")), ["calico"]);
    fs::write(host.path("program"), "newer").unwrap();
    host.install(&[("UPDATE_CNI_BINARIES", "false")], &[]).unwrap();
    assert_eq!(fs::read(host.path("bin/calico")).unwrap(), b"the program");
    assert_eq!(fs::read(host.path("bin/calico-ipam")).unwrap(), b"newer");
    let printed = Host::new();
    let text = printed.install(&[], &["--print"]).unwrap();
    assert!(serde_json::from_str::<Value>(&text).is_ok(), "{text}");
    assert_eq!(names(printed.dir.path()), ["program"], "only printed");
}

#[test]
fn install_fills_the_users_template() {
    let host = Host::new();
    let template = r#"{"name": "n", "cniVersion": "0.3.1", "type": "calico", "mtu": __CNI_MTU__,
        "log_level": "__LOG_LEVEL__", "nodename": "__KUBERNETES_NODE_NAME__", "etcd_key_file": "__ETCD_KEY_FILE__",
        "kubernetes": {"kubeconfig": "__KUBECONFIG_FILEPATH__"}, "odd": "__init__ and a__b", "ipam": {"type": "calico-ipam"}}"#;
    fs::create_dir(host.path("tls")).unwrap();
    fs::write(host.path("tls/etcd-key"), "secret").unwrap();
    let tls = host.path("tls").display().to_string();
    let env = [
        ("CNI_NETWORK_CONFIG", template),
        ("CNI_CONF_NAME", "x.conf"),
        ("NODENAME", "node-7"),
        ("LOG_LEVEL", "debug"),
        ("TLS_ASSETS_DIR", &tls),
    ];
    host.install(&env, &[]).unwrap();
    let conf = host.read("net/x.conf");
    assert_eq!(
        (&conf["mtu"], &conf["log_level"], &conf["nodename"]),
        (&json!(0), &json!("debug"), &json!("node-7"))
    );
    assert_eq!(conf["odd"], "__init__ and a__b");
    let key = host.path("net/calico-tls/etcd-key");
    assert_eq!(conf["etcd_key_file"], key.display().to_string());
    assert_eq!((fs::read(&key).unwrap(), mode(&key)), (b"secret".to_vec(), 0o600));
    // The file counts before the text.
    fs::write(host.path("t.json"), r#"{"name": "f", "type": "calico"}"#).unwrap();
    let file = host.path("t.json").display().to_string();
    host.install(
        &[
            ("CNI_NETWORK_CONFIG", template),
            ("CNI_NETWORK_CONFIG_FILE", &file),
        ],
        &[],
    )
    .unwrap();
    assert_eq!(host.read("net/10-calico.conflist")["name"], "f");
}

#[test]
fn install_refuses_what_no_runtime_could_read_and_changes_nothing() {
    for (template, hint) in [
        (r#"{"type": "calico", "mtu": __CNI_MUT__}"#, "__CNI_MUT__"),
        ("{", "not JSON"),
        (r#"{"name": "n"}"#, "plugins"),
    ] {
        let host = Host::new();
        let error = host
            .install(&[("CNI_NETWORK_CONFIG", template)], &[])
            .unwrap_err();
        assert!(error.contains(hint), "{error}");
        assert_eq!(names(host.dir.path()), ["program"], "{template}");
    }
    let host = Host::new();
    let missing = host
        .install(&[("CNI_NETWORK_CONFIG_FILE", "/nonexistent/x")], &[])
        .unwrap_err();
    assert!(missing.contains("/nonexistent/x"), "{missing}");
    assert!(
        host.install(&[("CNI_CONF_NAME", "../x")], &[])
            .unwrap_err()
            .contains("../x")
    );
    assert!(
        host.install(&[], &["--frobnicate"])
            .unwrap_err()
            .contains("--frobnicate")
    );
    assert!(
        host.install(&[], &["--bin-dir"])
            .unwrap_err()
            .contains("--bin-dir")
    );
    let alone = host
        .install(&[("KUBERNETES_SERVICE_HOST", "10.96.0.1")], &[])
        .unwrap_err();
    assert!(alone.contains("token"), "{alone}");
}

#[test]
fn kubeconfig_reaches_the_service() {
    use crate::install::template::Kubernetes;
    let env = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let read = |path: &str| {
        Ok(Some(
            if path.ends_with("token") {
                "tok\"en"
            } else {
                "CERT"
            }
            .to_owned(),
        ))
    };
    let made = Kubernetes::of(&env(&[("KUBERNETES_SERVICE_HOST", "fd00::1")]), read)
        .unwrap()
        .unwrap();
    let text = made.kubeconfig();
    let config: Value = serde_json::from_str(text.split_once('\n').unwrap().1).unwrap();
    let cluster = &config["clusters"][0]["cluster"];
    assert_eq!(cluster["server"], "https://[fd00::1]:443");
    assert_eq!(cluster["certificate-authority-data"], "Q0VSVA==");
    assert_eq!(config["users"][0]["user"]["token"], "tok\"en");
    let open = [("KUBERNETES_SERVICE_HOST", "h"), ("SKIP_TLS_VERIFY", "true")];
    let open = Kubernetes::of(&env(&open), read).unwrap().unwrap().kubeconfig();
    assert!(open.contains("\"insecure-skip-tls-verify\": true"), "{open}");
}

#[test]
fn full_log_files_are_set_aside_and_old_ones_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cni.log");
    let limits = Limits {
        size: 10,
        age: Some(Duration::from_secs(3600)),
        count: Some(2),
    };
    let now = SystemTime::now();
    for i in 1..=5 {
        let mut file = open(&path, limits, now, &format!("2026-01-0{i}T00:00:00Z")).unwrap();
        writeln!(file, "a line of call {i}").unwrap();
    }
    assert_eq!(
        names(dir.path()),
        [
            "cni-2026-01-04T00-00-00Z.log",
            "cni-2026-01-05T00-00-00Z.log",
            "cni.log"
        ]
    );
    assert!(fs::read_to_string(&path).unwrap().contains("call 5"));
    assert_eq!(mode(&path), 0o600);
    // Much later only the newest is young enough.
    drop(
        open(
            &path,
            limits,
            now + Duration::from_secs(7200),
            "2026-02-01T00:00:00Z",
        )
        .unwrap(),
    );
    assert_eq!(names(dir.path()), ["cni.log"]);
    let of = |text: &str| Limits::of(&NetConf::read(text.as_bytes()).unwrap());
    assert_eq!(of("{}").size, 100 << 20);
    assert_eq!(
        (of("{}").count, of("{}").age),
        (Some(10), Some(Duration::from_secs(30 * 86_400)))
    );
    let none = of(r#"{"log_file_max_size": 0, "log_file_max_age": 0, "log_file_max_count": -1}"#);
    assert_eq!((none.size, none.age, none.count), (100 << 20, None, None));
}

#[test]
fn readiness_gates_open_with_200() {
    let serve = |status: &'static str| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 512];
            let n = stream.read(&mut buffer).unwrap();
            stream
                .write_all(format!("HTTP/1.1 {status}\r\n\r\nbody").as_bytes())
                .unwrap();
            String::from_utf8_lossy(&buffer[..n]).into_owned()
        });
        (format!("http://{address}/readiness"), thread)
    };
    let (open, thread) = serve("200 OK");
    block_on(readiness::wait(&[open])).unwrap();
    assert!(thread.join().unwrap().starts_with("GET /readiness HTTP/1.0\r\n"));
    let (closed, thread) = serve("503 Service Unavailable");
    let error = block_on(readiness::wait(&[closed])).unwrap_err();
    assert!(error.code == 11 && error.to_string().contains("503"), "{error}");
    thread.join().unwrap();
    let parts = |url: &str| readiness::parse(url).unwrap();
    assert_eq!(parts("http://localhost"), ("localhost:80".into(), "/".into()));
    assert_eq!(parts("http://[::1]:9099/x"), ("[::1]:9099".into(), "/x".into()));
    for bad in ["https://x/", "http:///x", "x", "http://a b/"] {
        assert_eq!(readiness::parse(bad).unwrap_err().code, 7, "{bad}");
    }
}
