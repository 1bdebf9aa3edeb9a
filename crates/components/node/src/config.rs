//! `caracal node config`: every parameter of the agent, with its value and where that is from.

use std::{
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use caracal_agent_api::v1::{DumpRequest, agent_client::AgentClient, dump_request::Table};
use caracal_config::{FelixConfig, Param, Problem, ResolvedParam, Sources, resolve};
use caracal_datastore::{DatastoreError, NodeLayers, of_agent};
use caracal_ids::NodeName;
use caracal_store::Store;
use clap::{Args, ValueEnum};
use serde_json::Value;

/// How long a datastore or an agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether the datastore is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Ask {
    /// If one is configured; when it does not answer, that is told and the rest is shown.
    Auto,
    /// Without it there is no answer.
    Always,
    /// Environment and file only.
    Never,
}

#[derive(Debug, Args)]
pub(crate) struct Config {
    /// json or yaml.
    #[arg(short, long, default_value = "json", value_parser = ["json", "yaml"])]
    output: String,
    /// The configuration file.
    #[arg(long, default_value = "/etc/calico/felix.cfg")]
    config_file: PathBuf,
    /// The node whose FelixConfigurations count: FELIX_FELIXHOSTNAME, NODENAME or the host's name unless given.
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Whether the datastore is asked: if one is configured, always, or never.
    #[arg(long, value_enum, default_value = "auto")]
    datastore: Ask,
    /// Ask the agent that runs on this node instead: what it goes by now. Needs root.
    #[arg(long, conflicts_with_all = ["node", "datastore"])]
    live: bool,
    /// Caracal's own parameters, too.
    #[arg(long)]
    own: bool,
}

/// What was found out.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) rows: Vec<Value>,
    /// What is wrong with the parameters, or could not be asked.
    pub(crate) notes: Vec<String>,
}

/// Prints every parameter from environment, file and datastore, or as the running agent has it.
///
/// # Errors
/// When a file is there and cannot be read, or who must be asked does not answer.
pub(crate) async fn show_config(args: &Config, datastore: Option<&Path>) -> anyhow::Result<()> {
    let file = match std::fs::read_to_string(&args.config_file) {
        Ok(t) => Some(t),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(e).with_context(|| format!("reading {}", args.config_file.display())),
    };
    let env: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
        .collect();
    let sources = Sources {
        env,
        file: file.as_deref(),
        ..Sources::default()
    };
    let answer = answer(args, sources, |config| of_agent(config, datastore)).await?;
    for note in &answer.notes {
        eprintln!("caracal node: {note}");
    }
    let text = match args.output.as_str() {
        "yaml" => serde_saphyr::to_string(&answer.rows).context("writing YAML")?,
        _ => serde_json::to_string_pretty(&answer.rows)? + "\n",
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // A reader that has seen enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing to standard output"),
    }
}

type Connected = Result<std::sync::Arc<dyn Store>, DatastoreError>;

pub(crate) async fn answer(
    args: &Config,
    mut sources: Sources<'_>,
    connect: impl FnOnce(&FelixConfig) -> Connected,
) -> anyhow::Result<Answer> {
    let local = FelixConfig::new(&resolve(&sources));
    let mut answer = Answer::default();
    if args.live {
        let dump = tokio::time::timeout(PATIENCE, ask_agent(&local.agent_socket)).await;
        answer.rows = dump
            .with_context(|| format!("the agent at {} does not answer", local.agent_socket))?
            .with_context(|| format!("asking the agent at {}", local.agent_socket))?;
    } else {
        let node = node_name(args, &local, &sources.env)?;
        let layers = match (args.datastore, connect(&local)) {
            (Ask::Never, _) => NodeLayers::default(),
            (ask, connected) => match read(connected, &node).await {
                Ok(layers) => layers,
                // Nobody said that there is one.
                Err(Away::None(_)) if ask == Ask::Auto => NodeLayers::default(),
                Err(away) if ask == Ask::Auto => {
                    answer.notes.push(format!(
                        "the parameters of the datastore are not among these: {away}"
                    ));
                    NodeLayers::default()
                }
                Err(away) => bail!("{away}"),
            },
        };
        layers
            .objects
            .lay(node.as_str(), &layers.node_labels, &mut sources);
        let resolved = resolve(&sources);
        answer
            .notes
            .extend(resolved.problems.iter().map(Problem::to_string));
        let all = resolved.params().iter().chain(resolved.own());
        answer.rows = all.map(ResolvedParam::to_json).collect();
    }
    if !args.own {
        answer
            .rows
            .retain(|row| row["name"].as_str().is_some_and(is_calicos));
    }
    Ok(answer)
}

fn is_calicos(name: &str) -> bool {
    Param::all().any(|p| p.name == name)
}

/// Why a datastore says nothing.
#[derive(Debug, thiserror::Error)]
enum Away {
    #[error("{0}")]
    None(DatastoreError),
    #[error("{0}")]
    Bad(DatastoreError),
    #[error("{0}")]
    Failed(caracal_store::StoreError),
    #[error("it does not answer")]
    Silent,
}

async fn read(connected: Connected, node: &NodeName) -> Result<NodeLayers, Away> {
    let store = connected.map_err(|e| match e {
        DatastoreError::None { .. } => Away::None(e),
        e => Away::Bad(e),
    })?;
    let read = NodeLayers::read(store.as_ref(), node.as_str());
    let read = tokio::time::timeout(PATIENCE, read).await;
    read.map_err(|_| Away::Silent)?.map_err(Away::Failed)
}

/// As the agent does: `FelixHostname`, else `NODENAME`, else the host's own name.
fn node_name(args: &Config, config: &FelixConfig, env: &[(String, String)]) -> anyhow::Result<NodeName> {
    let of_env = || env.iter().find(|(k, v)| k == "NODENAME" && !v.is_empty());
    let given = args.node.clone().or_else(|| config.felix_hostname.clone());
    crate::cli::node_name(given.or_else(|| of_env().map(|(_, v)| v.clone())))
}

async fn ask_agent(socket: &str) -> anyhow::Result<Vec<Value>> {
    let channel = tonic::transport::Endpoint::from_shared(format!("unix://{socket}"))?
        .connect()
        .await?;
    let request = DumpRequest {
        table: Table::Config.into(),
    };
    let mut parts = AgentClient::new(channel).dump(request).await?.into_inner();
    let mut text = Vec::new();
    while let Some(part) = parts.message().await? {
        text.extend(part.data);
    }
    serde_json::from_slice(&text).context("its answer")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use caracal_api::{FelixConfigurationSpec, NodeSpec, Object, Resource};
    use caracal_store::StoreError;
    use caracal_store_memory::MemoryStore;
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        config: Config,
    }

    fn args(text: &str) -> Config {
        Line::parse_from(std::iter::once("config").chain(text.split_whitespace())).config
    }

    fn sources() -> Sources<'static> {
        Sources {
            env: vec![
                ("FELIX_HEALTHPORT".into(), "1234".into()),
                ("NODENAME".into(), "n1".into()),
            ],
            file: Some("[global]\nVXLANPort = 4790\n"),
            ..Sources::default()
        }
    }

    fn none() -> Connected {
        Err(DatastoreError::None {
            socket: "/nonexistent".into(),
        })
    }

    fn row<'a>(answer: &'a Answer, name: &str) -> &'a Value {
        let mut found = answer.rows.iter().filter(|r| r["name"] == name);
        let row = found.next().unwrap_or_else(|| panic!("{name} is not there"));
        assert!(found.next().is_none());
        row
    }

    /// Value, raw text and source of a parameter.
    fn said(answer: &Answer, name: &str) -> (Value, Value, String) {
        let row = row(answer, name);
        let source = row["source"].as_str().unwrap().to_owned();
        (row["value"].clone(), row["raw"].clone(), source)
    }

    async fn furnished() -> MemoryStore {
        let store = MemoryStore::etcd();
        for (name, spec) in [
            (
                "default",
                json!({"logSeverityScreen": "Error", "healthPort": 5, "vxlanVNI": 7, "bpfEnabled": true}),
            ),
            (
                "rack",
                json!({"logSeverityScreen": "Debug", "vxlanMTU": 1400, "nodeSelector": "rack == '1'"}),
            ),
            ("node.n1", json!({"logSeverityScreen": "Warning"})),
            ("node.n2", json!({"logSeverityScreen": "Fatal"})),
        ] {
            let fields = spec.as_object().cloned().unwrap();
            let object = Object::new(name, FelixConfigurationSpec { fields });
            store.create(object.into()).await.unwrap();
        }
        let mut node: Resource = Object::new("n1", NodeSpec::default()).into();
        node.metadata_mut().labels.insert("rack".into(), "1".into());
        store.create(node).await.unwrap();
        store
    }

    #[tokio::test]
    async fn each_source_is_told() {
        let store: Arc<dyn Store> = Arc::new(furnished().await);
        let found = answer(&args(""), sources(), |_| Ok(store.clone())).await.unwrap();
        assert_eq!(found.rows.len(), 209);
        for (name, value, raw, source) in [
            ("HealthPort", json!(1234), "1234", "env"),
            ("VXLANPort", json!(4790), "4790", "file"),
            ("LogSeverityScreen", json!("WARNING"), "Warning", "node"),
            ("VXLANMTU", json!(1400), "1400", "selector"),
            ("VXLANVNI", json!(7), "7", "global"),
            ("HealthHost", json!("localhost"), "localhost", "default"),
        ] {
            assert_eq!(
                said(&found, name),
                (value, raw.into(), source.to_owned()),
                "{name}"
            );
        }
        assert_eq!(row(&found, "VXLANMTU")["supported"], true);
        assert_eq!(row(&found, "BPFEnabled")["supported"], false);
        assert_eq!(row(&found, "BPFEnabled")["env"], "FELIX_BPFEnabled");
        // Another node of the same cluster.
        let other = answer(&args("--node n2 --own"), sources(), |_| Ok(store.clone()))
            .await
            .unwrap();
        assert_eq!(said(&other, "LogSeverityScreen").2, "node");
        assert_eq!(said(&other, "VXLANMTU").2, "default");
        assert_eq!(row(&other, "CutConnections")["env"], "CARACAL_CUT_CONNECTIONS");
        assert_eq!(other.notes, Vec::<String>::new());
    }

    #[tokio::test]
    async fn without_a_datastore_the_rest_is_told() {
        for text in ["", "--datastore never"] {
            let found = answer(&args(text), sources(), |_| none()).await.unwrap();
            assert_eq!((found.rows.len(), found.notes.len()), (209, 0));
            assert_eq!(said(&found, "HealthPort").2, "env");
            assert_eq!(said(&found, "LogSeverityScreen").2, "default");
        }
        let e = answer(&args("--datastore always"), sources(), |_| none())
            .await
            .unwrap_err();
        assert!(e.to_string().contains("no datastore is configured"), "{e}");
        let store = furnished().await;
        store.fail_next(9, &StoreError::Unavailable("it burns".into()));
        let store: Arc<dyn Store> = Arc::new(store);
        let found = answer(&args(""), sources(), |_| Ok(store.clone())).await.unwrap();
        assert_eq!(said(&found, "LogSeverityScreen").2, "default");
        assert!(found.notes[0].contains("it burns"), "{:?}", found.notes);
        let e = answer(&args("--datastore always"), sources(), |_| Ok(store.clone()))
            .await
            .unwrap_err();
        assert!(e.to_string().contains("it burns"), "{e}");
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_beside_what_is_used() {
        let store = MemoryStore::etcd();
        let fields = json!({"healthPort": 123_456, "nonsense": 1});
        let fields = fields.as_object().cloned().unwrap();
        let object = Object::new("default", FelixConfigurationSpec { fields });
        store.create(object.into()).await.unwrap();
        let store: Arc<dyn Store> = Arc::new(store);
        let bare = Sources {
            env: vec![("NODENAME".into(), "n1".into())],
            ..Sources::default()
        };
        let found = answer(&args(""), bare, |_| Ok(store.clone())).await.unwrap();
        assert_eq!(
            said(&found, "HealthPort"),
            (json!(9099), "123456".into(), "global".to_owned())
        );
        let notes = found.notes.join("\n");
        assert!(
            notes.contains("healthPort") && notes.contains("nonsense"),
            "{notes}"
        );
    }

    #[tokio::test]
    async fn no_agent_is_an_error_that_names_its_socket() {
        let mut bare = sources();
        bare.env
            .push(("CARACAL_AGENT_SOCKET".into(), "/nonexistent/agent.sock".into()));
        let e = answer(&args("--live"), bare, |_| none()).await.unwrap_err();
        assert!(format!("{e:#}").contains("/nonexistent/agent.sock"), "{e:#}");
    }
}
