//! A server, as a process, on disks that fail: it refuses writes, goes on reading, says so, and recovers by itself.

use std::{
    fs::File,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
};

use caracal_api::{Kind, ResourceKey};
use caracal_store::{ListOptions, Preconditions, Store, StoreError};
use caracal_testkit::{Background, eventually, free_port, needs, netns};
use serde_json::json;

use super::{LONG, command, object, run};

struct Server {
    program: Background,
    data: PathBuf,
    log: PathBuf,
    socket: String,
    metrics: u16,
    store: Arc<dyn Store>,
    runtime: tokio::runtime::Runtime,
}

impl Server {
    /// Serves on that disk; socket and log are elsewhere. `before` begins the command line.
    fn start(elsewhere: &Path, disk: &Path, before: &[&str]) -> Self {
        let (data, log, socket) = (disk.join("data"), elsewhere.join("log"), elsewhere.join("s.sock"));
        let metrics = free_port();
        let line = format!(
            "serve --data {} --socket {} --reserve 4 --metrics 127.0.0.1:{metrics}",
            data.display(),
            socket.display()
        );
        let plain = command(&line, "");
        let mut words = before
            .iter()
            .map(std::ffi::OsStr::new)
            .chain([plain.get_program()])
            .chain(plain.get_args());
        let mut limited = Command::new(words.next().unwrap());
        limited.args(words).stdin(Stdio::null()).stdout(Stdio::null());
        limited.stderr(File::create(&log).unwrap());
        limited.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let program = Background::spawn(&mut limited);
        eventually(LONG, || {
            std::os::unix::net::UnixStream::connect(&socket)
                .map(drop)
                .map_err(|e| e.to_string())
        });
        let socket = format!("unix://{}", socket.display());
        Self {
            program,
            data,
            log,
            metrics,
            store: Arc::new(caracal_datastore::named(&socket).unwrap()),
            socket,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    /// Writes an object of some 100 kB.
    fn write(&self, name: &str) -> Result<(), StoreError> {
        let nets: Vec<_> = (0..6_000)
            .map(|n| format!("10.{}.{}.0/24", n / 250, n % 250))
            .collect();
        let set = object(Kind::GlobalNetworkSet, name, &json!({ "nets": nets }));
        self.runtime.block_on(self.store.create(set)).map(drop)
    }

    /// Writes until that is refused; how many objects there are then, and why.
    fn fill(&self) -> (usize, StoreError) {
        for n in 0..1_000 {
            if let Err(e) = self.write(&format!("s{n}")) {
                return (n, e);
            }
        }
        panic!("the disk is never full");
    }

    fn all(&self) -> Vec<String> {
        let options = ListOptions::default();
        let page = self
            .runtime
            .block_on(self.store.list_all(Kind::GlobalNetworkSet, &options))
            .unwrap();
        page.items.iter().map(|r| r.metadata().name.clone()).collect()
    }

    fn delete(&self, name: &str) -> Result<(), StoreError> {
        let key = ResourceKey::global(Kind::GlobalNetworkSet, name);
        let any = Preconditions::default();
        let deleted = self.store.delete(&key, &any);
        self.runtime.block_on(deleted).map(drop)
    }

    fn log_says(&self, what: &str) {
        eventually(LONG, || {
            let log = std::fs::read_to_string(&self.log).unwrap();
            if log.contains(what) {
                Ok(())
            } else {
                Err(format!("{what:?} is not in {log}"))
            }
        });
    }

    fn figure(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.metrics)).unwrap();
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in {text}"))
            .parse()
            .unwrap()
    }

    /// It has not ended, and a stop brings it to its end in order, with a sound file.
    fn ends_well(mut self) {
        assert!(
            self.program.child().try_wait().unwrap().is_none(),
            "the server lives"
        );
        let kill = Command::new("kill")
            .arg(self.program.pid().to_string())
            .status()
            .unwrap();
        assert!(kill.success());
        assert!(self.program.child().wait().unwrap().success());
        let (_, e, code) = run(&format!("check --data {}", self.data.display()), "");
        assert_eq!(code, 0, "{e}");
    }
}

fn mount(options: &[&str], what: &Path, at: &Path) {
    std::fs::create_dir_all(at).unwrap();
    let mounted = Command::new("mount")
        .args(options)
        .arg(what)
        .arg(at)
        .status()
        .unwrap();
    assert!(mounted.success(), "mount {options:?}");
}

fn up() {
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .unwrap();
    assert!(up.success());
}

/// Writes zeros until there is no more room.
fn ballast(path: &Path) {
    let mut file = File::create(path).unwrap();
    let zeros = vec![0; 1 << 16];
    let why = (0..100_000).find_map(|_| file.write_all(&zeros).and_then(|()| file.sync_all()).err());
    assert_eq!(why.unwrap().kind(), std::io::ErrorKind::StorageFull);
}

#[test]
fn netns_a_disk_that_is_filled_by_others_and_emptied_again() {
    netns!(240);
    needs!("root", "mount", "ip");
    up();
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    mount(&["-t", "tmpfs", "-o", "size=32m"], Path::new("small"), &disk);
    let server = Server::start(dir.path(), &disk, &[]);
    for n in 0..10 {
        server.write(&format!("before{n}")).unwrap();
    }
    ballast(&disk.join("ballast"));
    let (written, why) = server.fill();
    assert!(matches!(why, StoreError::NoSpace(_)), "{why}");
    assert_eq!(server.all().len(), written + 10, "reads go on");
    server.log_says("the disk is nearly full: puts are refused");
    assert!(server.figure("caracal_store_no_space_total") >= 1.0);
    let (stats, e, code) = run(
        &format!("stats -o json --socket {}", &server.socket["unix://".len()..]),
        "",
    );
    assert_eq!((code, stats.len()), (0, 1), "{e}");
    std::fs::remove_file(disk.join("ballast")).unwrap();
    eventually(LONG, || server.write("after").map_err(|e| e.to_string()));
    server.log_says("there is room on the disk again");
    assert_eq!(server.all().len(), written + 11);
    server.ends_well();
}

#[test]
fn netns_a_file_that_may_not_grow() {
    netns!(240);
    needs!("root", "ip", "prlimit");
    up();
    let dir = tempfile::tempdir().unwrap();
    // The system answers a write beyond the limit with a signal that ends whoever does not expect it.
    let server = Server::start(dir.path(), dir.path(), &["prlimit", "--fsize=6000000:unlimited"]);
    let (written, why) = server.fill();
    assert!(
        written > 5 && matches!(why, StoreError::NoSpace(_)),
        "{written}: {why}"
    );
    assert_eq!(
        server.all().len(),
        written,
        "reads go on, and nothing is half written"
    );
    server.log_says("a write failed");
    assert!(server.figure("caracal_store_write_failures_total") >= 1.0);
    let pid = server.program.pid().to_string();
    let lifted = Command::new("prlimit")
        .args(["--fsize=unlimited:unlimited", "--pid", &pid])
        .status()
        .unwrap();
    assert!(lifted.success());
    server.write("after").unwrap();
    server.delete("s0").unwrap();
    assert_eq!(server.all().len(), written);
    server.ends_well();
}

#[test]
fn netns_a_disk_whose_syncs_fail_and_that_is_repaired() {
    netns!(240);
    needs!("root", "ip", "mount", "losetup", "mkfs.ext2");
    up();
    let dir = tempfile::tempdir().unwrap();
    let (below, disk) = (dir.path().join("below"), dir.path().join("disk"));
    mount(&["-t", "tmpfs", "-o", "size=24m"], Path::new("below"), &below);
    // A disk that promises more than is behind it: writes are taken, and fail when they are synced.
    let image = below.join("image");
    File::create(&image).unwrap().set_len(64 << 20).unwrap();
    let made = Command::new("mkfs.ext2")
        .args(["-q", "-F"])
        .arg(&image)
        .status()
        .unwrap();
    assert!(made.success());
    needs!(if loops(&image), "loop devices");
    mount(&["-t", "ext2", "-o", "loop"], &image, &disk);
    let server = Server::start(dir.path(), &disk, &[]);
    for n in 0..10 {
        server.write(&format!("before{n}")).unwrap();
    }
    ballast(&below.join("ballast"));
    let (written, why) = server.fill();
    eprintln!("{written} more objects, then: {why}");
    server.log_says("a write failed");
    assert!(server.figure("caracal_store_write_failures_total") >= 1.0);
    std::fs::remove_file(below.join("ballast")).unwrap();
    // The first write that is tried again finds the disk repaired: then all of the file is written once more.
    eventually(LONG, || match server.write("after") {
        Ok(()) | Err(StoreError::AlreadyExists(_)) => Ok(()),
        Err(e) => Err(e.to_string()),
    });
    server.log_says("writing the whole file again");
    let all = server.all();
    for n in 0..written {
        assert!(all.contains(&format!("s{n}")), "s{n} was acknowledged");
    }
    assert!(all.len() >= written + 11, "{} of {written}", all.len());
    server.ends_well();
    let unmounted = Command::new("umount").arg(&disk).status().unwrap();
    assert!(unmounted.success());
}

#[test]
fn netns_a_disk_that_becomes_read_only_under_the_server() {
    netns!(240);
    needs!("root", "ip", "mount", "losetup", "mkfs.ext4", "e2fsck");
    up();
    let dir = tempfile::tempdir().unwrap();
    let (below, disk) = (dir.path().join("below"), dir.path().join("disk"));
    mount(&["-t", "tmpfs", "-o", "size=48m"], Path::new("below"), &below);
    let image = below.join("image");
    File::create(&image).unwrap().set_len(32 << 20).unwrap();
    let made = Command::new("mkfs.ext4")
        .args(["-q", "-F", "-O", "^has_journal"])
        .arg(&image)
        .status()
        .unwrap();
    assert!(made.success());
    needs!(if loops(&image), "loop devices");
    let by_loop = ["-t", "ext4", "-o", "loop,errors=remount-ro"];
    mount(&by_loop, &image, &disk);
    // The kernel can be told to take the file system for damaged. `mount -o remount,ro` is refused while a file is open.
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let at = format!(" {} ", disk.display());
    let device = mounts
        .lines()
        .find_map(|line| line.strip_prefix("/dev/")?.split_once(&at));
    let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", device.unwrap().0);
    needs!(if Path::new(&trigger).exists(), "ext4's trigger_fs_error");
    let mut server = Server::start(dir.path(), &disk, &[]);
    for n in 0..10 {
        server.write(&format!("before{n}")).unwrap();
    }
    std::fs::write(&trigger, "a test").unwrap();
    // The first write finds it out.
    eventually(LONG, || match server.write("refused") {
        Err(e) if e.to_string().contains("the disk is read-only") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(server.all().len(), 10, "reads go on");
    assert!(server.delete("before0").is_err());
    server.log_says("the disk is read-only: reads go on");
    assert!(server.figure("caracal_store_write_failures_total") >= 1.0);
    let kill = Command::new("kill")
        .arg(server.program.pid().to_string())
        .status()
        .unwrap();
    assert!(kill.success() && server.program.child().wait().unwrap().success());
    drop(server);
    let unmounted = Command::new("umount").arg(&disk).status().unwrap();
    assert!(unmounted.success());
    let checked = Command::new("e2fsck")
        .args(["-f", "-y"])
        .arg(&image)
        .output()
        .unwrap();
    assert!(checked.status.code().is_some_and(|code| code <= 1), "{checked:?}");
    mount(&by_loop, &image, &disk);
    let server = Server::start(dir.path(), &disk, &[]);
    assert_eq!(server.all().len(), 10, "what was acknowledged is on the disk");
    server.write("after").unwrap();
    server.ends_well();
    let unmounted = Command::new("umount").arg(&disk).status().unwrap();
    assert!(unmounted.success());
}

/// Whether this machine has a loop device to spare.
fn loops(image: &Path) -> bool {
    let found = Command::new("losetup")
        .arg("--find")
        .stderr(Stdio::null())
        .output();
    image.exists() && found.is_ok_and(|f| f.status.success())
}
