//! Takes everything back out of the node.

use std::path::Path;

use anyhow::Context;
use caracal_config::FelixConfig;
use caracal_link::Rtnl;
use caracal_nft::{Config as NftConfig, Nft};
use caracal_route::{Ownership, Routes};
use caracal_update::InSync;

use super::{files::StatusFiles, leftovers, network::remove_devices};

/// Removes everything that an agent of this kind puts into the kernel and the file system of its node, and nothing else.
/// One step that fails does not keep the others from being done.
///
/// # Errors
/// When an agent is running, which would put everything back; what could not be removed.
pub(crate) fn cleanup(config: &FelixConfig) -> anyhow::Result<()> {
    let socket = Path::new(&config.agent_socket);
    if crate::agent::is_running(socket) {
        anyhow::bail!(
            "an agent is running here (it answers at {}): stop it first",
            socket.display()
        );
    }
    let steps: [(&str, &dyn Fn() -> anyhow::Result<()>); 8] = [
        ("tables", &|| Ok(Nft::open(NftConfig::default())?.cleanup()?)),
        ("tunnel devices", &|| Ok(remove_devices(&mut Rtnl::open()?)?)),
        ("bandwidth limits", &|| {
            Ok(super::bandwidth::sweep(&mut Rtnl::open()?, |_| (false, false))?)
        }),
        ("routes", &|| routes(config)),
        (
            "endpoint status files",
            &|| match &config.endpoint_status_path_prefix {
                Some(prefix) => Ok(StatusFiles::remove_all(prefix)?),
                None => Ok(()),
            },
        ),
        ("the MTU file", &|| {
            caracal_sys::remove_optional(Path::new(caracal_sys::DEFAULT_MTU_FILE))?;
            Ok(())
        }),
        ("what was kept of trials", &crate::keepsake::remove),
        ("the agent's sockets", &|| {
            caracal_sys::remove_optional(socket)?;
            caracal_sys::remove_optional(Path::new(&caracal_agent_api::pods::socket(&config.agent_socket)))?;
            Ok(())
        }),
    ];
    let mut failures = Vec::new();
    for (what, step) in steps {
        if let Err(e) = step().with_context(|| format!("removing {what}")) {
            failures.push(format!("{e:#}"));
        }
    }
    anyhow::ensure!(failures.is_empty(), "{}", failures.join("; "));
    Ok(())
}

/// Removes what Calico left in this node's packet filters; what that was, in words. With `dry_run` nothing is done.
///
/// # Errors
/// What could not be removed.
pub(crate) fn cleanup_calico(dry_run: bool) -> anyhow::Result<Vec<String>> {
    let mut nft = Nft::open(NftConfig::default())?;
    if dry_run {
        return Ok(leftovers::find(&mut nft));
    }
    let (gone, stay) = leftovers::remove(&mut nft);
    anyhow::ensure!(stay.is_empty(), "{}", stay.join("; "));
    Ok(gone)
}

fn routes(config: &FelixConfig) -> anyhow::Result<()> {
    let prefixes: Vec<&str> = config.interface_prefixes.iter().map(String::as_str).collect();
    // An empty desired state is complete: everything of ours goes. Routes that others put on workloads' interfaces stay.
    let mut routes = Routes::new(Ownership::calico(&prefixes, config.device_route_protocol, false));
    let report = routes.apply(&mut Rtnl::open()?, &InSync::after_complete_snapshot());
    match report.errors.first() {
        Some(e) => anyhow::bail!("{} failed, the first: {e}", report.errors.len()),
        None => Ok(()),
    }
}
