use std::path::Path;

use crate::{SysError, read_optional, write_atomic};

/// Where Calico's agent leaves the MTU that the CNI plugin gives to pods.
pub const DEFAULT_MTU_FILE: &str = "/var/lib/calico/mtu";

/// The least MTU that IPv4 can work with (RFC 791); IPv6 needs 1280, but a v4-only node may run with less.
const LEAST: u32 = 68;

/// Reads the MTU file; `None` if the agent has not written it yet.
pub fn read_mtu_file(path: &Path) -> Result<Option<u32>, SysError> {
    let Some(content) = read_optional(path)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&content);
    match text.trim().parse::<u32>() {
        Ok(mtu) if (LEAST..=65535).contains(&mtu) => Ok(Some(mtu)),
        _ => Err(SysError::Content {
            path: path.to_owned(),
            problem: "expected one number from 68 to 65535",
            found: text.chars().take(40).collect(),
        }),
    }
}

/// Writes the MTU file, only if its content would change; tells whether it did.
pub fn write_mtu_file(path: &Path, mtu: u32) -> Result<bool, SysError> {
    // A damaged file is replaced, like an absent one.
    if read_mtu_file(path).ok().flatten() == Some(mtu) {
        return Ok(false);
    }
    write_atomic(path, format!("{mtu}\n").as_bytes(), 0o644)?;
    Ok(true)
}
