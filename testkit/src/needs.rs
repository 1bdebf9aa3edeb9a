use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::ledger;

/// Finds a program as the shell would, and in the system directories that a user's `PATH` may leave out.
pub fn find_tool(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|file| {
            file.metadata()
                .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
        })
}

/// The first of `needs` that this machine lacks. Used by [`needs!`](crate::needs).
pub fn missing(needs: &[&str]) -> Option<String> {
    needs
        .iter()
        .find(|need| !is_there(need))
        .map(|need| (*need).to_owned())
}

fn is_there(need: &str) -> bool {
    match need.split_once(':') {
        None if need == "root" => nix::unistd::geteuid().is_root(),
        None if need == "vm" => crate::vm::possible(),
        None => find_tool(need).is_some(),
        Some(("link", kind)) => link_kind(kind),
        Some(_) => panic!("needs!({need:?}): not a program, `root`, `vm` or `link:KIND`"),
    }
}

/// Whether the kernel knows a kind of link, tried in a namespace that ends with the thread.
fn link_kind(kind: &str) -> bool {
    let Some(ip) = find_tool("ip") else { return false };
    let add = || {
        let output = std::process::Command::new(ip)
            .args(["link", "add", "probe0", "type", kind])
            .output();
        // A known kind may still ask for more arguments; an unknown one is "Unknown device type".
        output.is_ok_and(|o| {
            o.status.success()
                || !String::from_utf8_lossy(&o.stderr)
                    .to_lowercase()
                    .contains("unknown device type")
        })
    };
    caracal_sys::NetNs::anonymous()
        .and_then(|ns| ns.run(add))
        .unwrap_or(false)
}

/// Writes one skip to the ledger and says so. Used by [`needs!`](crate::needs).
pub fn skip(test: &str, lacking: &str) {
    println!("skipped {test}: this machine lacks {lacking}");
    ledger::record(test, lacking);
}
