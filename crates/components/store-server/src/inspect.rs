//! `caracal store check` and `caracal store stats`.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use caracal_api::value_to_yaml;
use caracal_store_embedded::{Engine, Options};
use caracal_wire::etcdserverpb::{
    LeaseLeasesRequest, RangeRequest, StatusRequest, kv_client::KvClient, lease_client::LeaseClient,
    maintenance_client::MaintenanceClient,
};
use serde_json::{Map, Value, json};

use crate::cli::{self, Output};
use crate::client::{connect, named};

/// Prints, and does not mind a reader that went away.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e).context("writing the result"),
        _ => Ok(()),
    }
}

fn print_value(value: &Value, output: Output) -> Result<()> {
    match output {
        Output::Yaml => print(&value_to_yaml(value)),
        Output::Json | Output::Text => print(&format!("{value}\n")),
    }
}

/// Opening compares every page's checksum; then the tables are compared with each other.
pub(crate) async fn check(args: &cli::Check) -> Result<i32> {
    let data = args.data.display();
    let engine = Engine::open_existing(&args.data, Options::default())?;
    let problems = engine.verify().await;
    let stats = engine.stats().await;
    engine.close().await;
    let (problems, stats) = (problems?, stats?);
    if args.output == Output::Text {
        for problem in &problems {
            print(&format!("{problem}\n"))?;
        }
        print(&match problems.len() {
            0 => format!(
                "{data}: all is well ({} keys, revision {})\n",
                stats.keys, stats.revision
            ),
            n => format!("{data}: {n} problems; restore a backup or start empty\n"),
        })?;
    } else {
        let value = json!({
            "data": args.data,
            "keys": stats.keys,
            "revision": stats.revision,
            "problems": problems,
        });
        print_value(&value, args.output)?;
    }
    Ok(i32::from(!problems.is_empty()))
}

/// Prints the numbers, one a line.
pub(crate) async fn stats(args: &cli::Stats) -> Result<i32> {
    let numbers = match (&args.source.data, &args.source.socket) {
        (Some(data), _) => of_data(data).await?,
        (None, Some(socket)) => of_server(socket).await.with_context(|| named(socket))?,
        (None, None) => bail!("--data or --socket is needed"),
    };
    if args.output == Output::Text {
        let line = |(name, number): (&&str, &i64)| format!("{name:<18}{number}\n");
        let lines: String = numbers
            .iter()
            .map(|(name, number)| line((name, number)))
            .collect();
        print(&lines)?;
    } else {
        let object: Map<String, Value> = numbers
            .into_iter()
            .map(|(name, number)| (name.to_owned(), number.into()))
            .collect();
        print_value(&Value::Object(object), args.output)?;
    }
    Ok(0)
}

type Numbers = Vec<(&'static str, i64)>;

async fn of_data(data: &Path) -> Result<Numbers> {
    let engine = Engine::open_existing(data, Options::default())?;
    let stats = engine.stats().await;
    engine.close().await;
    let stats = stats?;
    Ok(vec![
        ("revision", stats.revision),
        ("compactedRevision", stats.compacted),
        ("keys", i64::try_from(stats.keys)?),
        ("historyEntries", i64::try_from(stats.history)?),
        ("leases", i64::try_from(stats.leases)?),
        ("fileBytes", i64::try_from(stats.file_bytes)?),
    ])
}

/// What can be asked of a server: history is known only to itself and its metrics.
async fn of_server(socket: &Path) -> Result<Numbers> {
    let channel = connect(socket).await?;
    let status = MaintenanceClient::new(channel.clone())
        .status(StatusRequest {})
        .await?
        .into_inner();
    let everything = RangeRequest {
        key: vec![0].into(),
        range_end: vec![0].into(),
        count_only: true,
        ..Default::default()
    };
    let keys = KvClient::new(channel.clone())
        .range(everything)
        .await?
        .into_inner();
    let leases = LeaseClient::new(channel)
        .lease_leases(LeaseLeasesRequest {})
        .await?
        .into_inner();
    Ok(vec![
        ("revision", keys.header.map_or(0, |header| header.revision)),
        ("keys", keys.count),
        ("leases", i64::try_from(leases.leases.len())?),
        ("fileBytes", status.db_size),
        ("lowOnSpace", i64::from(!status.errors.is_empty())),
    ])
}
