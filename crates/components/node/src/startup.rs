use std::{collections::BTreeMap, net::IpAddr};

use anyhow::{Context, bail};
use caracal_api::{Kind, NodeAddress, NodeBgpSpec, NodeSpec, Object, ResourceKey};
use caracal_ids::NodeName;
use caracal_net::{Family, IfAddr, PerFamily};
use caracal_store::{Store, StoreError};

/// What a node says about itself.
#[derive(Debug, Clone)]
pub(crate) struct NodeFacts {
    /// Its name.
    pub(crate) name: NodeName,
    /// Its addresses with their subnets; `None` leaves the stored one as it is.
    pub(crate) addr: PerFamily<Option<IfAddr>>,
    /// AS number, if one is given.
    pub(crate) as_number: Option<u32>,
    /// Labels to set.
    pub(crate) labels: BTreeMap<String, String>,
}

/// Reads an address from the environment variable `name`: an address with a prefix length, or one of this machine's
/// addresses without (the interface's prefix length is used), `autodetect`, or empty or `none` for none.
///
/// # Errors
/// When the text is no address of the family, or no interface has it.
pub(crate) fn node_address(
    name: &str,
    text: &str,
    family: Family,
    interfaces: &[(String, IfAddr)],
) -> anyhow::Result<Option<IfAddr>> {
    let text = text.trim();
    let mut usable = interfaces
        .iter()
        .filter(|(ifname, a)| Family::of(a.addr) == family && is_usable(ifname, a.addr));
    match text {
        "" | "none" => Ok(None),
        "autodetect" => match usable.next() {
            Some((_, a)) => Ok(Some(*a)),
            None => bail!(
                "{name}=autodetect: no interface has a usable {family} address; set {name} to the node's address"
            ),
        },
        _ => {
            let addr: IfAddr = text.parse().with_context(|| format!("{name}={text}"))?;
            if Family::of(addr.addr) != family {
                bail!("{name}={text}: an {family} address is expected");
            }
            if text.contains('/') {
                return Ok(Some(addr));
            }
            match usable.find(|(_, a)| a.addr == addr.addr) {
                Some((_, a)) => Ok(Some(*a)),
                None => Ok(Some(addr)),
            }
        }
    }
}

fn is_usable(interface: &str, addr: IpAddr) -> bool {
    let ours = [
        "lo",
        "cali",
        "vxlan.calico",
        "vxlan-v6.calico",
        "tunl",
        "docker",
        "wireguard.cali",
        "wg-v6.cali",
    ];
    let link_local = match addr {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    };
    !addr.is_loopback() && !link_local && !ours.iter().any(|p| interface.starts_with(p))
}

/// Writes the Node object: what this node says is set, everything else stays.
///
/// # Errors
/// When the datastore fails, or another node has one of the addresses.
pub(crate) async fn ensure_node(store: &dyn Store, facts: &NodeFacts) -> anyhow::Result<Object<NodeSpec>> {
    refuse_duplicates(store, facts).await?;
    let key = ResourceKey::global(Kind::Node, facts.name.as_str());
    for _ in 0..10 {
        let stored: Option<Object<NodeSpec>> = match store.get(&key).await {
            Ok(r) => r.try_into().ok(),
            Err(StoreError::NotFound(_)) => None,
            Err(e) => return Err(e).context("reading the Node object"),
        };
        let exists = stored.is_some();
        let mut object = stored.unwrap_or_else(|| Object::new(facts.name.as_str(), NodeSpec::default()));
        let before = object.clone();
        fill(&mut object, facts);
        if exists && object == before {
            return Ok(object);
        }
        let written = if exists {
            store.update(object.into()).await
        } else {
            store.create(object.into()).await
        };
        match written {
            Ok(r) => {
                return r
                    .try_into()
                    .map_err(|_| anyhow::anyhow!("the datastore returned another kind than Node"));
            }
            Err(StoreError::Conflict { .. } | StoreError::AlreadyExists(_) | StoreError::NotFound(_)) => {}
            Err(e) => return Err(e).context("writing the Node object"),
        }
    }
    bail!(
        "writing the Node object {}: other writers were always faster",
        facts.name
    )
}

fn fill(object: &mut Object<NodeSpec>, facts: &NodeFacts) {
    let bgp = object.spec.bgp.get_or_insert_with(NodeBgpSpec::default);
    if let Some(a) = facts.addr.v4 {
        bgp.ipv4_address = a.to_string();
    }
    if let Some(a) = facts.addr.v6 {
        bgp.ipv6_address = a.to_string();
    }
    if let Some(n) = facts.as_number {
        bgp.as_number = Some(n.into());
    }
    let ours = |a: &NodeAddress| a.address_type == "CalicoNodeIP";
    let mut addresses: Vec<NodeAddress> = object
        .spec
        .addresses
        .iter()
        .filter(|a| !ours(a))
        .cloned()
        .collect();
    for text in [&bgp.ipv4_address, &bgp.ipv6_address] {
        if !text.is_empty() {
            addresses.push(NodeAddress {
                address: text.clone(),
                address_type: "CalicoNodeIP".into(),
            });
        }
    }
    object.spec.addresses = addresses;
    let labels = &mut object.metadata.labels;
    labels
        .entry("kubernetes.io/hostname".into())
        .or_insert_with(|| facts.name.to_string());
    labels.extend(facts.labels.clone());
}

async fn refuse_duplicates(store: &dyn Store, facts: &NodeFacts) -> anyhow::Result<()> {
    let nodes = store
        .list_all(Kind::Node, &caracal_store::ListOptions::default())
        .await
        .context("listing the nodes")?;
    for resource in nodes.items {
        let Ok(node) = Object::<NodeSpec>::try_from(resource) else {
            continue;
        };
        let Some(bgp) = node
            .spec
            .bgp
            .as_ref()
            .filter(|_| node.metadata.name != facts.name.as_str())
        else {
            continue;
        };
        for text in [&bgp.ipv4_address, &bgp.ipv6_address] {
            let theirs = text.parse::<IfAddr>().ok().map(|a| a.addr);
            if theirs.is_some() && facts.addr.iter().any(|(_, a)| a.map(|a| a.addr) == theirs) {
                bail!(
                    "address {text} is already used by node {}; every node needs its own",
                    node.metadata.name
                );
            }
        }
    }
    Ok(())
}
