//! `caracal store`: the embedded datastore as a command.
//!
//! Invariant: this is only a command line; what the store does is in `store-embedded`.

mod backup;
mod cli;
mod client;
mod figures;
mod inspect;
mod notify;
mod serve;
mod watch;

use std::ffi::OsString;

use clap::Parser;

use cli::{Command, Store};

/// Heaps of the server's threads: what one thread of them takes, another one frees.
const HEAPS: u8 = 2;

/// The component's command line; `args[0]` is the program's name. The result is the exit code.
#[must_use]
pub fn run(args: Vec<OsString>) -> i32 {
    let name = args.first().map_or_else(
        || "caracal store".into(),
        |arg| arg.to_string_lossy().into_owned(),
    );
    let store = match Store::try_parse_from(args) {
        Ok(store) => store,
        Err(error) => {
            // There is nobody left to tell when this fails.
            let _ = error.print();
            return error.exit_code();
        }
    };
    if matches!(store.command, Command::Serve(_)) {
        caracal_sys::limit_heaps(HEAPS);
    }
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // Each thread that reads the file costs memory and, beyond the CPUs, wins nothing.
        .max_blocking_threads(8)
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            runtime.block_on(async {
                match store.command {
                    Command::Serve(args) => serve::serve(args).await.map(|()| 0),
                    Command::Check(args) => inspect::check(&args).await,
                    Command::Stats(args) => inspect::stats(&args).await,
                    Command::Backup(args) => backup::backup(&args).await,
                    Command::Restore(args) => backup::restore(&args).await,
                    Command::Compact(args) => backup::compact(&args.source).await,
                    Command::Watch(args) => watch::watch(&args).await,
                    Command::Reports(args) => {
                        watch::reports(args.node.as_deref(), args.config.as_deref(), args.output).await
                    }
                }
            })
        });
    done.unwrap_or_else(|error| {
        eprintln!("{name}: {}", text(&error));
        1
    })
}

/// An error with its causes, without those that it tells of already.
fn text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if cause.starts_with(&text) {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let cause = std::io::Error::other("no such file");
        let open = Err::<(), _>(anyhow::anyhow!(cause).context("opening x: no such file"));
        let error = open.context("serving").unwrap_err();
        assert_eq!(text(&error), "serving: opening x: no such file");
    }
}
