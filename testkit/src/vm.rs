//! A small virtual machine for what the running kernel lacks: WireGuard, IP-in-IP, IPVS.
//!
//! The test program runs itself again inside: Debian's kernel under qemu, without hardware support, with a
//! file system in memory that holds the program, the tools the test names and all network modules, which
//! the kernel loads when something asks for them. `scripts/setup.sh test` brings all this.

mod archive;

use std::env;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use crate::{find_tool, ledger, skip};
use archive::Archive;

/// The kernel and its modules, unpacked by `scripts/setup.sh test`.
const HOME: &str = "/var/cache/caracal-vm";

/// Tells a process that it is the run inside a machine of the test named in it.
const MARK: &str = "CARACAL_VM_TEST";

const LEDGER_INSIDE: &str = "/skips";
const SKIPPED: &str = "-- skipped inside: ";
const LIMIT: Duration = Duration::from_secs(300);
const MEMORY_MIB: u32 = 768;

/// What a machine is to have. Every machine has a shell and the usual small tools (busybox's).
#[derive(Debug, Clone)]
pub struct Vm {
    tools: Vec<String>,
    modules: Vec<String>,
    programs: Vec<(PathBuf, PathBuf)>,
    files: Vec<(PathBuf, PathBuf)>,
    limit: Duration,
    memory: u32,
}

impl Default for Vm {
    fn default() -> Self {
        Self {
            tools: Vec::new(),
            modules: Vec::new(),
            programs: Vec::new(),
            files: Vec::new(),
            limit: LIMIT,
            memory: MEMORY_MIB,
        }
    }
}

impl Vm {
    /// A machine with nothing special.
    pub fn new() -> Self {
        Self::default()
    }

    /// Programs of this machine, by name, with their libraries, found in the `PATH` inside. Say
    /// `needs!("NAME")` for each before [`vm!`](crate::vm!).
    #[must_use]
    pub fn tools(mut self, names: &[&str]) -> Self {
        self.tools.extend(names.iter().map(|name| (*name).to_owned()));
        self
    }

    /// Kernel modules to load before the test begins. Kinds of links and most of nftables load by themselves.
    #[must_use]
    pub fn modules(mut self, names: &[&str]) -> Self {
        self.modules.extend(names.iter().map(|name| (*name).to_owned()));
        self
    }

    /// A program of this machine, with its libraries and without its debug information, as `inside`.
    #[must_use]
    pub fn program(mut self, outside: impl Into<PathBuf>, inside: impl Into<PathBuf>) -> Self {
        self.programs.push((outside.into(), inside.into()));
        self
    }

    /// A file or directory of this machine, as `inside`.
    #[must_use]
    pub fn file(mut self, outside: impl Into<PathBuf>, inside: impl Into<PathBuf>) -> Self {
        self.files.push((outside.into(), inside.into()));
        self
    }

    /// How long the machine may run, from its start; five minutes unless said.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Its memory in MiB. Half of it can hold files.
    #[must_use]
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory = mib;
        self
    }
}

/// Whether this process runs inside such a machine.
pub(crate) fn inside() -> bool {
    env::var_os(MARK).is_some()
}

/// Whether this machine can run another inside it.
pub(crate) fn possible() -> bool {
    inside()
        || cfg!(target_arch = "x86_64")
            && Path::new(HOME).join("vmlinuz").is_file()
            && ["qemu-system-x86_64", "busybox", "modprobe"]
                .iter()
                .all(|tool| find_tool(tool).is_some())
}

/// True inside the machine; outside, runs the machine to its end and returns false. Panics with its output
/// if the test failed there, took too long, or the machine did not start. Used by [`vm!`](crate::vm!).
pub fn enter(test: &str, vm: impl FnOnce() -> Vm) -> bool {
    if env::var_os(MARK).is_some_and(|name| name == test) {
        println!("{}", banner(test));
        return true;
    }
    let vm = vm();
    let run = run(test, &vm).unwrap_or_else(|e| panic!("cannot run {test} in a virtual machine: {e}"));
    for line in run.output.lines() {
        let skipped = line.strip_prefix(SKIPPED).and_then(|s| s.split_once('\t'));
        if let Some((test, lacking)) = skipped {
            skip(test, lacking);
        }
    }
    let verdict = if run.output.contains(&end(test, "0")) && run.output.contains(&banner(test)) {
        print!("{}", run.output);
        return false;
    } else if run.output.contains(&end(test, "0")) {
        // Success without the banner: the name matched no test, so nothing ran.
        "did not run".to_owned()
    } else if run.output.contains(&end(test, "")) {
        "failed".to_owned()
    } else if run.late {
        format!("took longer than {:?} and was killed", vm.limit)
    } else {
        "did not come to its end".to_owned()
    };
    panic!(
        "{test} {verdict} in its virtual machine; its output:\n{}",
        run.output
    );
}

fn banner(test: &str) -> String {
    format!("-- {test} runs in a virtual machine --")
}

/// The last line of a run; with an empty code, how all such lines begin.
fn end(test: &str, code: &str) -> String {
    let stop = if code.is_empty() { "" } else { " --" };
    format!("-- {test} ended in its virtual machine with {code}{stop}")
}

struct Run {
    late: bool,
    output: String,
}

fn run(test: &str, vm: &Vm) -> Result<Run, String> {
    let kernel = Path::new(HOME).join("vmlinuz");
    let disk = tempfile::NamedTempFile::new().map_err(|e| format!("make a file for its file system: {e}"))?;
    let file = disk.reopen().map_err(|e| format!("open its file system: {e}"))?;
    pack(test, vm, file).map_err(|e| format!("pack its file system: {e}"))?;

    // One machine at a time, whoever runs it: each keeps a processor busy.
    let lock = File::open(&kernel).map_err(|e| format!("open {}: {e}", kernel.display()))?;
    let _turn =
        Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, e)| format!("wait for its turn: {e}"))?;
    let mut output = tempfile::tempfile().map_err(|e| format!("make a file for its output: {e}"))?;
    let copy = |file: &File| {
        file.try_clone()
            .map_err(|e| format!("share the output file: {e}"))
    };
    let qemu = find_tool("qemu-system-x86_64").ok_or("qemu-system-x86_64 is not installed")?;
    // The machine ends with the thread that waits for it, even when that is killed.
    let mut command = match find_tool("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(qemu);
            command
        }
        None => Command::new(qemu),
    };
    command
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1"])
        .args(["-m", &vm.memory.to_string()])
        .args([
            "-nodefaults",
            "-no-reboot",
            "-display",
            "none",
            "-serial",
            "stdio",
        ])
        .args(["-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on"])
        .arg("-kernel")
        .arg(&kernel)
        .arg("-initrd")
        .arg(disk.path())
        .stdin(Stdio::null())
        .stdout(copy(&output)?)
        .stderr(copy(&output)?);
    let mut child = command.spawn().map_err(|e| format!("start qemu: {e}"))?;
    let late = !ends_within(&mut child, vm.limit)?;
    let mut text = Vec::new();
    output
        .seek(SeekFrom::Start(0))
        .and_then(|_| output.read_to_end(&mut text))
        .map_err(|e| format!("read its output: {e}"))?;
    let output = String::from_utf8_lossy(&text).replace('\r', "");
    Ok(Run { late, output })
}

/// Kills it when the time is over.
fn ends_within(child: &mut Child, limit: Duration) -> Result<bool, String> {
    let begin = Instant::now();
    loop {
        if child
            .try_wait()
            .map_err(|e| format!("wait for qemu: {e}"))?
            .is_some()
        {
            return Ok(true);
        }
        if begin.elapsed() > limit {
            // An error means that it has just ended.
            let _ = child.kill();
            let _ = child.wait();
            return Ok(false);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn pack(test: &str, vm: &Vm, file: File) -> Result<(), String> {
    let mut archive = Archive::new(file);
    let tool = |name: &str| find_tool(name).ok_or(format!("{name} is not installed"));
    let fill = |e: std::io::Error| e.to_string();
    for dir in [
        "proc", "sys", "dev", "run", "tmp", "root", "var/lib", "etc", "busybox",
    ] {
        archive.directory(&Path::new("/").join(dir)).map_err(fill)?;
    }
    archive.link(Path::new("/var/run"), "../run").map_err(fill)?;
    // Not busybox's, which takes its own tools for those of the same names.
    archive
        .program(&tool("sh")?, Path::new("/bin/sh"))
        .map_err(fill)?;
    archive
        .text(Path::new("/etc/passwd"), 0o644, "root:x:0:0:root:/root:/bin/sh\n")
        .map_err(fill)?;
    archive
        .text(
            Path::new("/etc/hosts"),
            0o644,
            "127.0.0.1 localhost\n::1 localhost\n",
        )
        .map_err(fill)?;
    let program = env::current_exe().map_err(|e| format!("which program am I: {e}"))?;
    archive.program(&program, Path::new("/test")).map_err(fill)?;
    archive
        .program(&tool("busybox")?, Path::new("/busybox/busybox"))
        .map_err(fill)?;
    // One program under several names; it goes by the name.
    archive
        .program(&tool("modprobe")?, Path::new("/sbin/modprobe"))
        .map_err(fill)?;
    for name in &vm.tools {
        let inside = Path::new("/usr/bin").join(name);
        archive.program(&tool(name)?, &inside).map_err(fill)?;
    }
    let wrong = |path: &Path, e: std::io::Error| format!("{}: {e}", path.display());
    for (outside, inside) in &vm.programs {
        archive.program(outside, inside).map_err(|e| wrong(outside, e))?;
    }
    for (outside, inside) in &vm.files {
        let packed = if outside.is_dir() {
            archive.tree(outside, inside)
        } else {
            archive.file(outside, inside)
        };
        packed.map_err(|e| wrong(outside, e))?;
    }
    let modules = Path::new("/lib/modules");
    archive
        .tree(&Path::new(HOME).join("lib/modules"), modules)
        .map_err(fill)?;
    archive
        .link(Path::new("/usr/lib/modules"), "/lib/modules")
        .map_err(fill)?;
    archive
        .text(Path::new("/init"), 0o755, &init(test, vm))
        .map_err(fill)?;
    archive.finish().map_err(fill)
}

/// The first process inside.
fn init(test: &str, vm: &Vm) -> String {
    let modules = vm.modules.join(" ");
    let nightly = env::var("CARACAL_NIGHTLY").map_or_else(
        |_| String::new(),
        |value| format!("export CARACAL_NIGHTLY='{}'", value.replace('\'', "")),
    );
    let ended = end(test, "$code");
    let ledger = ledger::VARIABLE;
    format!(
        r#"#!/bin/sh
/busybox/busybox mount -t proc proc /proc
/busybox/busybox --install -s /busybox
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/busybox HOME=/root
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mount -t cgroup2 cgroup /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
ip link set lo up
for module in {modules}; do
  modprobe "$module" || echo "no kernel module $module"
done
{nightly}
export {MARK}='{test}' {ledger}={LEDGER_INSIDE} RUST_BACKTRACE=0
cd /tmp
/test '{test}' --exact --nocapture --include-ignored --test-threads=1 2>&1
code=$?
[ ! -f {LEDGER_INSIDE} ] || sed 's/^/{SKIPPED}/' {LEDGER_INSIDE}
echo "{ended}"
poweroff -f
"#
    )
}
