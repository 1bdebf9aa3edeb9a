use caracal_api::{
    AssignIps, AutoHostEndpointConfig, ControllersConfig, HostEndpointTemplate,
    KubeControllersConfigurationSpec, KubeControllersConfigurationStatus, LoadBalancerControllerConfig,
    MigrationControllerConfig, NodeControllerConfig, ReconcilerConfig,
};

use super::NAME;
use crate::shape::{object, words};

words! {
    AssignIps { AllServices, RequestedServicesOnly }
}

object! { KubeControllersConfigurationSpec {
    log_severity_screen "logSeverityScreen"
        .words(&["None", "Debug", "Info", "Warning", "Error", "Fatal", "Panic"]);
    health_checks "healthChecks" .or("Enabled");
    etcd_v3_compaction_period "etcdV3CompactionPeriod";
    prometheus_metrics_port "prometheusMetricsPort" .within(0, 65535);
    debug_profile_port "debugProfilePort" .within(0, 65535) .format("int32");
    controllers "controllers" .must();
} }

object! { KubeControllersConfigurationStatus {
    running_config "runningConfig";
    environment_vars "environmentVars";
} }

object! { ControllersConfig {
    node "node";
    policy "policy";
    workload_endpoint "workloadEndpoint";
    service_account "serviceAccount";
    namespace "namespace";
    load_balancer "loadBalancer";
    migration "migration";
} }

object! { ReconcilerConfig {
    reconciler_period "reconcilerPeriod";
} }

object! { NodeControllerConfig {
    reconciler_period "reconcilerPeriod";
    sync_labels "syncLabels";
    host_endpoint "hostEndpoint";
    leak_grace_period "leakGracePeriod";
} }

// Calico's schema takes any text for createDefaultHostEndpoint; its reader does not.
object! { AutoHostEndpointConfig {
    auto_create "autoCreate";
    create_default_host_endpoint "createDefaultHostEndpoint" .any_word();
    templates "templates" .whole();
} }

object! { HostEndpointTemplate {
    generate_name "generateName" .chars(NAME);
    interface_cidrs "interfaceCIDRs" .set();
    interface_pattern "interfacePattern";
    node_selector "nodeSelector";
    labels "labels";
    annotations "annotations";
} }

object! { LoadBalancerControllerConfig {
    assign_ips "assignIPs" .or("AllServices");
} }

object! { MigrationControllerConfig {
    policy_name_migrator "policyNameMigrator" .or("Enabled");
} }
