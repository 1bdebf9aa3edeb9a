//! What every long-running component shares: logging, health, metrics, supervised tasks and signals.
//!
//! **Invariant:** a task that ends, fails or panics without being asked to ends the program (the supervisor of the host
//! starts it again): a half-dead component never looks alive.

mod health;
mod http;
mod logging;
mod process;
mod shutdown;
mod supervise;

pub use health::{Health, Reporter};
pub use http::{ServeError, serve_health, serve_metrics, serve_metrics_and};
pub use logging::{LogFormat, init_logging, set_log_severity};
pub use metrics_exporter_prometheus::PrometheusHandle;
pub use shutdown::{Shutdown, on_signals};
pub use supervise::{Supervisor, TaskEnd};

/// Installs the recorder of metrics; what the `metrics` macros count is rendered by the handle.
///
/// # Errors
/// When a recorder is installed already.
pub fn install_metrics() -> Result<PrometheusHandle, String> {
    metrics_exporter_prometheus::PrometheusBuilder::new()
        .install_recorder()
        .map_err(|e| e.to_string())
}
