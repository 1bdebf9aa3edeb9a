//! `caracal store watch`: what a program of a node is fed, as it comes.

use std::{
    io::{self, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use caracal_api::{Kind, ResourceKey, value_to_yaml};
use caracal_runtime::{Shutdown, on_signals};
use caracal_store::ListOptions;
use caracal_syncer::{Source, Stream, Syncer};
use caracal_update::{Event, Update};
use serde_json::{Value, json};

use crate::cli::{Output, Streams, Watch};

/// Follows what was asked for until told to stop, or until the first snapshot is complete.
pub(crate) async fn watch(args: &Watch) -> Result<i32> {
    let sources = sources(args)?;
    let (_, store) = caracal_datastore::from_process(args.config.as_deref())?;
    let (syncer, mut events) = Syncer::new(store.clone(), sources);
    tokio::spawn(syncer.run());
    let shutdown = Shutdown::new();
    tokio::spawn(on_signals(shutdown.clone()));
    let mut shown = Shown {
        output: args.output,
        out: io::stdout(),
        objects: 0,
        failed: None,
    };
    let deadline = args
        .timeout
        .map(|s| tokio::time::Instant::now() + Duration::from_secs(s));
    let mut synced = false;
    loop {
        let late = async {
            match deadline {
                Some(at) if !synced => tokio::time::sleep_until(at).await,
                _ => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            event = events.recv() => event.context("the feed ended")?,
            () = shutdown.wait() => return Ok(0),
            () = late => bail!(
                "{}: no complete snapshot within {} s{}",
                store.describe(),
                args.timeout.unwrap_or_default(),
                shown.failed.map(|why| format!(": {why}")).unwrap_or_default(),
            ),
        };
        match shown.event(event) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(0),
            Err(e) => return Err(e).context("writing the output"),
            Ok(now) => synced |= now,
        }
        if synced && args.once {
            return Ok(0);
        }
    }
}

fn sources(args: &Watch) -> Result<Vec<Source>> {
    let node = args.node.as_deref();
    let stream = match args.stream {
        Some(Streams::Felix) => Stream::Felix,
        Some(Streams::Bgp) => Stream::Bgp,
        Some(Streams::Tunnel) => Stream::Tunnel,
        Some(Streams::NodeStatus) => Stream::NodeStatus,
        None => return kinds(args),
    };
    Ok(stream.sources(node))
}

fn kinds(args: &Watch) -> Result<Vec<Source>> {
    let part = ListOptions {
        namespace: args.namespace.clone(),
        labels: args.selector.clone(),
        ..ListOptions::default()
    };
    let mut kinds = Vec::new();
    for word in &args.kind {
        let kind = Kind::from_cli(word).with_context(|| format!("there is no kind {word:?}"))?;
        ensure!(!kinds.contains(&kind), "--kind names {kind} twice");
        kinds.push(kind);
    }
    Ok(kinds.into_iter().map(|k| Source::part(k, part.clone())).collect())
}

/// Events as the user wants to see them.
struct Shown<W> {
    output: Output,
    out: W,
    objects: usize,
    /// Why the datastore is away, if it is.
    failed: Option<String>,
}

impl<W: Write> Shown<W> {
    /// Shows an event; says whether the snapshot is complete now.
    fn event(&mut self, event: Event) -> io::Result<bool> {
        let mut done = false;
        match event {
            Event::Updates(updates) => {
                for update in &updates {
                    self.update(update)?;
                }
            }
            Event::InSync(_) => {
                done = true;
                let objects = self.objects;
                self.line(
                    &format!("in sync ({objects} objects)"),
                    &json!({ "event": "inSync", "objects": objects }),
                )?;
            }
            Event::Unreadable { key, reason } => {
                let mut value = named("unreadable", &key);
                value["reason"] = reason.reason.as_str().into();
                self.line(&format!("unreadable {key}: {reason}"), &value)?;
            }
            Event::Disconnected(why) => {
                self.line(
                    &format!("disconnected: {why}"),
                    &json!({ "event": "disconnected", "reason": why }),
                )?;
                self.failed = Some(why);
            }
            Event::Reconnected => {
                self.failed = None;
                self.line("connected again", &json!({ "event": "reconnected" }))?;
            }
        }
        self.out.flush()?;
        Ok(done)
    }

    fn update(&mut self, update: &Update) -> io::Result<()> {
        let key = &update.key;
        match &update.value {
            Some(resource) => {
                self.objects += 1;
                let revision = resource.metadata().resource_version.as_deref();
                let mut value = named("set", key);
                if self.output != Output::Text {
                    value["object"] = resource.to_value();
                }
                self.line(&format!("set {key} at {}", revision.unwrap_or("-")), &value)
            }
            None => self.line(&format!("gone {key}"), &named("gone", key)),
        }
    }

    fn line(&mut self, text: &str, value: &Value) -> io::Result<()> {
        match self.output {
            Output::Text => writeln!(self.out, "{text}"),
            Output::Json => writeln!(self.out, "{value}"),
            Output::Yaml => write!(self.out, "---\n{}", value_to_yaml(value)),
        }
    }
}

fn named(event: &str, key: &ResourceKey) -> Value {
    let mut value = json!({ "event": event, "kind": key.kind.as_str(), "name": key.name });
    if let Some(namespace) = key.namespace() {
        value["namespace"] = namespace.into();
    }
    value
}

/// `caracal store reports`: what nodes say of themselves and of their endpoints.
pub(crate) async fn reports(node: Option<&str>, config: Option<&Path>, output: Output) -> Result<i32> {
    let (_, store) = caracal_datastore::from_process(config)?;
    let reports = store
        .reports()
        .with_context(|| format!("{} has no place for reports of nodes", store.describe()))?;
    let found = reports.reported(node).await?;
    let mut out = io::stdout();
    let written = match output {
        Output::Text => out.write_all(table(&found).as_bytes()),
        Output::Json => {
            let list: Vec<Value> = found.iter().map(|(key, value)| report(key, value)).collect();
            writeln!(out, "{}", Value::Array(list))
        }
        Output::Yaml => {
            let list: Vec<Value> = found.iter().map(|(key, value)| report(key, value)).collect();
            out.write_all(value_to_yaml(&list).as_bytes())
        }
    };
    match written {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(e).context("writing the output"),
        _ => Ok(0),
    }
}

fn subject(key: &caracal_store::ReportKey) -> (&'static str, String) {
    use caracal_store::Subject;
    match &key.subject {
        Subject::Agent => ("agent", String::new()),
        Subject::LastSeen => ("last seen", String::new()),
        Subject::Workload {
            orchestrator,
            workload,
            endpoint,
        } => ("workload", format!("{orchestrator} {workload} {endpoint}")),
        Subject::Host { endpoint } => ("host endpoint", endpoint.clone()),
    }
}

fn report(key: &caracal_store::ReportKey, value: &Value) -> Value {
    let (about, name) = subject(key);
    let mut shown = json!({ "node": key.node, "about": about, "report": value });
    for (field, text) in [("name", &name), ("region", &key.region)] {
        if !text.is_empty() {
            shown[field] = text.as_str().into();
        }
    }
    shown
}

fn table(found: &[(caracal_store::ReportKey, Value)]) -> String {
    let mut text = String::new();
    for (key, value) in found {
        let (about, name) = subject(key);
        let words = [key.node.as_str(), about, &name]
            .into_iter()
            .filter(|w| !w.is_empty());
        text.push_str(&words.collect::<Vec<_>>().join(" "));
        text.push_str(&format!(": {value}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use caracal_api::{NetworkSetSpec, Object};
    use caracal_update::InSync;

    use super::*;

    fn lines(output: Output) -> String {
        let mut shown = Shown {
            output,
            out: Vec::new(),
            objects: 0,
            failed: None,
        };
        let set = Object::namespaced("n", "a", NetworkSetSpec::default());
        let key = ResourceKey::namespaced(Kind::NetworkSet, "n", "a");
        let events = [
            Event::Disconnected("gone".into()),
            Event::Reconnected,
            Event::Updates(vec![Update::set(set.into())]),
            Event::InSync(InSync::after_complete_snapshot()),
            Event::Unreadable {
                key: key.clone(),
                reason: "no JSON".into(),
            },
            Event::Updates(vec![Update::gone(key)]),
        ];
        let synced: Vec<_> = events
            .into_iter()
            .map(|e| shown.event(e).unwrap_or(false))
            .collect();
        assert_eq!(synced, [false, false, false, true, false, false]);
        String::from_utf8(shown.out).unwrap_or_default()
    }

    #[test]
    fn command_lines_that_make_sense_and_others() {
        use clap::Parser;
        let is_good = |line: &str| {
            let words = std::iter::once("caracal store").chain(line.split(' '));
            crate::cli::Store::try_parse_from(words).is_ok()
        };
        for good in [
            "watch --stream bgp",
            "watch --stream tunnel --node n1 --once -o json --timeout 5",
            "watch --kind pools,np --selector has(app) -n shop --once -c f.cfg",
            "reports",
            "reports --node n1 -o yaml",
        ] {
            assert!(is_good(good), "{good}");
        }
        for bad in [
            "watch",
            "watch --stream bgp --kind pools",
            "watch --stream other",
            "watch --stream bgp --selector all()",
            "watch --kind pools --node n1",
            "watch --kind pools --selector app==",
        ] {
            assert!(!is_good(bad), "{bad}");
        }
    }

    #[test]
    fn events_are_lines_of_text_or_json() {
        assert_eq!(
            lines(Output::Text),
            "disconnected: gone\nconnected again\nset NetworkSet(n/a) at -\nin sync (1 objects)\nunreadable \
             NetworkSet(n/a): no JSON\ngone NetworkSet(n/a)\n"
        );
        let json = lines(Output::Json);
        let values: Vec<Value> = json
            .lines()
            .filter_map(|l| serde_json::from_str(l).ok())
            .collect();
        assert_eq!(values.len(), 6, "{json}");
        assert_eq!(values[2]["object"]["kind"], "NetworkSet");
        assert_eq!(
            (&values[5]["event"], &values[5]["namespace"]),
            (&json!("gone"), &json!("n"))
        );
        assert!(lines(Output::Yaml).starts_with("---\nevent: disconnected\n"));
    }
}
