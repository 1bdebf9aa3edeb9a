//! From the process to a verb and back.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{Read, Write},
};

use serde::{Deserialize, Serialize};

use crate::{
    add,
    call::{Call, Invocation},
    check, del,
    env::{Env, Needs},
    error::{CniError, Code},
    gc, install, journal, logging,
    netconf::NetConf,
    on_demand,
    version::{Version, version_json},
};

/// The two plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Plugin {
    Calico,
    Ipam,
}

/// What a plugin answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) stdout: String,
    pub(crate) exit: i32,
}

/// The most that is read from stdin.
const MAX_STDIN: u64 = 4 << 20;

/// The whole of a plugin's process.
pub(crate) fn process(plugin: Plugin, args: &[OsString]) -> i32 {
    // The threads of a call are few and short; a heap of its own for each would be made and thrown away.
    caracal_sys::limit_heaps(1);
    let env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
        .collect();
    let words: Vec<_> = args.iter().skip(1).map(|a| a.to_string_lossy()).collect();
    match words.first().map(AsRef::as_ref) {
        Some("-v" | "--version") => return print(&format!("{}\n", env!("CARGO_PKG_VERSION")), 0),
        Some("-h" | "--help") => return print(&help(plugin), 0),
        Some("install") if plugin == Plugin::Calico => {
            return install::run(args.get(2..).unwrap_or_default(), env);
        }
        Some(other) => {
            eprintln!("unknown argument {other:?}\n{}", help(plugin));
            return 64;
        }
        None => {}
    }
    let mut stdin = Vec::new();
    // A call by hand, without a runtime: do not wait for a terminal.
    if env.contains_key("CNI_COMMAND")
        && let Err(e) = std::io::stdin().take(MAX_STDIN).read_to_end(&mut stdin)
    {
        let error = CniError::new(Code::Io, "reading the network configuration from stdin", e);
        return print(&error.to_json(Version::FALLBACK.as_str()), 1);
    }
    let given = Invocation {
        env,
        stdin,
        ..Invocation::default()
    };
    let reply = match on_demand::drive(answer(plugin, &given), on_demand::make) {
        Ok(reply) => reply,
        Err(e) => {
            let error = CniError::new(Code::Io, "starting", e);
            Reply {
                stdout: error.to_json(Version::FALLBACK.as_str()),
                exit: 1,
            }
        }
    };
    print(&reply.stdout, reply.exit)
}

pub(crate) fn finish_releases() {
    let given = Invocation::default();
    if !journal::is_waiting(&given) {
        return;
    }
    match on_demand::make() {
        Ok(runtime) => runtime.block_on(journal::replay(&given)),
        Err(error) => tracing::warn!(%error, "releases that were left cannot be finished now"),
    }
}

fn print(text: &str, exit: i32) -> i32 {
    // A runtime that does not listen is told by the exit code alone.
    let _ = std::io::stdout().write_all(text.as_bytes());
    exit
}

fn help(plugin: Plugin) -> String {
    let what = match plugin {
        Plugin::Calico => "the CNI plugin `calico`",
        Plugin::Ipam => "the CNI plugin `calico-ipam`",
    };
    let versions = Version::ALL.map(Version::as_str).join(", ");
    format!(
        "This is {what}. Container runtimes call it, with CNI_COMMAND and other variables set and the network \
         configuration on stdin.\nIt speaks CNI {versions}.\n"
    )
}

/// Answers one call.
pub(crate) async fn answer(plugin: Plugin, given: &Invocation) -> Reply {
    let command = given
        .env
        .get("CNI_COMMAND")
        .map(String::as_str)
        .unwrap_or_default();
    let conf = NetConf::read(&given.stdin);
    let said = conf.as_ref().map(|c| c.cni_version.clone()).unwrap_or_default();
    if command == "VERSION" {
        return Reply {
            stdout: version_json(&said),
            exit: 0,
        };
    }
    match verb(plugin, given, command, conf).await {
        Ok(stdout) => Reply { stdout, exit: 0 },
        Err(e) => {
            tracing::error!(command, error = %e, code = e.code, "failed");
            let known = Version::parse(&said).unwrap_or(Version::FALLBACK);
            Reply {
                stdout: e.to_json(known.as_str()),
                exit: 1,
            }
        }
    }
}

/// The verbs beside VERSION: what they need, and since which version they exist.
fn requirements(command: &str) -> Result<(Needs, Version), CniError> {
    Ok(match command {
        "ADD" => (Needs::Namespace, Version::V0_1_0),
        "DEL" => (Needs::Container, Version::V0_1_0),
        "CHECK" => (Needs::Namespace, Version::V0_4_0),
        "STATUS" | "GC" => (Needs::Nothing, Version::V1_1_0),
        "" => {
            return Err(CniError::env(
                "CNI_COMMAND",
                "it is missing: container runtimes set it; this program is a CNI plugin",
            ));
        }
        other => {
            let shown: String = other.chars().take(40).collect();
            return Err(CniError::env(
                "CNI_COMMAND",
                format!("{shown:?} is not known: ADD, DEL, CHECK, STATUS, GC and VERSION are"),
            ));
        }
    })
}

async fn verb(
    plugin: Plugin,
    given: &Invocation,
    command: &str,
    conf: Result<NetConf, CniError>,
) -> Result<String, CniError> {
    let (needs, since) = requirements(command)?;
    let conf = conf?;
    let version = Version::parse(&conf.cni_version)?;
    logging::start(&conf)?;
    if version < since {
        return Err(CniError::new(
            Code::IncompatibleVersion,
            "incompatible CNI version",
            format!(
                "{command} exists since {}, and the configuration says {}",
                since.as_str(),
                version.as_str()
            ),
        ));
    }
    let env = Env::read(given.env.clone())?;
    let call = Call::new(given, &env, &conf, version, needs)?;
    tracing::debug!(command, id = ?call.id, datastore = call.store.describe(), "called");
    if plugin != Plugin::Calico || !matches!(command, "ADD" | "DEL") {
        on_demand::runtime().await;
    }
    let nothing = |()| String::new();
    let answer = match (command, plugin) {
        ("ADD", Plugin::Calico) => add::add(&call).await.map(|r| r.to_json(version)),
        ("ADD", Plugin::Ipam) => add::add_addresses(&call).await.map(|r| r.to_json(version)),
        ("DEL", Plugin::Calico) => del::del(&call).await.map(nothing),
        ("DEL", Plugin::Ipam) => del::release(&call).await.map(nothing),
        ("CHECK", Plugin::Calico) => check::check(&call).await.map(nothing),
        ("CHECK", Plugin::Ipam) => check::check_addresses(&call).await.map(nothing),
        ("GC", plugin) => gc::gc(&call, plugin).await.map(nothing),
        _ => check::status(&call).await.map(nothing),
    };
    if answer.is_ok() && !matches!(command, "CHECK" | "STATUS") {
        journal::replay(given).await;
    }
    answer
}
