//! Parameters of the process itself: datastore, health, logs, metrics, flow logs, debugging.

use super::shapes::{
    FLAGS, FROM_MINUS_ONE, GATES, HOST_ADDRESS, HOST_PORT, HOSTNAME, NOT_NEGATIVE, PORT, RATE,
    SPEC_LOG_PREFIX, SPEC_RATE,
};
use super::{Group, Kind, PairsAs, Param, SpecRule, p};

pub(super) const GROUPS: &[Group] = &[
    Group {
        title: "datastore connection",
        params: DATASTORE,
    },
    Group {
        title: "feature detection",
        params: FEATURES,
    },
    Group {
        title: "Go runtime (kept for compatibility)",
        params: GO_RUNTIME,
    },
    Group {
        title: "health",
        params: HEALTH,
    },
    Group {
        title: "logging",
        params: LOGGING,
    },
    Group {
        title: "metrics",
        params: METRICS,
    },
    Group {
        title: "flow logs",
        params: FLOW_LOGS,
    },
    Group {
        title: "AWS",
        params: AWS,
    },
    Group {
        title: "debugging",
        params: DEBUG,
    },
    Group {
        title: "usage reporting",
        params: USAGE,
    },
];

#[rustfmt::skip]
const DATASTORE: &[Param] = &[
    p("DatastoreType", "", Kind::OneOf(&["etcdv3", "kubernetes"]), "etcdv3").nonzero().exits().local().supported(),
    p("EtcdAddr", "", Kind::Matching(HOST_PORT), "127.0.0.1:2379").local().supported(),
    p("EtcdCaFile", "", Kind::ExistingFile, "").local().supported(),
    p("EtcdCertFile", "", Kind::ExistingFile, "").local().supported(),
    p("EtcdEndpoints", "", Kind::Endpoints, "").local().supported(),
    p("EtcdKeyFile", "", Kind::ExistingFile, "").local().supported(),
    p("EtcdScheme", "", Kind::OneOf(&["http", "https"]), "http").local().supported(),
    p("FelixHostname", "", Kind::Matching(HOSTNAME), "").nonzero().local().supported(),
    p("TyphaAddr", "", Kind::Matching(HOST_PORT), "").local(),
    p("TyphaCAFile", "", Kind::ExistingFile, "").local(),
    p("TyphaCN", "", Kind::Text, "").local(),
    p("TyphaCertFile", "", Kind::ExistingFile, "").local(),
    p("TyphaK8sNamespace", "", Kind::Text, "kube-system").nonzero().local(),
    p("TyphaK8sServiceName", "", Kind::Text, "").local(),
    p("TyphaKeyFile", "", Kind::ExistingFile, "").local(),
    p("TyphaReadTimeout", "", Kind::Seconds, "30").local(),
    p("TyphaURISAN", "", Kind::Text, "").local(),
    p("TyphaWriteTimeout", "", Kind::Seconds, "10").local(),
];

#[rustfmt::skip]
const FEATURES: &[Param] = &[
    p("FeatureDetectOverride", "featureDetectOverride", Kind::Pairs(PairsAs::Text(FLAGS)), ""),
    p("FeatureGates", "featureGates", Kind::Pairs(PairsAs::Text(GATES)), ""),
];

#[rustfmt::skip]
const GO_RUNTIME: &[Param] = &[
    p("GoGCThreshold", "goGCThreshold", Kind::Int(FROM_MINUS_ONE), "40"),
    p("GoMaxProcs", "goMaxProcs", Kind::Int(FROM_MINUS_ONE), "-1"),
    p("GoMemoryLimitMB", "goMemoryLimitMB", Kind::Int(FROM_MINUS_ONE), "-1"),
];

#[rustfmt::skip]
const HEALTH: &[Param] = &[
    p("HealthEnabled", "healthEnabled", Kind::Bool, "false").supported().anew(),
    p("HealthHost", "healthHost", Kind::Matching(HOST_ADDRESS), "localhost").supported().anew(),
    p("HealthPort", "healthPort", Kind::Int(PORT), "9099").supported().anew(),
    p("HealthTimeoutOverrides", "healthTimeoutOverrides", Kind::NamedDurations, ""),
];

#[rustfmt::skip]
const LOGGING: &[Param] = &[
    p("LogActionRateLimit", "logActionRateLimit", Kind::Matching(RATE), "").spec(SpecRule::Matches(SPEC_RATE)).supported(),
    p("LogActionRateLimitBurst", "logActionRateLimitBurst", Kind::Int(NOT_NEGATIVE), "5").spec(SpecRule::Within(0, 9999)).supported(),
    p("LogDebugFilenameRegex", "logDebugFilenameRegex", Kind::Regex, ""),
    p("LogFilePath", "logFilePath", Kind::Path, "/var/log/calico/felix.log").exits(),
    p("LogPrefix", "logPrefix", Kind::Text, "calico-packet").supported().spec(SpecRule::Matches(SPEC_LOG_PREFIX)),
    p("LogSeverityFile", "logSeverityFile", Kind::OneOf(&["DEBUG", "ERROR", "FATAL", "INFO", "TRACE", "WARNING"]), "INFO"),
    p("LogSeverityScreen", "logSeverityScreen", Kind::OneOf(&["DEBUG", "ERROR", "FATAL", "INFO", "TRACE", "WARNING"]), "INFO").supported(),
    p("LogSeveritySys", "logSeveritySys", Kind::OneOf(&["DEBUG", "ERROR", "FATAL", "INFO", "TRACE", "WARNING"]), "INFO"),
];

#[rustfmt::skip]
const METRICS: &[Param] = &[
    p("PrometheusGoMetricsEnabled", "prometheusGoMetricsEnabled", Kind::Bool, "true"),
    p("PrometheusMetricsCAFile", "prometheusMetricsCAFile", Kind::Text, ""),
    p("PrometheusMetricsCertFile", "prometheusMetricsCertFile", Kind::Text, ""),
    p("PrometheusMetricsClientAuth", "prometheusMetricsClientAuth", Kind::OneOf(&["NoClientCert", "RequireAndVerifyClientCert", "RequireAnyClientCert", "VerifyClientCertIfGiven"]), "NoClientCert").spec(SpecRule::Exactly(&["RequireAndVerifyClientCert", "RequireAnyClientCert", "VerifyClientCertIfGiven", "NoClientCert"])),
    p("PrometheusMetricsEnabled", "prometheusMetricsEnabled", Kind::Bool, "false").supported().anew(),
    p("PrometheusMetricsHost", "prometheusMetricsHost", Kind::Matching(HOST_ADDRESS), "").supported().anew(),
    p("PrometheusMetricsKeyFile", "prometheusMetricsKeyFile", Kind::Text, ""),
    p("PrometheusMetricsPort", "prometheusMetricsPort", Kind::Int(PORT), "9091").supported().anew(),
    p("PrometheusProcessMetricsEnabled", "prometheusProcessMetricsEnabled", Kind::Bool, "true"),
    p("PrometheusWireGuardMetricsEnabled", "prometheusWireGuardMetricsEnabled", Kind::Bool, "true"),
];

#[rustfmt::skip]
const FLOW_LOGS: &[Param] = &[
    p("FlowLogsCollectorDebugTrace", "flowLogsCollectorDebugTrace", Kind::Bool, "false"),
    p("FlowLogsFlushInterval", "flowLogsFlushInterval", Kind::Seconds, "300"),
    p("FlowLogsGoldmaneServer", "flowLogsGoldmaneServer", Kind::Text, ""),
    p("FlowLogsLocalReporter", "flowLogsLocalReporter", Kind::OneOf(&["Disabled", "Enabled"]), "Disabled").spec(SpecRule::Exactly(&["Disabled", "Enabled"])),
    p("FlowLogsPolicyEvaluationMode", "flowLogsPolicyEvaluationMode", Kind::OneOf(&["Continuous", "None"]), "Continuous").spec(SpecRule::Exactly(&["None", "Continuous"])),
];

#[rustfmt::skip]
const AWS: &[Param] = &[
    p("AWSSrcDstCheck", "awsSrcDstCheck", Kind::OneOf(&["Disable", "DoNothing", "Enable"]), "DoNothing").nonzero().spec(SpecRule::Exactly(&["DoNothing", "Enable", "Disable"])),
];

#[rustfmt::skip]
const DEBUG: &[Param] = &[
    p("DebugBPFCgroupV2", "", Kind::Text, "").local(),
    p("DebugCPUProfilePath", "", Kind::Path, "/tmp/felix-cpu-<timestamp>.pprof"),
    p("DebugDisableLogDropping", "debugDisableLogDropping", Kind::Bool, "false"),
    p("DebugHost", "debugHost", Kind::Matching(HOST_ADDRESS), "localhost"),
    p("DebugMemoryProfilePath", "debugMemoryProfilePath", Kind::Path, ""),
    p("DebugPanicAfter", "", Kind::Seconds, "0"),
    p("DebugPort", "debugPort", Kind::Int(PORT), ""),
    p("DebugSimulateCalcGraphHangAfter", "debugSimulateCalcGraphHangAfter", Kind::Seconds, "0"),
    p("DebugSimulateDataRace", "", Kind::Bool, "false"),
    p("DebugSimulateDataplaneApplyDelay", "debugSimulateDataplaneApplyDelay", Kind::Seconds, "0"),
    p("DebugSimulateDataplaneHangAfter", "debugSimulateDataplaneHangAfter", Kind::Seconds, "0"),
];

#[rustfmt::skip]
const USAGE: &[Param] = &[
    p("UsageReportingEnabled", "usageReportingEnabled", Kind::Bool, "true"),
    p("UsageReportingInitialDelaySecs", "usageReportingInitialDelay", Kind::Seconds, "300"),
    p("UsageReportingIntervalSecs", "usageReportingInterval", Kind::Seconds, "86400"),
];
