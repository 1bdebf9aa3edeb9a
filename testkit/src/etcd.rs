use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::{Background, eventually, find_tool, free_port};

/// A real etcd of one member on a loopback port of the calling thread's network namespace, with its data
/// in a directory that goes with it. A test that uses it says `needs!("etcd")` first.
#[derive(Debug)]
pub struct Etcd {
    process: Option<Background>,
    dir: TempDir,
    port: u16,
    peer_port: u16,
}

impl Etcd {
    /// Starts etcd and waits until it serves.
    pub fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let port = free_port();
        let peer_port = loop {
            // A freed port may be handed out twice in a row.
            let other = free_port();
            if other != port {
                break other;
            }
        };
        let mut etcd = Self {
            process: None,
            dir,
            port,
            peer_port,
        };
        etcd.restart();
        etcd
    }

    /// Where clients connect.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Kills etcd at once; data and ports stay for [`Etcd::restart`].
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts etcd on the same data and ports (after killing it, if it still runs).
    pub fn restart(&mut self) {
        self.kill();
        let log_path = self.dir.path().join("log");
        let log = File::create(&log_path).expect("the log file can be made");
        let (client, peer) = (self.endpoint(), format!("http://127.0.0.1:{}", self.peer_port));
        let mut command = Command::new(find_tool("etcd").expect("the test said needs!(\"etcd\")"));
        command.args(["--name", "test", "--initial-cluster-token", "test"]);
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
        command.args(["--initial-cluster", &format!("test={peer}")]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut process = Background::spawn(&mut command);
        eventually(Duration::from_secs(30), || {
            if let Ok(Some(status)) = process.child().try_wait() {
                let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                panic!("etcd ended with {status}:\n{log}");
            }
            healthy(self.port)
        });
        self.process = Some(process);
    }
}

fn healthy(port: u16) -> Result<(), String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let limit = Some(Duration::from_secs(2));
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(limit)?;
        stream.write_all(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    match ask() {
        Ok(answer) if answer.contains(r#""health":"true""#) => Ok(()),
        Ok(answer) => Err(format!("etcd is not healthy: {answer}")),
        Err(e) => Err(format!("etcd does not answer: {e}")),
    }
}
