//! `caracal lab`: a network of several nodes on this machine.
//!
//! A node is a network namespace and the directories that its processes see as `/run/calico`, `/var/lib/calico`,
//! `/etc/calico` and `/etc/cni`; a pod is a network namespace attached by the CNI plugin. All programs are this very
//! executable under other names, so a lab is what its build is.
//!
//! - `state`: what there is, written before it is made. `up`, `down`: all of it. `pods`, `node`, `exec`: its parts.
//! - `manifests`, `apply`: Kubernetes and Calico YAML. `status`: what there is, for people.
//! - `services`: the endpoints of services, kept right as pods come and go.
//! - `expected`: who should reach whom, by engine and oracle. `converge`: when the agents have done what the datastore
//!   says. `probe`: expected beside what packets say; `table` shows it.
//!
//! **Invariant:** whatever is made is in `state.json` before, so `down` finds it after a crash at any moment.
//! **Invariant:** only processes that are in a lab's namespaces, or that it started (known by number and start time), are
//! ever signalled.

mod apply;
mod cli;
mod converge;
mod down;
mod exec;
mod expected;
mod manifests;
mod node;
mod parallel;
mod pods;
mod probe;
mod progress;
mod services;
mod state;
mod status;
mod table;
mod up;

pub use cli::run;
