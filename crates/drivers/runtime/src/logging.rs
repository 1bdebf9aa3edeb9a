use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

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

/// Starts logging to standard error. `severity` is Calico's (`DEBUG`, `INFO`, `WARNING`, `ERROR`, `FATAL`, `TRACE`);
/// `CARACAL_LOG` overrides it with a filter such as `info,caracal_nft=debug`. A second call changes nothing.
pub fn init_logging(severity: &str, format: LogFormat) {
    let level = match severity.to_ascii_uppercase().as_str() {
        "TRACE" => "trace",
        "DEBUG" => "debug",
        "WARNING" | "WARN" => "warn",
        "ERROR" | "FATAL" | "PANIC" => "error",
        "NONE" | "OFF" => "off",
        _ => "info",
    };
    let filter = EnvFilter::try_from_env("CARACAL_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(true);
    // Only a second initialisation fails, and then the first one stays.
    let _ = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
    };
}
