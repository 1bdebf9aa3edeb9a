//! `node status`.

use std::os::unix::net::UnixStream;

use super::bird::{self, Peer};
use crate::{failure::Failure, session::Session};

/// The exit code when the agent does not run.
const NOT_RUNNING: i32 = 1;

pub(super) fn status(session: &mut Session) -> Result<(), Failure> {
    let run = session.io.run.clone();
    if UnixStream::connect(run.join("agent.sock")).is_err() {
        return Err(Failure::Code(
            NOT_RUNNING,
            format!(
                "Calico process is not running: no agent answers at {}",
                run.join("agent.sock").display()
            ),
        ));
    }
    session.print("Calico process is running.\n")?;
    let sockets =
        [("IPv4", "bird.ctl"), ("IPv6", "bird6.ctl")].map(|(family, name)| (family, run.join(name)));
    if sockets.iter().all(|(_, path)| !path.exists()) {
        return session.print("\nNone of the BGP backend processes (BIRD or GoBGP) are running.\n");
    }
    for (family, path) in sockets {
        let mut text = format!("\n{family} BGP status\n");
        if path.exists() {
            let peers = bird::peers(&path).map_err(|e| {
                Failure::Input(format!(
                    "BIRD at {} cannot be asked for its peers: {e}",
                    path.display()
                ))
            })?;
            text += &table(family, &peers);
        } else {
            text += &format!("No {family} peers found.\n");
        }
        session.print(&text)?;
    }
    Ok(())
}

fn table(family: &str, peers: &[Peer]) -> String {
    if peers.is_empty() {
        return format!("No {family} peers found.\n");
    }
    let heading = ["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"].map(str::to_owned);
    let rows = peers.iter().map(|p| {
        [
            p.address.clone(),
            p.kind.to_owned(),
            p.state.clone(),
            p.since.clone(),
            p.info.clone(),
        ]
    });
    let rows: Vec<[String; 5]> = std::iter::once(heading).chain(rows).collect();
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4].map(width);
    let bar: String = widths
        .iter()
        .map(|w| format!("+{}", "-".repeat(w + 2)))
        .collect::<String>()
        + "+\n";
    let mut text = bar.clone();
    for (n, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(widths) {
            // Headings stand in the middle.
            let gap = width - cell.chars().count();
            let left = if n == 0 { gap / 2 } else { 0 };
            text += &format!("| {}{cell}{} ", " ".repeat(left), " ".repeat(gap - left));
        }
        text += "|\n";
        if n == 0 {
            text += &bar;
        }
    }
    text + &bar
}
