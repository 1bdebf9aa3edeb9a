//! Logs to stderr, where runtimes collect them, and to a file if the configuration names one.

mod lines;
pub(crate) mod rotate;

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    time::SystemTime,
};

use tracing::level_filters::LevelFilter;

use self::lines::Lines;
use crate::{error::CniError, netconf::NetConf};

/// To stderr, and to the file if there is one.
fn write(file: Option<&File>, line: &str) {
    if let Some(mut file) = file {
        // A full disk must not keep a pod from starting.
        let _ = file.write_all(line.as_bytes());
    }
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Reads `log_level`.
pub(crate) fn level(text: &str) -> Result<LevelFilter, CniError> {
    Ok(match text.to_ascii_lowercase().as_str() {
        "debug" | "trace" => LevelFilter::DEBUG,
        "" | "info" => LevelFilter::INFO,
        "warning" | "warn" => LevelFilter::WARN,
        "error" | "fatal" | "panic" | "critical" => LevelFilter::ERROR,
        "none" | "off" => LevelFilter::OFF,
        _ => {
            let why = format!("{text:?} is not allowed: debug, info, warning, error and none are");
            return Err(CniError::config("log_level", why));
        }
    })
}

/// Begins to log. The first call in a process counts.
pub(crate) fn start(conf: &NetConf) -> Result<(), CniError> {
    let level = level(&conf.log_level)?;
    let path = conf.log_file_path.as_str();
    let mut problem = None;
    let file = (!path.is_empty())
        .then(|| {
            let stamp = jiff::Timestamp::now().to_string();
            rotate::open(
                Path::new(path),
                rotate::Limits::of(conf),
                SystemTime::now(),
                &stamp,
            )
        })
        .and_then(|opened| opened.map_err(|e| problem = Some(e)).ok());
    // What the libraries below have to say is only of interest when something is wrong with them.
    let libraries = level.min(LevelFilter::WARN);
    let subscriber = Lines {
        ours: level,
        libraries,
        write: move |line: &str| write(file.as_ref(), line),
    };
    // Fails only when logging has begun already.
    let _ = tracing::subscriber::set_global_default(subscriber);
    if let Some(error) = problem {
        tracing::warn!(path, %error, "cannot write the log file; logging to stderr alone");
    }
    Ok(())
}
