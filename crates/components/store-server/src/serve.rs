//! `caracal store serve`.

use std::sync::Arc;

use anyhow::{Context, Result};
use caracal_runtime::{LogFormat, Shutdown, init_logging, on_signals};
use caracal_store_embedded::{Engine, Listen, Options, Server};
use caracal_tls::{Material, ServerTls, Source};

use crate::cli::Serve;
use crate::{figures, notify};

/// The certificates of `--listen`. clap has seen to it that all three are there or none.
fn tls(args: &Serve) -> Result<Option<Arc<ServerTls>>> {
    let (Some(cert), Some(key), Some(ca)) = (&args.cert_file, &args.key_file, &args.trusted_ca_file) else {
        return Ok(None);
    };
    let material = Material {
        authorities: Some(Source::file("--trusted-ca-file", ca)),
        identity: Some((Source::file("--cert-file", cert), Source::file("--key-file", key))),
    };
    Ok(Some(Arc::new(ServerTls::new(
        material,
        &["h2", "http/1.1"],
        "--cert-file",
    )?)))
}

/// Serves until told to stop.
pub(crate) async fn serve(args: Serve) -> Result<()> {
    init_logging("INFO", LogFormat::Text);
    let shutdown = Shutdown::new();
    let mut signals = tokio::spawn(on_signals(shutdown.clone()));
    let options = Options {
        cache_bytes: usize::try_from(args.cache)? << 20,
        reserve_bytes: u64::from(args.reserve) << 20,
        keep_revisions: args.keep_revisions,
        ..Options::default()
    };
    let tls = tls(&args)?;
    let engine = Engine::open(&args.data, options)?;
    let listen = Listen {
        socket: Some(args.socket.clone()),
        tcp: args.listen,
        tls,
    };
    let server = match Server::bind(engine.clone(), listen).await {
        Ok(server) => server,
        Err(error) => {
            engine.close().await;
            return Err(error.into());
        }
    };
    let tcp = server
        .tcp_addr()
        .map(|addr| format!(" and {addr}"))
        .unwrap_or_default();
    eprintln!(
        "caracal store: serving {} on {}{tcp}",
        args.data.display(),
        args.socket.display()
    );
    if let Some(addr) = args.metrics {
        let figures = figures::serve(addr, engine.clone(), shutdown.clone());
        tokio::spawn(async move {
            if let Err(error) = figures.await {
                tracing::error!(%error, "metrics are not served; the store goes on");
            }
        });
    }
    notify::ready();
    let stopping = async {
        tokio::select! {
            () = shutdown.wait() => {}
            // Without handlers the store could only be killed: better to say so and end.
            ended = &mut signals => if let Ok(Err(error)) = ended {
                tracing::error!(%error, "signals cannot be handled");
            },
        }
        notify::stopping();
    };
    server.serve(stopping).await.context("store server")
}
