//! Pods: a namespace, the CNI plugin, and a process that answers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Context;
use caracal_api::{Kind, ResourceKey};
use caracal_convert::WepName;
use caracal_link::{LinkChange, Rtnl};
use caracal_sys::{NetNs, SysError, processes_in};

use super::parallel;
use super::state::{Lab, Pod, Process};
use crate::cluster::{fabric, process};

/// Where a pod's endpoint is in the datastore.
pub(super) fn endpoint_key(pod: &Pod) -> ResourceKey {
    let name = WepName::kubernetes(&pod.node, &pod.name, "eth0").to_string();
    ResourceKey::namespaced(Kind::WorkloadEndpoint, &pod.namespace, &name)
}

/// Ends plugins that a command which was killed has left: two must not work on one pod.
fn end_plugins(lab: &Lab, pods: &[&Pod]) -> anyhow::Result<()> {
    let nodes: BTreeSet<&str> = pods.iter().map(|p| p.node.as_str()).collect();
    for node in nodes {
        let netns = lab.site(lab.node(node)?).open()?;
        process::end(&process::running(&netns, &["calico"])?, false)?;
    }
    Ok(())
}

struct Made {
    addresses: Vec<IpAddr>,
    responder: Process,
}

/// Makes what is missing of the named pods, which must be in the state (and the state on disk).
pub(super) fn ensure(lab: &mut Lab, ids: &[String]) -> anyhow::Result<()> {
    let wanted: Vec<&Pod> = ids.iter().filter_map(|id| lab.state.pods.get(id)).collect();
    end_plugins(lab, &wanted)?;
    let made = parallel::map(wanted, |pod| {
        let made = make(lab, pod).with_context(|| format!("pod {}", pod.id()));
        (pod.id(), made)
    });
    let mut outcome = Vec::new();
    for (id, made) in made {
        outcome.push(made.map(|made| {
            if let Some(pod) = lab.state.pods.get_mut(&id) {
                pod.addresses = made.addresses;
                pod.responder = Some(made.responder);
            }
        }));
    }
    lab.save()?;
    parallel::all(outcome).map(drop)
}

fn make(lab: &Lab, pod: &Pod) -> anyhow::Result<Made> {
    let netns = fabric::ensure_netns(&lab.pod_netns(pod))?;
    let mut rtnl = Rtnl::open_in(&netns)?;
    rtnl.set_link("lo", &LinkChange::up())?;
    let attached = rtnl.link("eth0")?.is_some();
    let addresses = if attached && !pod.addresses.is_empty() {
        pod.addresses.clone()
    } else {
        lab.with_net(pod, |net| net.add())??
    };
    let responder = match pod.responder.filter(|r| r.is_alive()) {
        Some(running) => running,
        None => start_responder(lab, pod, &netns)?,
    };
    Ok(Made { addresses, responder })
}

fn start_responder(lab: &Lab, pod: &Pod, netns: &NetNs) -> anyhow::Result<Process> {
    // What an interrupted attempt left would hold the ports.
    process::end(&process::running(netns, &["caracal", "lab", "respond"])?, false)?;
    let mut command = process::caracal();
    command.args(["lab", "respond"]);
    command.args(pod.listen().iter().map(|l| format!("{}:{}", l.protocol, l.port)));
    let log = lab.log(&format!("{}.{}", pod.namespace, pod.name));
    Ok(process::start(&mut command, netns, None, &log, true)?.into())
}

/// Takes pods away: out of the network, out of this machine, out of the state.
pub(super) fn remove(lab: &mut Lab, ids: &[String]) -> anyhow::Result<()> {
    let pods: Vec<&Pod> = ids.iter().filter_map(|id| lab.state.pods.get(id)).collect();
    end_plugins(lab, &pods)?;
    let gone = parallel::map(pods, |pod| {
        let outcome = take_away(lab, pod).with_context(|| format!("pod {}", pod.id()));
        outcome.map(|()| pod.id())
    });
    for id in gone.iter().flatten() {
        lab.state.pods.remove(id);
    }
    lab.save()?;
    parallel::all(gone).map(drop)
}

fn take_away(lab: &Lab, pod: &Pod) -> anyhow::Result<()> {
    let name = lab.pod_netns(pod);
    lab.with_net(pod, |net| net.del())??;
    match NetNs::named(&name) {
        Ok(netns) => process::end(&processes_in(netns.id())?, false)?,
        Err(SysError::NetNsMissing(_) | SysError::NotNetNs(_)) => {}
        Err(e) => return Err(e.into()),
    }
    NetNs::delete(&name)?;
    caracal_sys::remove_optional(&lab.log(&format!("{}.{}", pod.namespace, pod.name)))?;
    Ok(())
}
