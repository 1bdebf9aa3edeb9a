//! `node diags`.

use std::{fs, path::Path, process::Command};

use crate::{failure::Failure, session::Session};

/// What is asked of other programs: the file, and the words.
const COMMANDS: &[(&str, &[&str])] = &[
    ("date", &["date"]),
    ("hostname", &["hostname"]),
    ("ps", &["ps", "auxww"]),
    ("links", &["ip", "-d", "-s", "link"]),
    ("addresses", &["ip", "address"]),
    ("routes", &["ip", "route", "show", "table", "all"]),
    ("routes6", &["ip", "-6", "route", "show", "table", "all"]),
    ("rules", &["ip", "rule"]),
    ("rules6", &["ip", "-6", "rule"]),
    ("neighbours", &["ip", "neighbour"]),
    ("nft_ruleset", &["nft", "list", "ruleset"]),
    ("sockets", &["ss", "-tulpn"]),
    ("dmesg", &["dmesg"]),
];

/// What is read of the kernel.
const FILES: &[&str] = &[
    "/proc/version",
    "/proc/modules",
    "/proc/meminfo",
    "/proc/net/nf_conntrack_stat",
    "/proc/sys/net/netfilter/nf_conntrack_count",
    "/proc/sys/net/netfilter/nf_conntrack_max",
];

/// Puts everything into one packed file. What cannot be had is left out, with a word about it in its place.
pub(super) fn diags(session: &mut Session, logs: &Path) -> Result<(), Failure> {
    let stamp = caracal_store::now().replace(':', "");
    let top = std::env::temp_dir().join(format!("calico-diags-{stamp}-{}", std::process::id()));
    let name = "diagnostics";
    let dir = top.join(name);
    let refuse = |what: &Path, e: &dyn std::fmt::Display| {
        Failure::Input(format!("cannot write {}: {e}", what.display()))
    };
    session.print("Collecting diagnostics\n")?;
    fs::create_dir_all(&dir).map_err(|e| refuse(&dir, &e))?;
    let save = |file: &str, content: &[u8]| {
        let path = dir.join(file);
        fs::write(&path, content).map_err(|e| refuse(&path, &e))
    };
    for (file, words) in COMMANDS {
        save(file, &output(words))?;
    }
    for path in FILES {
        let content = fs::read(path).unwrap_or_else(|e| format!("cannot be read: {e}\n").into_bytes());
        save(&path[1..].replace('/', "_"), &content)?;
    }
    for entry in fs::read_dir(logs).into_iter().flatten().flatten() {
        let path = entry.path();
        if let (true, Ok(content)) = (path.is_file(), fs::read(&path)) {
            save(&format!("log_{}", entry.file_name().to_string_lossy()), &content)?;
        }
    }
    let packed = top.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(&packed).arg("-C").arg(&top).arg(name);
    match tar.output() {
        Ok(done) if done.status.success() => {
            // What is packed is not needed beside it; what stays behind is in a directory for such things.
            let _ = fs::remove_dir_all(&dir);
            session.print(&format!("Diags saved to {}\n", packed.display()))
        }
        Ok(done) => Err(refuse(&packed, &String::from_utf8_lossy(&done.stderr).trim())),
        Err(e) => {
            session
                .io
                .complain(&format!("not packed, for tar cannot be run: {e}"));
            session.print(&format!("Diags saved to {}\n", dir.display()))
        }
    }
}

fn output(words: &[&str]) -> Vec<u8> {
    let mut text = format!("$ {}\n", words.join(" ")).into_bytes();
    match Command::new(words[0]).args(&words[1..]).output() {
        Ok(done) => {
            text.extend(done.stdout);
            text.extend(done.stderr);
        }
        Err(e) => text.extend(format!("cannot be run: {e}\n").into_bytes()),
    }
    text
}
