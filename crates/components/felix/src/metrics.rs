//! Figures under the names that Calico's agent gives them, where it has them.

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};

/// Phases of reading the datastore, as `felix_resync_state` counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resync {
    /// The datastore does not answer, or says that it is not ready.
    Waiting = 1,
    /// It is being read.
    Running = 2,
    /// All of it has been read, and changes come as they happen.
    Done = 3,
}

/// Tells the phase.
pub(crate) fn resync(phase: Resync) {
    gauge!("felix_resync_state").set(f64::from(phase as u8));
    if phase == Resync::Running {
        counter!("felix_resyncs_started").increment(1);
    }
}

const COUNTERS: &[(&str, &str)] = &[
    (
        "felix_calc_graph_output_events",
        "Changes of the desired state that the engines yielded",
    ),
    (
        "felix_calc_graph_updates_processed",
        "Changes of objects that the engines took",
    ),
    (
        "felix_int_dataplane_failures",
        "Failures while bringing the kernel to the desired state",
    ),
    (
        "felix_int_dataplane_messages",
        "Changes of the desired state that the dataplane took",
    ),
    (
        "felix_resyncs_started",
        "Times that reading the whole datastore began",
    ),
    ("felix_nft_calls", "Batches sent to nf_tables"),
    ("felix_nft_errors", "Batches that nf_tables refused"),
    (
        "caracal_nft_repairs",
        "Times that changes of others to our tables were undone",
    ),
    (
        "caracal_connections_cut",
        "Connections ended because policy does not allow them any more",
    ),
    (
        "caracal_conntrack_flushed",
        "Connections forgotten because their address left this node",
    ),
    (
        "caracal_cni_await_timeouts",
        "ADDs of the CNI plugin whose policy was not in force in time",
    ),
    (
        "caracal_cni_attach_errors",
        "New containers whose addresses and endpoint were left to the CNI plugin",
    ),
    (
        "caracal_cni_assign_errors",
        "Addresses that the CNI plugin asked for and the agent could not assign",
    ),
];

const GAUGES: &[(&str, &str)] = &[
    ("felix_active_local_endpoints", "Workload endpoints of this node"),
    (
        "felix_active_local_policies",
        "Policies that apply to endpoints of this node",
    ),
    (
        "felix_active_local_selectors",
        "Selectors whose members this node follows",
    ),
    ("felix_cluster_num_hosts", "Nodes of the cluster"),
    (
        "felix_cluster_num_host_endpoints",
        "Host endpoints of the cluster",
    ),
    (
        "felix_cluster_num_policies",
        "Policies of the cluster, staged ones left out",
    ),
    ("felix_cluster_num_profiles", "Profiles of the cluster"),
    ("felix_cluster_num_tiers", "Tiers of the cluster"),
    (
        "felix_cluster_num_workload_endpoints",
        "Workload endpoints of the cluster",
    ),
    (
        "felix_resync_state",
        "1: waits for the datastore, 2: reads it, 3: in sync",
    ),
    ("felix_route_table_num_routes", "Routes that the agent wants"),
    ("felix_nft_chains", "Chains of our tables, by family"),
    ("felix_nft_rules", "Rules of our tables, by family"),
    ("felix_nft_sets", "Sets of our tables, by family"),
    ("felix_nft_maps", "Maps of our tables, by family"),
    ("felix_ipsets_calico", "IP sets in use, by family"),
    ("caracal_nft_problems", "Objects that the kernel refused"),
    ("caracal_datastore_connected", "1 while the datastore answers"),
    (
        "caracal_endpoints",
        "Endpoints of this node by state: up, down, error",
    ),
    ("caracal_invalid_objects", "Objects that cannot be used, by kind"),
    (
        "caracal_calico_leftovers",
        "Kinds of rules that Calico left in iptables and ipset",
    ),
];

const SUMMARIES: &[(&str, &str)] = &[
    (
        "felix_calc_graph_update_time_seconds",
        "Time the engines took for what came at once",
    ),
    (
        "felix_int_dataplane_apply_time_seconds",
        "Time that an apply took",
    ),
    (
        "felix_int_dataplane_msg_batch_size",
        "Changes that came to the dataplane at once",
    ),
    (
        "felix_int_dataplane_iface_msg_batch_size",
        "Changes of interfaces that came at once",
    ),
    (
        "felix_int_dataplane_addr_msg_batch_size",
        "Changes of addresses that came at once",
    ),
    (
        "caracal_cni_await_seconds",
        "Time that an ADD of the CNI plugin waited for its policy",
    ),
    (
        "caracal_cni_attach_seconds",
        "Time until addresses and endpoint of a new container were in the datastore",
    ),
    (
        "caracal_cni_attaches_at_once",
        "New containers whose addresses and endpoints were written together",
    ),
    (
        "caracal_cni_assign_seconds",
        "Time that the CNI plugin waited for an address",
    ),
    (
        "caracal_cni_assigns_at_once",
        "Addresses assigned together, for plugins that waited at the same moment",
    ),
    (
        "caracal_cni_detach_seconds",
        "Time from the wish of a DEL of the CNI plugin to the answer",
    ),
    (
        "caracal_cni_links_at_once",
        "Links of ended containers deleted in one request to the kernel",
    ),
    (
        "caracal_cni_releases_at_once",
        "Containers whose addresses were given back together",
    ),
];

/// Describes everything and shows it as zero, so that it is there before anything happens.
pub(crate) fn describe(node: &str) {
    for (name, text) in COUNTERS {
        describe_counter!(*name, *text);
        counter!(*name).absolute(0);
    }
    for (name, text) in GAUGES {
        describe_gauge!(*name, *text);
    }
    for name in [
        "felix_active_local_endpoints",
        "felix_active_local_policies",
        "felix_active_local_selectors",
        "caracal_nft_problems",
        "caracal_calico_leftovers",
    ] {
        gauge!(name).set(0.0);
    }
    for (name, text) in SUMMARIES {
        describe_histogram!(*name, *text);
    }
    describe_gauge!("felix_host", "1, labelled with this node's name");
    gauge!("felix_host", "host" => node.to_owned()).set(1.0);
    describe_gauge!(
        "felix_int_dataplane_initial_resync_time_seconds",
        "From the start to the first complete apply"
    );
    resync(Resync::Waiting);
}
