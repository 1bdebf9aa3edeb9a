//! The result of probes: a table for people, JSON for programs.

use std::io::{IsTerminal, Write};

use caracal_net::Family;
use caracal_oracle::Verdict;
use serde_json::json;

use super::probe::Row;
use crate::prober::Outcome;

/// Prints the rows as JSON.
pub(super) fn json(rows: &[Row], dual_stack: bool) -> anyhow::Result<()> {
    let probe = |r: &Row| {
        let mut probe = json!({
            "from": r.from,
            "to": r.to,
            "protocol": r.target.protocol,
            "port": r.target.port,
            "expected": r.expected,
            "measured": r.measured(),
        });
        if dual_stack {
            probe["family"] = family(r).into();
        }
        probe
    };
    let result = json!({
        "probes": rows.iter().map(probe).collect::<Vec<_>>(),
        "differences": rows.iter().filter(|r| r.differs()).count(),
    });
    say(&serde_json::to_string_pretty(&result)?);
    Ok(())
}

fn family(row: &Row) -> u8 {
    match Family::of(row.target.addr) {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}

/// Prints the rows as a table, and what decided where measured differs from expected.
pub(super) fn print(rows: &[Row], dual_stack: bool) {
    if rows.is_empty() {
        say("no pod has a port to be probed at, or there are fewer than two pods");
        return;
    }
    let mut header = vec!["FROM", "TO", "PORT", "EXPECTED", "MEASURED", ""];
    if dual_stack {
        header.insert(3, "IP");
    }
    let mut table = Columns::new(&header);
    for row in rows {
        let mut port = format!("{} {}", row.target.protocol, row.target.port);
        if !row.port_name.is_empty() {
            port += &format!(" ({})", row.port_name);
        }
        let mut cells = vec![row.from.clone().into(), row.to.clone().into(), port.into()];
        if dual_stack {
            cells.push(family(row).to_string().into());
        }
        cells.push(verdict(row.expected));
        cells.push(verdict(row.measured()));
        cells.push(Cell(
            if row.differs() { "<- differs" } else { "" }.to_owned(),
            RED,
        ));
        table.rows.push(cells);
    }
    say(&table.text());
    let allowed = rows.iter().filter(|r| r.measured() == Verdict::Allowed).count();
    let differing: Vec<&Row> = rows.iter().filter(|r| r.differs()).collect();
    say(&format!(
        "\n{} probes, {allowed} allowed, {} blocked, {} differences",
        rows.len(),
        rows.len() - allowed,
        differing.len()
    ));
    for row in differing {
        let why = match &row.outcome {
            Outcome::Failed(e) => format!("; the probe failed: {e}"),
            Outcome::Refused => "; the connection was refused".to_owned(),
            Outcome::Silent => "; no answer came".to_owned(),
            Outcome::Answered => String::new(),
        };
        say(&format!(
            "{} -> {} {} {}: expected {}, because {}{why}",
            row.from, row.to, row.target.protocol, row.target.port, row.expected, row.why
        ));
    }
}

fn verdict(verdict: Verdict) -> Cell {
    let colour = match verdict {
        Verdict::Allowed => GREEN,
        Verdict::Blocked => YELLOW,
    };
    Cell(verdict.to_string(), colour)
}

/// A text and, for terminals, the number of its colour; 0 for none.
#[derive(Debug)]
pub(super) struct Cell(String, u8);

const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self(text.into(), 0)
    }
}

/// Rows of aligned cells.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) rows: Vec<Vec<Cell>>,
}

impl Columns {
    pub(super) fn new(header: &[&str]) -> Self {
        Self {
            rows: vec![header.iter().map(|h| Cell::from(*h)).collect()],
        }
    }

    /// For standard output: with colours on a terminal.
    pub(super) fn text(&self) -> String {
        self.render(std::io::stdout().is_terminal())
    }

    fn render(&self, colours: bool) -> String {
        let count = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |n: usize| {
            self.rows
                .iter()
                .filter_map(|r| r.get(n))
                .map(|c| c.0.chars().count())
                .max()
        };
        let widths: Vec<usize> = (0..count).map(|n| width(n).unwrap_or_default()).collect();
        let line = |row: &Vec<Cell>| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| {
                let padded = format!("{:<width$}", cell.0);
                if colours && cell.1 > 0 && !cell.0.is_empty() {
                    format!("\x1b[{}m{padded}\x1b[0m", cell.1)
                } else {
                    padded
                }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Prints, and does not mind a reader that went away.
pub(super) fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_coloured_on_terminals_only() {
        let mut table = Columns::new(&["A", "LONGER", ""]);
        table
            .rows
            .push(vec!["wide cell".into(), verdict(Verdict::Allowed), "x".into()]);
        assert_eq!(table.render(false), "A          LONGER\nwide cell  allowed  x");
        assert!(table.render(true).contains("\x1b[32mallowed\x1b[0m"));
    }
}
