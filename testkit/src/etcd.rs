use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::{Authority, Background, eventually, find_tool, free_port};

/// A real etcd of one member on a loopback port of the calling thread's network namespace, with its data
/// in a directory that goes with it. A test that uses it says `needs!("etcd")` first.
#[derive(Debug)]
pub struct Etcd {
    process: Option<Background>,
    dir: TempDir,
    name: String,
    ports: Ports,
    /// All members of the cluster, in etcd's form.
    cluster: String,
    extra: Vec<String>,
    secure: bool,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    client: u16,
    peer: u16,
    /// Health over plain HTTP, also where clients need TLS.
    metrics: u16,
}

impl Ports {
    /// Free ports, each another: a freed port may be handed out twice in a row.
    fn choose(taken: &mut Vec<u16>) -> Self {
        let mut next = || {
            loop {
                let port = free_port();
                if !taken.contains(&port) {
                    taken.push(port);
                    return port;
                }
            }
        };
        Self {
            client: next(),
            peer: next(),
            metrics: next(),
        }
    }
}

impl Etcd {
    /// Starts etcd and waits until it serves.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts etcd with more options on its command line.
    pub fn start_with(extra: &[&str]) -> Self {
        let mut etcd = Self::member("test", Ports::choose(&mut Vec::new()));
        etcd.cluster = format!("test={}", etcd.peer_url());
        etcd.extra = extra.iter().map(|arg| (*arg).to_owned()).collect();
        etcd.restart();
        etcd
    }

    /// Starts etcd with TLS for clients, who need a certificate of this authority.
    pub fn start_secure(authority: &Authority) -> Self {
        let mut etcd = Self::member("test", Ports::choose(&mut Vec::new()));
        etcd.cluster = format!("test={}", etcd.peer_url());
        etcd.secure(authority);
        etcd.restart();
        etcd
    }

    fn secure(&mut self, authority: &Authority) {
        self.secure = true;
        self.certify(authority);
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        let args = [
            "--client-cert-auth".to_owned(),
            format!("--cert-file={}", file("etcd.crt")),
            format!("--key-file={}", file("etcd.key")),
            format!("--trusted-ca-file={}", file("ca.crt")),
        ];
        self.extra = args.into();
    }

    /// Gives a secure etcd another certificate and another authority for its clients. etcd reads its certificate at
    /// each handshake, the authority at its start.
    pub fn certify(&self, authority: &Authority) {
        let dir = self.dir.path();
        authority.issue(&["127.0.0.1", "localhost"]).write(dir, "etcd");
        std::fs::write(dir.join("ca.crt"), authority.pem()).expect("the test's directory can be written");
    }

    /// Gives a secure etcd a certificate whose time is over.
    pub fn certify_expired(&self, authority: &Authority) {
        authority
            .issue_expired(&["127.0.0.1", "localhost"])
            .write(self.dir.path(), "etcd");
    }

    fn member(name: &str, ports: Ports) -> Self {
        Self {
            process: None,
            dir: tempfile::tempdir().expect("a temporary directory can be made"),
            name: name.to_owned(),
            ports,
            cluster: String::new(),
            extra: Vec::new(),
            secure: false,
        }
    }

    /// Where clients connect.
    pub fn endpoint(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.ports.client)
    }

    /// The port that other members connect to.
    pub fn peer_port(&self) -> u16 {
        self.ports.peer
    }

    /// The running process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Background::pid)
    }

    fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.peer)
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// Kills etcd at once; data and ports stay for [`Etcd::restart`].
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts etcd on the same data and ports (after killing it, if it still runs).
    pub fn restart(&mut self) {
        self.launch();
        self.wait();
    }

    fn launch(&mut self) {
        self.kill();
        let log = File::create(self.log()).expect("the log file can be made");
        let (client, peer) = (self.endpoint(), self.peer_url());
        let mut command = Command::new(find_tool("etcd").expect("the test said needs!(\"etcd\")"));
        command.args(["--name", &self.name, "--initial-cluster-token", "test"]);
        command.arg("--data-dir").arg(self.dir.path().join("data"));
        command.args([
            "--listen-client-urls",
            &client,
            "--advertise-client-urls",
            &client,
        ]);
        command.args([
            "--listen-peer-urls",
            &peer,
            "--initial-advertise-peer-urls",
            &peer,
        ]);
        command.args(["--initial-cluster", &self.cluster]);
        let metrics = format!("http://127.0.0.1:{}", self.ports.metrics);
        command
            .args(["--listen-metrics-urls", &metrics])
            .args(&self.extra);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process = Some(Background::spawn(&mut command));
    }

    fn wait(&mut self) {
        let (log, port) = (self.log(), self.ports.metrics);
        let process = self.process.as_mut().expect("it was launched");
        eventually(Duration::from_secs(30), || {
            if let Ok(Some(status)) = process.child().try_wait() {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                panic!("etcd ended with {status}:\n{log}");
            }
            healthy(port)
        });
    }
}

/// Several real etcd that are one cluster.
#[derive(Debug)]
pub struct EtcdCluster {
    /// The members.
    pub members: Vec<Etcd>,
}

impl EtcdCluster {
    /// Starts that many members and waits until all serve.
    pub fn start(members: usize) -> Self {
        Self::start_as(members, None)
    }

    /// As [`EtcdCluster::start`], with TLS for clients, who need a certificate of this authority.
    pub fn start_secure(members: usize, authority: &Authority) -> Self {
        Self::start_as(members, Some(authority))
    }

    fn start_as(members: usize, authority: Option<&Authority>) -> Self {
        let mut taken = Vec::new();
        let mut members: Vec<_> = (0..members)
            .map(|i| Etcd::member(&format!("m{i}"), Ports::choose(&mut taken)))
            .collect();
        let urls: Vec<_> = members
            .iter()
            .map(|m| format!("{}={}", m.name, m.peer_url()))
            .collect();
        for member in &mut members {
            member.cluster = urls.join(",");
            if let Some(authority) = authority {
                member.secure(authority);
            }
            member.launch();
        }
        for member in &mut members {
            member.wait();
        }
        Self { members }
    }

    /// Where clients connect.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Etcd::endpoint).collect()
    }

    /// The member that leads, when there is one.
    pub fn leader(&self) -> Option<usize> {
        self.members.iter().position(|member| {
            member.process.is_some()
                && ask(member.ports.metrics, "/metrics")
                    .is_ok_and(|text| text.contains("\netcd_server_is_leader 1\n"))
        })
    }
}

fn ask(port: u16, path: &str) -> std::io::Result<String> {
    let limit = Some(Duration::from_secs(2));
    let mut stream = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    stream.set_read_timeout(limit)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn healthy(port: u16) -> Result<(), String> {
    match ask(port, "/health") {
        Ok(answer) if answer.contains(r#""health":"true""#) => Ok(()),
        Ok(answer) => Err(format!("etcd is not healthy: {answer}")),
        Err(e) => Err(format!("etcd does not answer: {e}")),
    }
}
