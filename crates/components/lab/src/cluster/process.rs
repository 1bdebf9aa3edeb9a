//! Programs in namespaces.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use caracal_sys::{MountPlan, NetNs, ProcessId, processes_in, spawn_in};
use nix::libc::{SIGKILL, SIGTERM};

/// How long a program that was asked to end may take before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// Lines of a log that an error shows.
const TAIL: usize = 15;

/// This executable as `caracal`, with an environment that the caller's does not leak into.
pub(crate) fn caracal() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("caracal");
    clean(&mut command);
    command
}

/// Leaves of the environment what says nothing about a node.
pub(crate) fn clean(command: &mut Command) {
    command.env_clear();
    for keep in ["PATH", "CARACAL_LOG", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(keep) {
            command.env(keep, value);
        }
    }
}

/// Starts a program that stays; its output goes to `log`. With `ready`, waits until it writes a line.
pub(crate) fn start(
    command: &mut Command,
    netns: &NetNs,
    mounts: Option<&MountPlan>,
    log: &Path,
    ready: bool,
) -> anyhow::Result<ProcessId> {
    let file = open_log(log)?;
    command.stdin(Stdio::null()).stderr(file.try_clone()?);
    command.stdout(if ready { Stdio::piped() } else { Stdio::from(file) });
    // A Ctrl-C is meant for the command, not for what it has started.
    command.process_group(0);
    let mut child = spawn_in(command, Some(netns), mounts)?;
    let id = ProcessId::of(child.id())?;
    let line = child.stdout.take().map(|stdout| {
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map(|n| n > 0)
    });
    match (id, line) {
        (Some(id), None | Some(Ok(true))) => Ok(id),
        _ => {
            // It ends by itself, or has ended: its log says why.
            let status = child.wait()?;
            bail!("it ended with {status}:\n{}", tail(log))
        }
    }
}

fn open_log(path: &Path) -> anyhow::Result<File> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("opening {}", path.display()))
}

/// The end of a log, for an error.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL);
    format!("{}\n(the end of {})", lines[from..].join("\n"), log.display())
}

/// Runs a program to its end with `input` on its standard input; kills it when that takes longer than `limit`.
pub(crate) fn finish(
    command: &mut Command,
    netns: &NetNs,
    mounts: Option<&MountPlan>,
    input: &[u8],
    limit: Duration,
) -> anyhow::Result<Output> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn_in(command, Some(netns), mounts)?;
    let id = ProcessId::of(child.id())?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input) {
            // A program need not read its input.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
            outcome => outcome.context("writing its input")?,
        }
    }
    let (sender, outcome) = mpsc::sync_channel(1);
    let wait = move |child: Child| {
        // Nobody waits any more once the time is up.
        let _ = sender.send(child.wait_with_output());
    };
    thread::spawn(move || wait(child));
    match outcome.recv_timeout(limit) {
        Ok(output) => Ok(output?),
        Err(_) => {
            if let Some(id) = id {
                id.signal(SIGKILL)?;
            }
            bail!("it took longer than {limit:?} and was killed")
        }
    }
}

/// Runs a program with this terminal, to its end; its exit code, or 128 and the number of the signal that ended it.
pub(crate) fn attend(
    command: &mut Command,
    netns: &NetNs,
    mounts: Option<&MountPlan>,
) -> anyhow::Result<i32> {
    let status = spawn_in(command, Some(netns), mounts)?.wait()?;
    Ok(status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
}

/// What a program that failed has said.
pub(crate) fn said(output: &Output) -> String {
    let text = if output.stderr.is_empty() {
        &output.stdout
    } else {
        &output.stderr
    };
    String::from_utf8_lossy(text).trim().to_owned()
}

/// Programs of this kind in a network namespace, by the first words of their command line: those that an interrupted
/// attempt started and had no time to write down.
pub(crate) fn running(netns: &NetNs, words: &[&str]) -> anyhow::Result<Vec<ProcessId>> {
    let mut found = processes_in(netns.id())?;
    found.retain(|p| {
        // One that has ended meanwhile has none.
        let line = fs::read(format!("/proc/{}/cmdline", p.pid)).unwrap_or_default();
        let given: Vec<&[u8]> = line.split(|b| *b == 0).collect();
        given.len() >= words.len() && words.iter().zip(given).all(|(w, g)| w.as_bytes() == g)
    });
    Ok(found)
}

/// Kills processes and waits until they are gone; never the calling one. The gentle way first if `gently`.
pub(crate) fn end(processes: &[ProcessId], gently: bool) -> anyhow::Result<()> {
    let own = std::process::id();
    let processes: Vec<&ProcessId> = processes.iter().filter(|p| p.pid != own).collect();
    let signal = if gently { SIGTERM } else { SIGKILL };
    for process in &processes {
        process.signal(signal)?;
    }
    let mut deadline = Instant::now() + GRACE;
    let mut killed = !gently;
    loop {
        let left: Vec<&&ProcessId> = processes.iter().filter(|p| p.is_alive()).collect();
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            if killed {
                bail!("processes do not end after SIGKILL: {left:?}");
            }
            for process in left {
                process.signal(SIGKILL)?;
            }
            killed = true;
            deadline = Instant::now() + GRACE;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
