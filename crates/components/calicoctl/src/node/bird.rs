//! What BIRD says of its peers, over its control socket.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::IpAddr,
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// BIRD answers at once or hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// More lines than this are no list of peers.
const MOST: usize = 100_000;

/// A session with a peer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) address: String,
    pub(super) kind: &'static str,
    pub(super) state: String,
    pub(super) since: String,
    pub(super) info: String,
}

/// Asks for the peers.
///
/// # Errors
/// When nobody answers at the socket, or not as BIRD does.
pub(super) fn peers(socket: &Path) -> io::Result<Vec<Peer>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"show protocols\n")?;
    let mut peers = Vec::new();
    let mut code = String::new();
    for line in BufReader::new(stream).lines().take(MOST) {
        let line = line?;
        // A line begins with a code and '-' (more follows) or ' ' (the last), or with a space: the code of the line before.
        let text = match line.get(..5) {
            Some(head) if head.as_bytes()[..4].iter().all(u8::is_ascii_digit) => {
                code = head[..4].to_owned();
                &line[5..]
            }
            _ => line.trim_start(),
        };
        match code.as_str() {
            "1002" => peers.extend(peer(text)),
            "0000" => return Ok(peers),
            // 8xxx and 9xxx are errors.
            c if c.starts_with(['8', '9']) => return Err(io::Error::other(format!("BIRD says: {text}"))),
            _ => {}
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// A line such as `Mesh_10_0_0_2 BGP master up 2026-11-21 Established`; nothing for protocols that are no peers.
fn peer(line: &str) -> Option<Peer> {
    let mut words = line.split_whitespace();
    let (name, proto, _table) = (words.next()?, words.next()?, words.next()?);
    let (state, since) = (words.next()?, words.next()?);
    let kinds = [
        ("Mesh_", "node-to-node mesh"),
        ("Node_", "node specific"),
        ("Global_", "global"),
    ];
    let (kind, rest) = kinds
        .iter()
        .find_map(|(prefix, kind)| Some((*kind, name.strip_prefix(prefix)?)))?;
    Some(Peer {
        address: address(rest),
        kind,
        state: state.to_owned(),
        since: since.to_owned(),
        info: words.collect::<Vec<_>>().join(" "),
    })
    .filter(|_| proto == "BGP")
}

/// Names have `_` in the place of `.` and `:`; a port may follow.
fn address(name: &str) -> String {
    for separator in [".", ":"] {
        let text = name.replace('_', separator);
        if text.parse::<IpAddr>().is_ok() {
            return text;
        }
        if let Some((address, _)) = text.split_once("port")
            && address.trim_end_matches(separator).parse::<IpAddr>().is_ok()
        {
            return address.trim_end_matches(separator).to_owned();
        }
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_protocols_are_peers() {
        let p = peer("Mesh_172_17_8_102 BGP      master   up     16:17:25    Established  ").unwrap();
        assert_eq!(
            (p.address.as_str(), p.kind, p.info.as_str()),
            ("172.17.8.102", "node-to-node mesh", "Established")
        );
        let p = peer("Global_fd80_24e2__9 BGP master start 2026-11-21 Active Socket: Connection refused")
            .unwrap();
        assert_eq!(
            (p.address.as_str(), p.kind, p.state.as_str()),
            ("fd80:24e2::9", "global", "start")
        );
        assert_eq!(p.info, "Active Socket: Connection refused");
        assert_eq!(peer("static1 Static master up 2026-11-21"), None);
        assert_eq!(peer("Mesh_x"), None);
        assert_eq!(address("10_0_0_1_port_179"), "10.0.0.1");
    }
}
