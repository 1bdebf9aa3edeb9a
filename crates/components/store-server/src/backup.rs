//! `caracal store backup`, `restore` and `compact`.

use std::{
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::cli::{Backup, Restore, Source};
use crate::client::{connect, named};
use anyhow::{Context, Result, bail};
use caracal_store_embedded::{Engine, Options};
use caracal_wire::etcdserverpb::{
    CompactionRequest, SnapshotRequest, StatusRequest, kv_client::KvClient,
    maintenance_client::MaintenanceClient,
};

/// Writes a backup.
pub(crate) async fn backup(args: &Backup) -> Result<i32> {
    let bytes = match (&args.source.data, &args.source.socket) {
        (Some(data), _) => {
            let engine = Engine::open_existing(data, Options::default())?;
            let done = engine.backup(&args.file).await;
            engine.close().await;
            done?.bytes
        }
        (None, Some(socket)) => fetch(socket, &args.file).await?,
        (None, None) => bail!("--data or --socket is needed"),
    };
    say(&format!("{}: {bytes} bytes\n", args.file.display()))
}

/// Receives a backup from a server. The file has its name only when it is whole.
async fn fetch(socket: &Path, file: &Path) -> Result<u64> {
    if file.exists() {
        bail!("{} exists already: choose another name", file.display());
    }
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    let part = PathBuf::from(name);
    let done = receive(socket, &part).await;
    if done.is_err() {
        // What it holds is of no use.
        let _ = std::fs::remove_file(&part);
    }
    let bytes = done?;
    std::fs::rename(&part, file).with_context(|| format!("naming {}", file.display()))?;
    Ok(bytes)
}

async fn receive(socket: &Path, part: &Path) -> Result<u64> {
    let at = || named(socket);
    let mut stream = MaintenanceClient::new(connect(socket).await?)
        .snapshot(SnapshotRequest {})
        .await
        .with_context(at)?
        .into_inner();
    let write = || format!("writing {}", part.display());
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(part)
        .with_context(write)?;
    let (mut bytes, mut left) = (0, 0);
    while let Some(message) = stream.message().await.with_context(at)? {
        out.write_all(&message.blob).with_context(write)?;
        bytes += message.blob.len() as u64;
        left = message.remaining_bytes;
    }
    if bytes == 0 || left > 0 {
        bail!("{} ended the backup before it was whole", at());
    }
    out.sync_all().with_context(write)?;
    Ok(bytes)
}

/// Makes a store from a backup.
pub(crate) async fn restore(args: &Restore) -> Result<i32> {
    let (file, data) = (args.file.clone(), args.data.clone());
    let restored =
        tokio::task::spawn_blocking(move || caracal_store_embedded::restore(&file, &data)).await??;
    let engine = Engine::open_existing(&args.data, Options::default())?;
    let stats = engine.stats().await;
    engine.close().await;
    let stats = stats?;
    say(&format!(
        "{}: {} keys, as they were at revision {}; the store goes on at {}\n",
        args.data.display(),
        stats.keys,
        restored.revision,
        stats.revision
    ))
}

/// Forgets history; makes the file as small as its content where nobody serves it.
pub(crate) async fn compact(source: &Source) -> Result<i32> {
    match (&source.data, &source.socket) {
        (Some(data), _) => compact_data(data).await,
        (None, Some(socket)) => compact_served(socket).await,
        (None, None) => bail!("--data or --socket is needed"),
    }
}

async fn compact_served(socket: &Path) -> Result<i32> {
    let at = || named(socket);
    let channel = connect(socket).await?;
    let status = MaintenanceClient::new(channel.clone())
        .status(StatusRequest {})
        .await;
    let header = status.with_context(at)?.into_inner().header;
    let revision = header
        .context("the answer has no header")
        .with_context(at)?
        .revision;
    let request = CompactionRequest {
        revision,
        physical: true,
    };
    match KvClient::new(channel).compact(request).await {
        Ok(_) => say(&format!(
            "{}: history before revision {revision} is forgotten\n",
            at()
        )),
        Err(status) if status.code() == tonic::Code::OutOfRange => say(&format!(
            "{}: there is no history before revision {revision}\n",
            at()
        )),
        Err(status) => Err(status).with_context(at),
    }
}

async fn compact_data(data: &Path) -> Result<i32> {
    let engine = Engine::open_existing(data, Options::default())?;
    let done = async {
        let stats = engine.stats().await?;
        if stats.revision > stats.compacted {
            let request = CompactionRequest {
                revision: stats.revision,
                physical: true,
            };
            engine.compact(request).await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    let done = done.await;
    engine.close().await;
    drop(engine);
    done?;
    let data = data.to_path_buf();
    let shown = data.display().to_string();
    let (before, after) =
        tokio::task::spawn_blocking(move || caracal_store_embedded::shrink(&data)).await??;
    say(&format!("{shown}: {before} bytes before, {after} now\n"))
}

fn say(text: &str) -> Result<i32> {
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(0)
}
