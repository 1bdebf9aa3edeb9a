//! CNI plugins `calico` and `calico-ipam`.
//!
//! ADD observes (kernel and datastore), plans ([`plan_addresses`], [`plan_attach`]: pure, printable), does the steps, and
//! undoes them when one fails. With an agent addresses and endpoint are the agent's work ([`plan_with_agent`],
//! [`plan_after_agent`]), and this process has no connection to the datastore. `docs/cni.md` is the reference of the configuration.
//!
//! - **Invariant:** ADD answers only when address and endpoint are in the datastore.
//! - **Invariant:** what was made for one container is never touched by a call for another: addresses by their handle,
//!   the endpoint by its container id, the veth pair by its alias.
//! - **Invariant:** only releases are ever left for later (module `journal`), and never one of an attachment that is there.
//! - **Invariant:** every step may be done again: ADD after a crash between any two steps repairs.
//! - No other process is started, but for IPAM plugins of others.

mod add;
mod addresses;
mod agent;
mod annotations;
mod attach;
mod call;
mod check;
mod datastore;
mod del;
mod delegate;
mod endpoint;
mod env;
mod error;
mod gc;
mod identity;
mod install;
mod journal;
mod kernel;
mod lock;
mod logging;
mod netconf;
mod on_demand;
mod plan;
mod pod_cidr;
mod policy;
mod readiness;
mod result;
mod run;
mod version;

#[cfg(test)]
mod tests;

use std::ffi::OsString;

pub use error::{CniError, Code};
pub use identity::Identity;
pub use netconf::{
    Args, Attachment, CniArgs, ContainerSettings, FeatureControl, IpamConf, KubernetesConf, Label, NetConf,
    PolicyConf, RuntimeConfig,
};
pub use plan::{
    AddressSource, HOST_MAC, InnerConfig, Observed, SeenLink, Step, Wait, Wanted, families_of, gateway,
    inner_routes, plan_addresses, plan_after_agent, plan_attach, plan_with_agent,
};
pub use result::{AddResult, ResultRoute};
pub use version::Version;

/// Finishes releases that earlier calls left for later, as far as their datastores answer now. It blocks.
pub fn finish_releases() {
    run::finish_releases();
}

/// The plugin `calico`: reads environment and stdin, answers on stdout. `args[0]` is the program's name. The result is
/// the exit code.
#[must_use]
#[allow(
    clippy::needless_pass_by_value,
    reason = "the shape of every component's entry"
)]
pub fn run_plugin(args: Vec<OsString>) -> i32 {
    run::process(run::Plugin::Calico, &args)
}

/// The IPAM plugin `calico-ipam`, like [`run_plugin`].
#[must_use]
#[allow(
    clippy::needless_pass_by_value,
    reason = "the shape of every component's entry"
)]
pub fn run_ipam(args: Vec<OsString>) -> i32 {
    run::process(run::Plugin::Ipam, &args)
}
