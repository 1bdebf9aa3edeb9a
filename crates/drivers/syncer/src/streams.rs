use caracal_api::{Kind, Resource};
use caracal_store::ListOptions;

use crate::Source;

/// What a program of a node follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// What the agent needs: policy, sets, endpoints, those of services, nodes, pools, blocks, settings.
    Felix,
    /// What is needed to configure BGP: pools, nodes, BGP's own kinds, the node's blocks.
    Bgp,
    /// What is needed to give tunnels their addresses: pools, the node.
    Tunnel,
    /// Who asked for the node's status.
    NodeStatus,
}

/// Settings and tiers first: they are few, and the rest is read in their light.
const FELIX: &[Kind] = &[
    Kind::ClusterInformation,
    Kind::FelixConfiguration,
    Kind::Tier,
    Kind::Node,
    Kind::IpPool,
    Kind::BgpConfiguration,
    Kind::BgpPeer,
    Kind::IpamBlock,
    Kind::Profile,
    Kind::GlobalNetworkPolicy,
    Kind::NetworkPolicy,
    Kind::StagedGlobalNetworkPolicy,
    Kind::StagedNetworkPolicy,
    Kind::StagedKubernetesNetworkPolicy,
    Kind::GlobalNetworkSet,
    Kind::NetworkSet,
    Kind::HostEndpoint,
    Kind::KubernetesEndpointSlice,
    Kind::WorkloadEndpoint,
];

const BGP: &[Kind] = &[
    Kind::IpPool,
    Kind::BgpConfiguration,
    Kind::Node,
    Kind::BgpPeer,
    Kind::BgpFilter,
];

impl Stream {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Felix, Self::Bgp, Self::Tunnel, Self::NodeStatus];

    /// The kinds that the stream brings, each filtered where only one node's objects matter. Without a node, those of
    /// all nodes come.
    #[must_use]
    pub fn sources(self, node: Option<&str>) -> Vec<Source> {
        let all = |kinds: &[Kind]| kinds.iter().copied().map(Source::all).collect::<Vec<_>>();
        match self {
            Self::Felix => all(FELIX),
            Self::Bgp => {
                let mut sources = all(BGP);
                sources.push(affinities(node));
                sources
            }
            Self::Tunnel => vec![Source::all(Kind::IpPool), one_node(node)],
            Self::NodeStatus => vec![status_requests(node)],
        }
    }
}

/// The objects of a kind whose names begin with this.
fn beginning_with(kind: Kind, prefix: String) -> Source {
    let part = ListOptions {
        name_prefix: Some(prefix),
        ..ListOptions::default()
    };
    Source::part(kind, part)
}

/// The blocks that belong to the node: not those that belong to something else of its name.
fn affinities(node: Option<&str>) -> Source {
    let kind = Kind::BlockAffinity;
    let of_host = |r: &Resource| matches!(r, Resource::BlockAffinity(o) if matches!(o.spec.affinity_type.as_str(), "" | "host"));
    let Some(node) = node.map(str::to_owned) else {
        return Source::all(kind).only(of_host);
    };
    beginning_with(kind, format!("{node}-"))
        .only(move |r| of_host(r) && matches!(r, Resource::BlockAffinity(o) if o.spec.node == node))
}

fn one_node(node: Option<&str>) -> Source {
    let Some(node) = node.map(str::to_owned) else {
        return Source::all(Kind::Node);
    };
    beginning_with(Kind::Node, node.clone()).only(move |r| r.metadata().name == node)
}

/// The name of a request says nothing: its content names the node.
fn status_requests(node: Option<&str>) -> Source {
    let all = Source::all(Kind::CalicoNodeStatus);
    let Some(node) = node.map(str::to_owned) else {
        return all;
    };
    all.only(move |r| matches!(r, Resource::CalicoNodeStatus(o) if o.spec.node == node))
}
