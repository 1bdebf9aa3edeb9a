//! kill -9 at random moments, many operations, and what the history shows.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use caracal_store_embedded::{Engine, Listen, Options, Server};

use crate::chaos::{Size, Victim, run};
use crate::dice::{nightly, seed};

/// Names folder and socket of a server; set only for the child.
const CHILD: &str = "CARACAL_STORE_CRASH_CHILD";
/// What the server keeps of history: little, so that it compacts itself often.
const KEEPS: i64 = 2500;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_nine_at_random_moments() {
    if let Ok(child) = std::env::var(CHILD) {
        let (dir, socket) = child.split_once('\n').unwrap();
        return serve(Path::new(dir), Path::new(socket)).await;
    }
    let size = Size {
        seed: seed("kill -9"),
        operations: 100_000,
        kills: if nightly() { 1000 } else { 50 },
        clients: 24,
        keeps: KEEPS,
    };
    let dir = tempfile::tempdir().unwrap();
    let mut victim = Process {
        data: dir.path().join("data"),
        child: None,
    };
    let begun = Instant::now();
    let proof = run(&mut victim, size).await;
    eprintln!("{:.1} s", begun.elapsed().as_secs_f64());
    assert!(proof.answered > size.operations / 2, "{proof:?}");
    let engine = Engine::open_existing(&victim.data, Options::default()).unwrap();
    assert_eq!(engine.verify().await.unwrap(), Vec::<String>::new());
    engine.close().await;
}

/// `caracal store serve` where there is a `CARACAL_BIN`, else the same server in a copy of this program. It does not
/// outlive the test.
struct Process {
    data: std::path::PathBuf,
    child: Option<Child>,
}

impl Process {
    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may be dead already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

impl Victim for Process {
    async fn start(&mut self, socket: &Path) {
        let mut command = match std::env::var_os("CARACAL_BIN") {
            Some(program) => {
                let mut command = Command::new(program);
                command
                    .args(["store", "serve", "--keep-revisions"])
                    .arg(KEEPS.to_string())
                    .arg("--data")
                    .arg(&self.data)
                    .arg("--socket")
                    .arg(socket);
                command
            }
            None => {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command
                    .args(["--exact", "crash::kill_nine_at_random_moments"])
                    .env(CHILD, format!("{}\n{}", self.data.display(), socket.display()));
                command
            }
        };
        self.child = Some(
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let deadline = Instant::now() + Duration::from_secs(60);
        while tokio::net::UnixStream::connect(socket).await.is_err() {
            assert!(Instant::now() < deadline, "the server comes up");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn kill(&mut self) {
        self.end();
    }
}

async fn serve(data: &Path, socket: &Path) {
    let options = Options {
        keep_revisions: KEEPS,
        ..Options::default()
    };
    let engine = Engine::open(data, options).unwrap();
    let listen = Listen {
        socket: Some(socket.into()),
        tcp: None,
        tls: None,
    };
    let server = Server::bind(engine, listen).await.unwrap();
    server.serve(std::future::pending()).await.unwrap();
}
