use std::env;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, killpg};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType};
use nix::sys::socket::{recv, sendto, socket};
use nix::unistd::{Pid, geteuid};

use crate::ledger;

/// How long an isolated test may take unless it says otherwise.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(60);

/// Tells a process that it is the isolated run of the test named in it.
const MARK: &str = "CARACAL_NETNS_TEST";

const NO_TEXT: Option<&str> = None;

/// The name libtest knows a test by, from the path of an item inside it.
pub fn test_name(item: &'static str) -> &'static str {
    let test = item.rsplit_once("::").map_or(item, |(test, _)| test);
    test.split_once("::").map_or(test, |(_crate, name)| name)
}

/// True inside the isolated process; outside, runs the isolated process to its end and returns false.
/// Panics with its output if it failed, took too long, or could not be set up. Used by
/// [`netns!`](crate::netns).
pub fn isolate(test: &str, limit: Duration) -> bool {
    if env::var_os(MARK).is_some_and(|name| name == test) {
        set_up().unwrap_or_else(|e| panic!("cannot set up an isolated {test}: {e}"));
        println!("{}", banner(test));
        return true;
    }
    let run = run_isolated(test, limit).unwrap_or_else(|e| panic!("cannot isolate {test}: {e}"));
    let verdict = match run.status {
        None => format!("took longer than {limit:?} and was killed"),
        Some(status) if status.success() && run.output.contains(&banner(test)) => {
            print!("{}", run.output);
            return false;
        }
        // Success without the banner: the name matched no test, so nothing ran.
        Some(status) if status.success() => "did not run".to_owned(),
        Some(status) => match status.signal() {
            Some(signal) => format!("was ended by signal {signal}"),
            None => "failed".to_owned(),
        },
    };
    panic!("{test} {verdict} in its namespaces; its output:\n{}", run.output);
}

fn banner(test: &str) -> String {
    format!("-- {test} runs in namespaces of its own --")
}

struct Run {
    /// `None` if it was killed for taking too long.
    status: Option<ExitStatus>,
    output: String,
}

/// Starts the test program again for this one test. New namespaces are made on the thread that starts it
/// (or, for a user who is not root, by `unshare` with a user namespace); mounts are the child's work.
fn run_isolated(test: &str, limit: Duration) -> Result<Run, String> {
    let program = env::current_exe().map_err(|e| format!("which program am I: {e}"))?;
    let root = geteuid().is_root();
    let mut command = if root {
        Command::new(program)
    } else {
        let mut command = Command::new("unshare");
        command
            .args(["--user", "--map-root-user", "--net", "--mount", "--"])
            .arg(program);
        command
    };
    command.args([
        test,
        "--exact",
        "--nocapture",
        "--include-ignored",
        "--test-threads=1",
    ]);
    command
        .env(MARK, test)
        .env(ledger::VARIABLE, ledger::path())
        .env("RUST_BACKTRACE", "0");
    let mut output = tempfile::tempfile().map_err(|e| format!("make a file for the output: {e}"))?;
    let copy = |file: &File| {
        file.try_clone()
            .map_err(|e| format!("share the output file: {e}"))
    };
    command
        .stdin(Stdio::null())
        .stdout(copy(&output)?)
        .stderr(copy(&output)?);
    // A group of its own, so that what the test started ends with it.
    command.process_group(0);

    let status = std::thread::scope(|scope| {
        let (pid_out, pid_in) = mpsc::channel();
        let (status_out, status_in) = mpsc::channel();
        scope.spawn(move || {
            let started = if root {
                unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)
                    .map_err(|e| format!("unshare: {e}"))
            } else {
                Ok(())
            };
            match started.and_then(|()| command.spawn().map_err(|e| format!("start the test again: {e}"))) {
                Err(e) => drop(pid_out.send(Err(e))),
                Ok(mut child) => {
                    // Both receivers live until this thread is joined.
                    let _ = pid_out.send(Ok(child.id()));
                    let _ = status_out.send(child.wait().map_err(|e| format!("wait for the test: {e}")));
                }
            }
        });
        let pid = pid_in
            .recv()
            .map_err(|_| "the starting thread ended".to_owned())??;
        let group = Pid::from_raw(i32::try_from(pid).map_err(|_| format!("odd process number {pid}"))?);
        let status = status_in.recv_timeout(limit).ok();
        // After an orderly end the group is empty but for what the test forgot (then ESRCH).
        let _ = killpg(group, Signal::SIGKILL);
        status.transpose()
    })?;
    let mut text = Vec::new();
    output
        .seek(SeekFrom::Start(0))
        .and_then(|_| output.read_to_end(&mut text))
        .map_err(|e| format!("read the output: {e}"))?;
    Ok(Run {
        status,
        output: String::from_utf8_lossy(&text).into_owned(),
    })
}

/// Inside: private mounts, an empty `/run`, loopback up.
fn set_up() -> Result<(), String> {
    mount(
        NO_TEXT,
        "/",
        NO_TEXT,
        MsFlags::MS_PRIVATE | MsFlags::MS_REC,
        NO_TEXT,
    )
    .map_err(|e| format!("make mounts private: {e}"))?;
    let run = Path::new("/run");
    private_dir(run)?;
    let var_run = Path::new("/var/run");
    // Nearly everywhere a symbolic link to /run, and then done already.
    if fs::canonicalize(var_run).is_ok_and(|real| real == var_run) {
        private_dir(var_run)?;
    }
    loopback_up().map_err(|e| format!("bring loopback up: {e}"))
}

/// Covers an existing directory with an empty one that only this isolated test sees.
pub fn private_dir(path: &Path) -> Result<(), String> {
    assert!(
        env::var_os(MARK).is_some(),
        "private_dir outside netns!() would change the machine"
    );
    mount(
        Some("testkit"),
        path,
        Some("tmpfs"),
        MsFlags::MS_NOSUID,
        Some("mode=0755"),
    )
    .map_err(|e| format!("cover {}: {e}", path.display()))
}

/// One RTM_NEWLINK for index 1, by hand: the netlink driver is itself under test here.
fn loopback_up() -> Result<(), String> {
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_AND_ACK: u16 = 0x1 | 0x4;
    const IFF_UP: u32 = 1;
    let mut message = Vec::with_capacity(32);
    message.extend(32u32.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_AND_ACK.to_ne_bytes());
    message.extend([0; 8]); // sequence and port
    message.extend([0; 4]); // family, padding, device type
    message.extend(1i32.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());

    let fail = |e: nix::Error| e.to_string();
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )
    .map_err(fail)?;
    let raw = std::os::fd::AsRawFd::as_raw_fd(&fd);
    sendto(raw, &message, &NetlinkAddr::new(0, 0), MsgFlags::empty()).map_err(fail)?;
    let mut answer = [0; 256];
    let length = recv(raw, &mut answer, MsgFlags::empty()).map_err(fail)?;
    let code = answer
        .get(16..20)
        .filter(|_| length >= 20)
        .ok_or("short answer")?;
    match i32::from_ne_bytes([code[0], code[1], code[2], code[3]]) {
        0 => Ok(()),
        code => Err(nix::Error::from_raw(-code).to_string()),
    }
}
