//! `datastore migrate copy`.

use std::io;

use caracal_datastore::{Step, Transferred, named, transfer};
use caracal_store::Store;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::{
    cli::{CopyArgs, CopyOutput},
    failure::Failure,
    session::Session,
};

/// Copies and compares; says what was done.
pub(crate) async fn copy(session: &mut Session, args: &CopyArgs) -> Result<(), Failure> {
    let (from, to) = (named(&args.from)?, named(&args.to)?);
    let bar = bar(session.io.terminal);
    let done = transfer(&from, &to, args.overwrite, |step| show(&bar, step)).await;
    bar.finish_and_clear();
    let text = told(&done?, &from.describe(), &to.describe(), &args.output)?;
    session.print(&text)
}

fn bar(terminal: bool) -> ProgressBar {
    if !terminal {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:9} {bar:40} {pos}/{len} {per_sec} {eta}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn show(bar: &ProgressBar, step: Step) {
    match step {
        Step::Begun(keys) => {
            bar.set_length(keys);
            bar.set_message("copying");
        }
        Step::Copied(keys) => bar.inc(keys),
        Step::Compared(keys) => {
            if bar.message() == "copying" {
                bar.set_position(0);
                bar.set_message("comparing");
            }
            bar.inc(keys);
        }
    }
}

fn told(done: &Transferred, from: &str, to: &str, output: &CopyOutput) -> Result<String, Failure> {
    let kinds: Map<String, Value> = done
        .objects
        .iter()
        .map(|(kind, n)| (kind.to_string(), (*n).into()))
        .collect();
    let whole = json!({
        "from": from,
        "to": to,
        "objects": kinds,
        "otherKeys": done.others,
        "written": done.written,
        "deleted": done.deleted,
        "verified": true,
    });
    let objects: u64 = done.objects.values().sum();
    Ok(match output {
        CopyOutput::Json => serde_json::to_string_pretty(&whole).map_err(io::Error::from)? + "\n",
        CopyOutput::Yaml => caracal_api::value_to_yaml(&whole),
        CopyOutput::Text => format!(
            "Copied {from} to {to}: {objects} objects and {} other keys are there, each compared; {} written now, {} \
             deleted.\nThe destination is locked. Point all programs at it, then run 'calicoctl datastore migrate \
             unlock' there.\n",
            done.others, done.written, done.deleted
        ),
    })
}
