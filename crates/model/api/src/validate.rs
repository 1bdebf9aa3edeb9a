//! What may be stored: every rule that one object can be held against alone, and those that need a second one.

mod bgp;
mod check;
mod cluster;
mod cross;
mod endpoint;
mod ipam;
mod kube_service;
mod meta;
mod policy;
mod rule;
mod staged;
mod text;

use std::fmt;

pub use cross::{
    policy_tier, validate_pool_among, validate_tier_deletion, validate_tier_exists, validate_update,
};

use self::check::Check;
use crate::{FieldPath, Problem, Resource, TRIAL_PREVIOUS, Trial};

/// A field with a value that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field.
    pub path: FieldPath,
    /// Its value, shortened.
    pub value: String,
    /// Why it is refused.
    pub reason: String,
    /// What is allowed instead; empty where the reason says it.
    pub allowed: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_root() {
            write!(f, "{}: ", self.path)?;
        }
        if !self.value.is_empty() {
            write!(f, "{:?} ", self.value)?;
        }
        f.write_str(&self.reason)?;
        if !self.allowed.is_empty() {
            write!(f, "; allowed: {}", self.allowed)?;
        }
        Ok(())
    }
}

impl From<FieldError> for Problem {
    fn from(e: FieldError) -> Self {
        let message = FieldError {
            path: FieldPath::root(),
            ..e.clone()
        };
        Problem {
            path: e.path,
            line: None,
            message: message.to_string(),
        }
    }
}

/// Everything that is wrong with an object, after [`crate::default_resource`]. The parameters of `FelixConfiguration`
/// are not looked at: `caracal-config` has the table of them and yields its own errors.
#[must_use]
pub fn validate(resource: &Resource) -> Vec<FieldError> {
    let mut c = Check::default();
    c.field("metadata", |c| meta::metadata(c, resource));
    whole_spec(&mut c, resource);
    trial(&mut c, resource);
    c.errors
}

/// What is wrong with an object's spec, as [`validate`] tells it: for those who read what others stored, long ago perhaps,
/// when names had other rules.
#[must_use]
pub fn validate_spec(resource: &Resource) -> Vec<FieldError> {
    let mut c = Check::default();
    whole_spec(&mut c, resource);
    c.errors
}

fn whole_spec(c: &mut Check, resource: &Resource) {
    match resource {
        Resource::Tier(o) => policy::tier(c, o),
        Resource::FelixConfiguration(o) => cluster::felix_configuration(c, o),
        other => c.field("spec", |c| spec(c, other)),
    }
}

/// What an object on trial goes back to is held to the rules as the object itself is.
fn trial(c: &mut Check, resource: &Resource) {
    let fail = |c: &mut Check, annotation: &str, why: String| {
        c.field("metadata", |c| {
            c.field("annotations", |c| c.fail_at(annotation, "", why))
        });
    };
    match Trial::of(resource) {
        Ok(None) => {}
        Ok(Some(trial)) => {
            for e in trial.previous.iter().flat_map(|p| validate(p)) {
                fail(c, TRIAL_PREVIOUS, format!("what was before is not valid: {e}"));
            }
        }
        Err(e) => fail(c, e.annotation, e.why),
    }
}

fn spec(c: &mut Check, resource: &Resource) {
    match resource {
        Resource::NetworkPolicy(o) => policy::network_policy(c, &o.spec),
        Resource::GlobalNetworkPolicy(o) => policy::global_network_policy(c, &o.spec),
        Resource::StagedNetworkPolicy(o) => staged::network_policy(c, &o.spec),
        Resource::StagedGlobalNetworkPolicy(o) => staged::global_network_policy(c, &o.spec),
        Resource::StagedKubernetesNetworkPolicy(o) => staged::kubernetes_network_policy(c, &o.spec),
        Resource::Profile(o) => policy::profile(c, &o.spec),
        Resource::NetworkSet(o) => policy::nets(c, &o.spec.nets),
        Resource::GlobalNetworkSet(o) => policy::nets(c, &o.spec.nets),
        Resource::WorkloadEndpoint(o) => endpoint::workload(c, &o.spec),
        Resource::HostEndpoint(o) => endpoint::host(c, &o.spec),
        Resource::Node(o) => endpoint::node(c, &o.spec),
        Resource::IpPool(o) => ipam::pool(c, &o.spec),
        Resource::IpReservation(o) => ipam::reservation(c, &o.spec),
        Resource::IpamBlock(o) => ipam::block(c, &o.spec),
        Resource::IpamHandle(o) => ipam::handle(c, &o.spec),
        Resource::BlockAffinity(o) => ipam::affinity(c, &o.spec),
        Resource::IpamConfiguration(o) => ipam::configuration(c, &o.spec),
        Resource::BgpConfiguration(o) => bgp::configuration(c, &o.spec),
        Resource::BgpPeer(o) => bgp::peer(c, &o.spec),
        Resource::BgpFilter(o) => bgp::filter(c, &o.spec),
        Resource::KubeControllersConfiguration(o) => cluster::controllers(c, &o.spec),
        Resource::CalicoNodeStatus(o) => cluster::node_status(c, &o.spec),
        Resource::KubernetesService(o) => kube_service::service(c, &o.spec),
        Resource::KubernetesEndpointSlice(o) => kube_service::slice(c, &o.spec),
        Resource::LiveMigration(o) => kube_service::live_migration(c, &o.spec),
        Resource::ClusterInformation(_) | Resource::Tier(_) | Resource::FelixConfiguration(_) => {}
    }
}
