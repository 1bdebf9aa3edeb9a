use caracal_selector::Selector;

use crate::{
    CalicoNodeStatusSpec, FelixConfigurationSpec, HostEndpointTemplate, KubeControllersConfigurationSpec,
    Object,
    validate::{
        check::{Check, Range},
        meta,
    },
};

const LOG_SEVERITIES: &[&str] = &["None", "Debug", "Info", "Warning", "Error", "Fatal", "Panic"];

pub(super) fn controllers(c: &mut Check, spec: &KubeControllersConfigurationSpec) {
    if !spec.log_severity_screen.is_empty() {
        c.one_of("logSeverityScreen", &spec.log_severity_screen, LOG_SEVERITIES);
    }
    for (key, port) in [
        ("prometheusMetricsPort", spec.prometheus_metrics_port),
        ("debugProfilePort", spec.debug_profile_port),
    ] {
        if let Some(p) = port {
            c.bounds(key, p, 0, 65535);
        }
    }
    c.field("controllers", |c| {
        if let Some(hep) = spec
            .controllers
            .node
            .as_ref()
            .and_then(|n| n.host_endpoint.as_ref())
        {
            c.field("node", |c| {
                c.field("hostEndpoint", |c| c.each("templates", &hep.templates, template));
            });
        }
    });
}

fn template(c: &mut Check, t: &HostEndpointTemplate) {
    c.optional_name("generateName", &t.generate_name);
    c.unique("interfaceCIDRs", &t.interface_cidrs);
    c.each("interfaceCIDRs", &t.interface_cidrs, |c, net| {
        c.cidr(net, Range::Loose);
    });
    c.plain_selector("nodeSelector", &t.node_selector);
    meta::labels(c, "labels", &t.labels);
    meta::annotations(c, &t.annotations);
}

pub(super) fn node_status(c: &mut Check, spec: &CalicoNodeStatusSpec) {
    c.require(
        !spec.node.is_empty(),
        "node",
        "",
        "must name the node that reports",
    );
    c.optional_name("node", &spec.node);
    let classes: Vec<String> = spec.classes.iter().map(|k| format!("{k:?}")).collect();
    c.unique("classes", &classes);
    if let Some(n) = spec.update_period_seconds {
        c.bounds("updatePeriodSeconds", n, 0, 86400);
    }
}

/// Only how the object is chosen and which parameters exclude each other; each alone is checked where their table is.
pub(super) fn felix_configuration(c: &mut Check, o: &Object<FelixConfigurationSpec>) {
    let is_set = |field: &str| o.spec.fields.get(field).is_some_and(|v| !v.is_null());
    if is_set("routeTableRange") && is_set("routeTableRanges") {
        c.field("spec", |c| {
            c.fail_at(
                "routeTableRange",
                "",
                "is the old form of routeTableRanges: give only the latter",
            );
        });
    }
    let Some(selector) = o.spec.fields.get("nodeSelector") else {
        return;
    };
    let name = &o.metadata.name;
    c.field("spec", |c| {
        if name == "default" || name.starts_with("node.") {
            c.fail_at(
                "nodeSelector",
                "",
                format!("must not be set on {name:?}, whose name says the nodes"),
            );
        }
        match selector.as_str().map(Selector::parse) {
            Some(Ok(s)) if s.contains_global() => c.fail_at("nodeSelector", "", "cannot use global()"),
            Some(Ok(_)) => {}
            Some(Err(e)) => c.fail_at("nodeSelector", "", e.to_string()),
            None => c.fail_at("nodeSelector", selector, "is not a selector"),
        }
    });
}
