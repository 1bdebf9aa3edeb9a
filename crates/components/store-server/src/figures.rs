//! Metrics of the server.

use std::{net::SocketAddr, time::Duration};

use anyhow::Result;
use caracal_runtime::{Shutdown, install_metrics, serve_metrics_and};
use caracal_store_embedded::Engine;

/// How old the figures may be.
const PERIOD: Duration = Duration::from_secs(10);

/// Serves the figures until the shutdown.
///
/// # Errors
/// When the address cannot be listened on.
pub(crate) async fn serve(addr: SocketAddr, engine: Engine, shutdown: Shutdown) -> Result<()> {
    let handle = install_metrics().map_err(anyhow::Error::msg)?;
    let host = addr.ip().to_string();
    let own = engine.clone();
    let more = move || std::future::ready(own.figures());
    let server = serve_metrics_and(&host, addr.port(), handle, more, shutdown);
    let samples = async {
        loop {
            sample(&engine).await;
            tokio::time::sleep(PERIOD).await;
        }
    };
    tokio::select! {
        served = server => Ok(served?),
        () = samples => Ok(()),
    }
}

#[allow(clippy::cast_precision_loss, reason = "a gauge is a float")]
async fn sample(engine: &Engine) {
    // A store that cannot be read says so to its clients; the last figures stay.
    let Ok(stats) = engine.stats().await else { return };
    metrics::gauge!("caracal_store_revision").set(stats.revision as f64);
    metrics::gauge!("caracal_store_compacted_revision").set(stats.compacted as f64);
    metrics::gauge!("caracal_store_keys").set(stats.keys as f64);
    metrics::gauge!("caracal_store_history_entries").set(stats.history as f64);
    metrics::gauge!("caracal_store_leases").set(stats.leases as f64);
    metrics::gauge!("caracal_store_file_bytes").set(stats.file_bytes as f64);
    metrics::gauge!("caracal_store_low_on_space").set(f64::from(u8::from(engine.is_low_on_space())));
}
