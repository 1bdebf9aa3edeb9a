use caracal_api::{
    AgentReport, BgpDaemonStatus, BgpReport, CalicoNodeStatusSpec, CalicoNodeStatusStatus, LearnedFrom,
    PeerReport, ReportedRoute, RouteReport, StatusClass,
};

use crate::shape::{object, words};

words! {
    StatusClass { Agent, BGP, Routes }
}

object! { CalicoNodeStatusSpec {
    node "node";
    classes "classes" .set();
    update_period_seconds "updatePeriodSeconds" .format("int32");
} }

object! { CalicoNodeStatusStatus {
    last_updated "lastUpdated" .format("date-time") .nullable();
    agent "agent";
    bgp "bgp";
    routes "routes";
} }

object! { AgentReport {
    bird_v4 "birdV4";
    bird_v6 "birdV6";
} }

object! { BgpDaemonStatus {
    state "state" .words(&["Ready", "NotReady"]);
    version "version";
    router_id "routerID";
    last_boot_time "lastBootTime";
    last_reconfiguration_time "lastReconfigurationTime";
} }

object! { BgpReport {
    number_established_v4 "numberEstablishedV4" .must();
    number_not_established_v4 "numberNotEstablishedV4" .must();
    number_established_v6 "numberEstablishedV6" .must();
    number_not_established_v6 "numberNotEstablishedV6" .must();
    peers_v4 "peersV4" .whole();
    peers_v6 "peersV6" .whole();
} }

object! { PeerReport {
    peer_ip "peerIP";
    peer_type "type" .words(&["NodeMesh", "NodePeer", "GlobalPeer"]);
    state "state"
        .words(&["Idle", "Connect", "Active", "OpenSent", "OpenConfirm", "Established", "Close"]);
    since "since";
} }

object! { RouteReport {
    routes_v4 "routesV4" .whole();
    routes_v6 "routesV6" .whole();
} }

object! { ReportedRoute {
    route_type "type" .words(&["FIB", "RIB"]);
    destination "destination";
    gateway "gateway";
    interface "interface";
    learned_from "learnedFrom";
} }

object! { LearnedFrom {
    source_type "sourceType" .words(&["Kernel", "Static", "Direct", "NodeMesh", "BGPPeer"]);
    peer_ip "peerIP";
} }
