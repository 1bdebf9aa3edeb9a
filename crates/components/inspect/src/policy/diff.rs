//! `caracal policy diff`.

use std::path::Path;

use caracal_analysis::{Change, Diff, give_addresses};

use super::input::Reader;
use super::{CLEAN, FOUND, Format, Io, count};

pub(super) fn run(args: &super::Diff, config: Option<&Path>, io: &mut Io<'_>) -> anyhow::Result<i32> {
    let mut reader = Reader::new(config);
    let with: Vec<&Path> = args.with.iter().map(AsRef::as_ref).collect();
    let old: Vec<&Path> = with.iter().copied().chain([args.old.as_path()]).collect();
    let mut new = if args.overlay { old.clone() } else { with };
    new.push(&args.new);
    let mut old = reader.state(&old, io)?;
    let mut new = reader.state(&new, io)?;
    give_addresses(&mut [&mut old, &mut new]);
    let diff = caracal_analysis::diff(&old, &new);
    if args.output == Format::Table {
        print(&diff, io)?;
    } else {
        io.value(args.output, &serde_json::to_value(&diff)?)?;
    }
    Ok(if diff.is_empty() { CLEAN } else { FOUND })
}

fn print(diff: &Diff, io: &mut Io<'_>) -> anyhow::Result<()> {
    let out = &mut *io.output;
    for change in &diff.changes {
        writeln!(out, "{}", head(change))?;
        for (sign, text) in [('+', &change.opened_text), ('-', &change.closed_text)] {
            if !text.is_empty() {
                writeln!(out, "  {sign} {text}")?;
            }
        }
    }
    if !diff.changes.is_empty() {
        writeln!(out)?;
    }
    let lists = [
        ("only in OLD, not judged", &diff.gone),
        ("only in NEW, not judged", &diff.appeared),
        ("in OLD, cannot be used as it is", &diff.invalid_before),
        ("in NEW, cannot be used as it is", &diff.invalid),
        ("note", &diff.notes),
        ("WARNING", &diff.warnings),
    ];
    for (what, list) in lists {
        for one in list {
            writeln!(out, "{what}: {one}")?;
        }
    }
    if diff.truncated {
        writeln!(out, "There is more: only the first changes are told.")?;
    }
    match diff.changes.len() {
        0 => writeln!(out, "No connection is opened or closed.")?,
        n => writeln!(
            out,
            "{} (+ opened, - closed); {} of endpoints.",
            count(n as u64, "change"),
            count(diff.pairs, "pair")
        )?,
    }
    Ok(())
}

fn head(change: &Change) -> String {
    let (from, to) = (&change.from, &change.to);
    // What is outside says its family by its addresses.
    let family = match change.families.as_slice() {
        [6] if from.nets.is_empty() && to.nets.is_empty() => " (IPv6)",
        _ => "",
    };
    format!("{} -> {}{family}", from.text, to.text)
}
