//! `lab status`.

use serde::Serialize;

use super::cli::Format;
use super::parallel::block_on;
use super::state::{Lab, Node, Phase, Process};
use super::table::{Columns, say};
use crate::cluster::agent::Agent;
use crate::cluster::fabric;
use crate::explain::explain;

#[derive(Debug, Serialize)]
struct Status {
    name: String,
    phase: Phase,
    directory: String,
    datastore: DatastoreStatus,
    nodes: Vec<NodeStatus>,
    pods: Vec<PodStatus>,
}

#[derive(Debug, Serialize)]
struct DatastoreStatus {
    endpoint: String,
    running: bool,
}

#[derive(Debug, Serialize)]
struct NodeStatus {
    name: String,
    address: String,
    agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    endpoints: usize,
    invalid: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PodStatus {
    namespace: String,
    name: String,
    node: String,
    addresses: Vec<String>,
    ports: Vec<String>,
    state: &'static str,
}

/// Shows what there is.
pub(super) fn status(name: &str, format: Format) -> anyhow::Result<i32> {
    let Some(lab) = Lab::find(name)? else {
        anyhow::bail!("there is none: 'caracal lab up' makes one");
    };
    let status = read(&lab)?;
    match format {
        Format::Json => say(&serde_json::to_string_pretty(&status)?),
        Format::Table => print(&status),
    }
    Ok(0)
}

fn read(lab: &Lab) -> anyhow::Result<Status> {
    let nodes = block_on(async {
        let mut nodes = Vec::new();
        for node in &lab.state.nodes {
            nodes.push(node_status(lab, node).await);
        }
        Ok(nodes)
    })?;
    let datastore = lab.datastore();
    let pods = lab.state.pods.values().map(|pod| PodStatus {
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        node: pod.node.clone(),
        addresses: pod.addresses.iter().map(ToString::to_string).collect(),
        ports: pod
            .ports
            .iter()
            .map(|p| format!("{} {}", p.protocol, p.port))
            .collect(),
        state: match pod.responder {
            _ if pod.addresses.is_empty() => "not attached",
            Some(p) if p.is_alive() => "running",
            _ => "ended",
        },
    });
    Ok(Status {
        name: lab.state.name.clone(),
        phase: lab.state.phase,
        directory: lab.dir().display().to_string(),
        datastore: DatastoreStatus {
            endpoint: datastore.local_endpoint(),
            running: lab.state.datastore.is_some_and(Process::is_alive),
        },
        nodes,
        pods: pods.collect(),
    })
}

async fn node_status(lab: &Lab, node: &Node) -> NodeStatus {
    let address = fabric::address(node.index, caracal_net::Family::V4).addr;
    let mut status = NodeStatus {
        name: node.name.clone(),
        address: address.to_string(),
        agent: "not running".to_owned(),
        pid: node.agent.filter(|a| a.is_alive()).map(|a| a.pid),
        endpoints: 0,
        invalid: Vec::new(),
    };
    if status.pid.is_none() {
        return status;
    }
    let ask = async {
        let mut agent = Agent::connect(&lab.site(node).agent_socket()).await?;
        let info = agent.info().await?;
        anyhow::Ok((info.in_sync, agent.endpoints().await?, agent.invalid().await?))
    };
    match ask.await {
        Ok((in_sync, endpoints, invalid)) => {
            let state = if in_sync { "in sync" } else { "starting" };
            status.agent = state.to_owned();
            status.endpoints = endpoints.len();
            let name = |i: &caracal_agent_api::v1::InvalidObject| {
                let namespace = if i.namespace.is_empty() {
                    String::new()
                } else {
                    format!("{}/", i.namespace)
                };
                format!("{} {namespace}{}: {}", i.kind, i.name, i.reason)
            };
            status.invalid = invalid.iter().map(name).collect();
        }
        Err(e) => status.agent = format!("does not answer: {}", explain(&e)),
    }
    status
}

fn print(status: &Status) {
    let phase = match status.phase {
        Phase::Up => "up",
        Phase::Starting => "half up: run 'lab up' again",
        Phase::Ending => "half down: run 'lab down' again",
    };
    let running = if status.datastore.running {
        ""
    } else {
        " (not running)"
    };
    say(&format!(
        "lab {:?} is {phase}; its files are in {}",
        status.name, status.directory
    ));
    say(&format!(
        "datastore: ETCD_ENDPOINTS={}{running}\n",
        status.datastore.endpoint
    ));
    let mut nodes = Columns::new(&["NODE", "ADDRESS", "AGENT", "PID", "ENDPOINTS"]);
    for n in &status.nodes {
        let pid = n.pid.map(|p| p.to_string()).unwrap_or_default();
        let row = [&n.name, &n.address, &n.agent, &pid, &n.endpoints.to_string()];
        nodes.rows.push(row.map(|c| c.clone().into()).into());
    }
    say(&nodes.text());
    if !status.pods.is_empty() {
        let mut pods = Columns::new(&["NAMESPACE", "POD", "NODE", "ADDRESSES", "PORTS", "STATE"]);
        for p in &status.pods {
            let (addresses, ports) = (p.addresses.join(" "), p.ports.join(", "));
            let row = [
                &p.namespace,
                &p.name,
                &p.node,
                &addresses,
                &ports,
                &p.state.to_owned(),
            ];
            pods.rows.push(row.map(|c| c.clone().into()).into());
        }
        say("");
        say(&pods.text());
    }
    for node in &status.nodes {
        for invalid in &node.invalid {
            say(&format!("\n{}: cannot be used: {invalid}", node.name));
        }
    }
}
