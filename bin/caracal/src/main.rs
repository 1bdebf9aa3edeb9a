//! Caracal: one binary under many names. The name it is called by, or its first argument, picks the component.
//!
//! Called as `calico` or `calico-ipam` with `CNI_COMMAND` set it is the CNI plugin. **Invariant:** no logic here, only
//! the choice.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::exit;

/// A command that cannot be run as asked (`EX_USAGE`).
const USAGE: i32 = 64;

type Run = fn(Vec<OsString>) -> i32;

/// A subcommand, the name a link may give it, what it does, and its entry if this version has it.
struct Component(&'static str, &'static str, &'static str, Option<Run>);

#[rustfmt::skip]
const COMPONENTS: &[Component] = &[
    Component("felix", "calico-felix", "the node agent", Some(felix)),
    Component("node", "calico-node", "prepares a node: its object, its tunnel addresses", Some(caracal_node::run)),
    Component("ipam", "caracal-ipam", "the garbage collector of addresses", Some(caracal_node::run_ipam)),
    Component("store", "caracal-store", "the embedded datastore", Some(caracal_store_server::run)),
    Component("cni", "calico-cni", "the CNI plugin `calico`", Some(caracal_cni::run_plugin)),
    Component("cni-ipam", "calico-ipam", "the CNI plugin `calico-ipam`", Some(caracal_cni::run_ipam)),
    Component("ctl", "calicoctl", "reads and writes resources (calicoctl)", Some(caracal_calicoctl::run)),
    Component("lab", "caracal-lab", "a network of several nodes on this machine", Some(caracal_lab::run)),
    Component("policy", "caracal-policy", "what a policy change does, whether it is tested, what is wrong", Some(caracal_inspect::policy)),
    Component("policy-check", "policy-check", "judges the cases of a truth table", Some(caracal_lab::policy_check)),
    Component("policy-fuzz", "policy-fuzz", "compares oracle, engine and dataplane on random policies", Some(caracal_lab::policy_fuzz)),
    Component("validate", "caracal-validate", "judges manifests without a datastore", Some(caracal_validate::run)),
    Component("why", "caracal-why", "why a packet is allowed or denied", Some(caracal_query::why)),
    Component("top", "caracal-top", "the busiest rules, and those that no packet ever met", Some(caracal_query::top)),
    Component("watch", "caracal-watch", "packets that policy denies, as they come", Some(caracal_query::watch)),
    Component("doctor", "caracal-doctor", "finds what is wrong with a node", None),
    Component("query", "calicoq", "asks about policies and endpoints (calicoq)", Some(caracal_query::calicoq)),
    Component("typha", "calico-typha", "fans the datastore out to agents", None),
    Component("confd", "calico-confd", "configures BIRD", None),
    Component("dikastes", "calico-dikastes", "judges requests for Envoy", None),
    Component("kube-controllers", "calico-kube-controllers", "keeps Kubernetes and the datastore together", None),
    Component("apiserver", "calico-apiserver", "serves projectcalico.org/v3", None),
];

/// The agent finishes what plugins left.
fn felix(args: Vec<OsString>) -> i32 {
    caracal_felix::finish_releases_by(caracal_cni::finish_releases);
    caracal_felix::run(args)
}

fn find(name: &str) -> Option<&'static Component> {
    COMPONENTS
        .iter()
        .find(|Component(command, link, ..)| *command == name || *link == name)
}

fn main() {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let name = args.first().map(|a| file_name(a)).unwrap_or_default();
    exit(match find(&name) {
        _ if name == "calico" && std::env::var_os("CNI_COMMAND").is_some() => caracal_cni::run_plugin(args),
        Some(component) => start(component, &name, args),
        None => subcommand(args.split_off(args.len().min(1))),
    });
}

/// The last part of the path that the program was called by.
fn file_name(arg: &OsStr) -> String {
    std::path::Path::new(arg)
        .file_name()
        .unwrap_or(arg)
        .to_string_lossy()
        .into_owned()
}

/// Runs a component under the name it was asked for by; `args[0]` becomes that name.
fn start(Component(.., about, run): &Component, name: &str, mut args: Vec<OsString>) -> i32 {
    let Some(run) = run else {
        eprintln!("{name}: this component ({about}) is not in this version of Caracal");
        return USAGE;
    };
    args[0] = name.into();
    run(args)
}

fn subcommand(args: Vec<OsString>) -> i32 {
    let Some(first) = args.first().map(|a| a.to_string_lossy().into_owned()) else {
        eprint!("{}", help());
        return USAGE;
    };
    match first.as_str() {
        "-h" | "--help" | "help" => say(&help()),
        "-V" | "--version" | "version" => say(&version()),
        _ => match find(&first) {
            Some(component) => start(component, &format!("caracal {first}"), args),
            None => {
                eprintln!("caracal: there is no command {first:?}{}", hint(&first));
                eprintln!("Try 'caracal --help'.");
                USAGE
            }
        },
    }
}

/// Commands that begin alike.
fn hint(given: &str) -> String {
    let start: String = given.chars().take(2).collect();
    let near = COMPONENTS
        .iter()
        .map(|c| c.0)
        .filter(|c| start.len() > 1 && c.starts_with(&start));
    let near = near.collect::<Vec<_>>().join(", ");
    if near.is_empty() {
        near
    } else {
        format!(" (there is {near})")
    }
}

/// Prints, and does not mind a reader that went away.
fn say(text: &str) -> i32 {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("caracal: cannot write the output: {e}");
            1
        }
        _ => 0,
    }
}

fn version() -> String {
    let commit = option_env!("CARACAL_COMMIT").filter(|c| !c.is_empty());
    let commit = commit.map(|c| format!(" ({c})")).unwrap_or_default();
    format!("caracal {}{commit}\n", env!("CARGO_PKG_VERSION"))
}

fn help() -> String {
    let mut text =
        "Caracal: pod networking and network policy.\n\nUsage: caracal COMMAND [ARGUMENTS]\n\n".to_owned();
    let list = |ready: bool| {
        let some = COMPONENTS.iter().filter(move |c| c.3.is_some() == ready);
        some.map(|c| format!("  {:<18}{}\n", c.0, c.2))
    };
    text.extend(list(true));
    text += "  version           the version\n\nNamed here, not in this version:\n";
    text.extend(list(false));
    text + "\n'caracal COMMAND --help' tells more. A link named calicoctl, calicoq, calico-felix, … runs that command.\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_link_that_make_installs_is_a_component() {
        let makefile = include_str!("../../../Makefile");
        let links = makefile
            .lines()
            .find_map(|l| l.strip_prefix("LINKS := "))
            .unwrap();
        for link in links.split_whitespace() {
            assert!(COMPONENTS.iter().any(|c| c.1 == link), "{link}");
        }
    }

    #[test]
    fn every_name_is_given_once() {
        let mut names: Vec<_> = COMPONENTS.iter().flat_map(|c| [c.0, c.1]).collect();
        names.sort_unstable();
        names.dedup();
        // A component may be linked under its own name.
        let same = COMPONENTS.iter().filter(|c| c.0 == c.1).count();
        assert_eq!(names.len(), 2 * COMPONENTS.len() - same);
    }
}
