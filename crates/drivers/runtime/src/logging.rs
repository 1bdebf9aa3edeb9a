use std::{io::IsTerminal, sync::OnceLock};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// Puts another filter in place, once logging has started.
static RELOAD: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// The format of a name: `text` or `json`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "text" | "" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

fn filter(severity: &str) -> EnvFilter {
    let level = match severity.to_ascii_uppercase().as_str() {
        "TRACE" => "trace",
        "DEBUG" => "debug",
        "WARNING" | "WARN" => "warn",
        "ERROR" | "FATAL" | "PANIC" => "error",
        "NONE" | "OFF" => "off",
        _ => "info",
    };
    EnvFilter::try_from_env("CARACAL_LOG").unwrap_or_else(|_| EnvFilter::new(level))
}

/// Starts logging to standard error. `severity` is Calico's (`DEBUG`, `INFO`, `WARNING`, `ERROR`, `FATAL`, `TRACE`);
/// `CARACAL_LOG` overrides it with a filter such as `info,caracal_nft=debug`. A second call changes nothing.
pub fn init_logging(severity: &str, format: LogFormat) {
    let (filter, handle) = reload::Layer::new(filter(severity));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(true);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
        LogFormat::Text => registry
            .with(lines.with_ansi(std::io::stderr().is_terminal()))
            .try_init(),
    };
    // Only a second initialisation fails, and then the first one stays.
    if started.is_ok() {
        // The filter is gone only when the program ends.
        let put = move |filter| drop(handle.reload(filter));
        drop(RELOAD.set(Box::new(put)));
    }
}

/// Changes the least severe line that is written, while the program runs. `CARACAL_LOG` is stronger here, too.
pub fn set_log_severity(severity: &str) {
    if let Some(put) = RELOAD.get() {
        put(filter(severity));
    }
}
