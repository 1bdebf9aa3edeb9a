use std::{
    cell::RefCell,
    ffi::OsString,
    io::{self, Cursor, Write},
    path::PathBuf,
    rc::Rc,
};

use caracal_calicoctl::{Io, run_with};
use caracal_store_embedded::{Engine, Listen, Options, Server};
use tempfile::TempDir;

/// What a run printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Its output; it must have done everything.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (0, ""), "{}", self.out);
        self.out
    }

    /// What it complained about; it must have failed.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert_eq!(self.code, 1, "{}{}", self.out, self.err);
        assert!(!self.err.is_empty(), "{}", self.out);
        self.err
    }
}

#[derive(Clone, Default)]
struct Tape(Rc<RefCell<Vec<u8>>>);

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tape {
    fn text(&self) -> String {
        String::from_utf8(self.0.borrow().clone()).unwrap()
    }
}

/// An embedded store of its own and a directory for manifests.
pub(crate) struct Rig {
    pub(crate) dir: TempDir,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    served: Option<std::thread::JoinHandle<()>>,
}

impl Rig {
    /// With an embedded store of its own.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s.sock");
        let mut rig = Self {
            dir,
            stop: None,
            served: None,
        };
        rig.configure(&format!("unix://{}", socket.display()));
        rig.serve(socket);
        rig
    }

    /// Over another store.
    pub(crate) fn over(endpoint: &str) -> Self {
        let rig = Self {
            dir: tempfile::tempdir().unwrap(),
            stop: None,
            served: None,
        };
        rig.configure(endpoint);
        rig
    }

    fn configure(&self, endpoint: &str) {
        let config = format!(
            "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec:\n  datastoreType: etcdv3\n  etcdEndpoints: {endpoint}\n"
        );
        std::fs::write(self.path("calicoctl.cfg"), config).unwrap();
    }

    fn serve(&mut self, socket: PathBuf) {
        let engine = Engine::open(&self.path("data"), Options::default()).unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (ready, is_ready) = std::sync::mpsc::channel();
        self.stop = Some(stop);
        self.served = Some(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listen = Listen {
                    socket: Some(socket),
                    ..Listen::default()
                };
                let server = Server::bind(engine, listen).await.unwrap();
                ready.send(()).unwrap();
                let stopped = async {
                    let _ = stopped.await;
                };
                server.serve(stopped).await.unwrap();
            });
        }));
        is_ready.recv().unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file and yields its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Runs `calicoctl` with the words of a line.
    pub(crate) fn run(&self, line: &str) -> Ran {
        self.run_reading(line, "")
    }

    /// As [`Rig::run`], with a text on stdin.
    pub(crate) fn run_reading(&self, line: &str, stdin: &str) -> Ran {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.run_words(&words, stdin)
    }

    pub(crate) fn run_words(&self, words: &[&str], stdin: &str) -> Ran {
        let config = self.path("calicoctl.cfg").display().to_string();
        let mut args = vec!["calicoctl", "--config", &config];
        args.extend(words);
        run(
            &args,
            Io {
                input: Box::new(Cursor::new(stdin.as_bytes().to_vec())),
                ..Io::process()
            },
        )
    }

    /// Everything stored of some kinds, to see that nothing changed.
    pub(crate) fn all(&self) -> String {
        [
            "gnp",
            "np -A",
            "ippool",
            "tier",
            "netsets -A",
            "gnetsets",
            "felixconfig",
        ]
        .map(|kind| self.run(&format!("get {kind} -o yaml")).ok())
        .concat()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(served) = self.served.take() {
            let _ = served.join();
        }
    }
}

/// Runs the program with its output on tape.
pub(crate) fn run(args: &[&str], io: Io) -> Ran {
    let (out, err) = (Tape::default(), Tape::default());
    let io = Io {
        output: Box::new(out.clone()),
        errors: Box::new(err.clone()),
        terminal: false,
        ..io
    };
    let code = run_with(args.iter().map(OsString::from).collect(), io);
    Ran {
        code,
        out: out.text(),
        err: err.text(),
    }
}
