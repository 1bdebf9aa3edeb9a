//! `caracal store backup`, `restore` and `compact`.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use caracal_store_embedded::{Engine, Options};
use caracal_wire::etcdserverpb::{CompactionRequest, SnapshotRequest, maintenance_client::MaintenanceClient};
use tonic::transport::Endpoint;

use crate::cli::{Backup, Restore};

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
    let at = || format!("the store at {}", socket.display());
    let path = std::path::absolute(socket).with_context(at)?;
    let channel = Endpoint::from_shared(format!("unix://{}", path.display()))
        .with_context(at)?
        .connect()
        .await
        .with_context(|| format!("{}: is it being served?", at()))?;
    let mut stream = MaintenanceClient::new(channel)
        .snapshot(SnapshotRequest {})
        .await
        .with_context(at)?
        .into_inner();
    let write = || format!("writing {}", part.display());
    let mut out = std::fs::File::create(part).with_context(write)?;
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

/// Forgets history and makes the file as small as its content.
pub(crate) async fn compact(data: &Path) -> Result<i32> {
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
