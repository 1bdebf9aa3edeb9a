//! The rows: what is measured, what Calico needs for it, the goal, and what came out.

use serde_json::{Value, json};

/// The names that a run can be narrowed to.
pub(super) const NAMES: &[&str] = &[
    "engine",
    "compiler",
    "diff",
    "binary",
    "cold-100",
    "cold-1000",
    "cold-10000",
    "cold-10000-100k",
    "ipv6",
    "nets",
    "pods",
    "flows",
    "change-policy",
    "change-label",
    "change-endpoint",
    "restart",
    "idle",
    "cni",
    "cli",
    "cli-create",
    "store",
];

/// What is known of a row before it is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// One of [`NAMES`].
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    pub(super) unit: &'static str,
    /// Calico's figure, `-` where it has none.
    pub(super) calico: &'static str,
    /// Ours should be no more than this, or no less.
    pub(super) goal: Option<f64>,
    /// Whether more is better.
    more: bool,
}

impl Row {
    pub(super) const fn new(
        name: &'static str,
        what: &'static str,
        unit: &'static str,
        calico: &'static str,
        goal: f64,
    ) -> Self {
        let goal = Some(goal);
        Self {
            name,
            what,
            unit,
            calico,
            goal,
            more: false,
        }
    }

    /// A row of which more is better: at least so much is the goal.
    pub(super) const fn at_least(
        name: &'static str,
        what: &'static str,
        unit: &'static str,
        goal: f64,
    ) -> Self {
        Self {
            more: true,
            ..Self::new(name, what, unit, "-", goal)
        }
    }

    /// A row that nobody set a goal for.
    pub(super) const fn plain(
        name: &'static str,
        what: &'static str,
        unit: &'static str,
        calico: &'static str,
    ) -> Self {
        Self {
            name,
            what,
            unit,
            calico,
            goal: None,
            more: false,
        }
    }
}

/// A row with its figures.
#[derive(Debug)]
struct Measured {
    row: Row,
    /// One a run; empty when it could not be measured.
    values: Vec<f64>,
    note: String,
}

impl Measured {
    fn median(&self) -> Option<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len().checked_sub(1)? / 2).copied()
    }

    fn met(&self) -> Option<bool> {
        let (ours, goal) = (self.median()?, self.row.goal?);
        Some(if self.row.more { ours >= goal } else { ours <= goal })
    }

    fn spread(&self) -> Option<(f64, f64)> {
        let least = self.values.iter().copied().min_by(f64::total_cmp)?;
        let most = self.values.iter().copied().max_by(f64::total_cmp)?;
        (self.values.len() > 1).then_some((least, most))
    }
}

/// All rows so far.
#[derive(Debug)]
pub(super) struct Rows {
    rows: Vec<Measured>,
    /// How busy the machine was before: a figure from a busy machine says little.
    load: String,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            load: first("/proc/loadavg"),
        }
    }
}

fn first(file: &str) -> String {
    std::fs::read_to_string(file)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(0, std::num::NonZero::get)
}

/// Three digits that matter, no exponent.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl Rows {
    /// One value a run.
    pub(super) fn add(&mut self, row: Row, values: Vec<f64>) {
        let note = String::new();
        self.rows.push(Measured { row, values, note });
    }

    /// A row that could not be measured, and why.
    pub(super) fn missing(&mut self, row: Row, why: &str) {
        let (values, note) = (Vec::new(), why.to_owned());
        self.rows.push(Measured { row, values, note });
    }

    pub(super) fn print(&self) {
        println!(
            "kernel {}, {} CPUs, load before {}, after {}",
            first("/proc/sys/kernel/osrelease"),
            cpus(),
            self.load,
            first("/proc/loadavg"),
        );
        println!();
        let head = [
            "row",
            "",
            "unit",
            "Calico",
            "goal",
            "ours",
            "least–most",
            "goal met",
        ]
        .map(str::to_owned);
        let mut lines = vec![head];
        for m in &self.rows {
            let spread = m.spread().map(|(a, b)| format!("{}–{}", number(a), number(b)));
            let verdict = match m.met() {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "",
            };
            lines.push([
                m.row.name.to_owned(),
                m.row.what.to_owned(),
                m.row.unit.to_owned(),
                m.row.calico.to_owned(),
                m.row.goal.map_or_else(|| "-".into(), number),
                m.median().map_or_else(|| "not measured".into(), number),
                spread.unwrap_or_default(),
                if m.note.is_empty() {
                    verdict.to_owned()
                } else {
                    m.note.replace('|', "/")
                },
            ]);
        }
        let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 8] = std::array::from_fn(width);
        // As Markdown, so that it can go into a page as it is.
        let show = |cells: Vec<String>| println!("| {} |", cells.join(" | "));
        for (number, line) in lines.iter().enumerate() {
            show(line.iter().zip(widths).map(|(c, w)| format!("{c:w$}")).collect());
            if number == 0 {
                show(widths.iter().map(|w| "-".repeat(*w)).collect());
            }
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|m| {
                json!({
                    "name": m.row.name,
                    "what": m.row.what,
                    "unit": m.row.unit,
                    "calico": m.row.calico,
                    "goal": m.row.goal,
                    "ours": m.median(),
                    "runs": m.values,
                    "met": m.met(),
                    "note": m.note,
                })
            })
            .collect();
        json!({
            "kernel": first("/proc/sys/kernel/osrelease"),
            "cpus": cpus(),
            "loadBefore": self.load,
            "loadAfter": first("/proc/loadavg"),
            "rows": rows,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_goals() {
        let row = Row::new("cold-100", "ready", "s", "1.5", 0.1);
        let mut rows = Rows::default();
        rows.add(row, vec![0.3, 0.09, 0.1]);
        rows.add(row, vec![0.2]);
        rows.missing(row, "no etcd");
        let rate = Row::at_least("cni", "pods", "a second", 200.0);
        rows.add(rate, vec![250.0]);
        rows.add(rate, vec![150.0]);
        let json = rows.to_json();
        assert_eq!(json["rows"][0]["ours"], 0.1);
        assert_eq!(json["rows"][0]["met"], true);
        assert_eq!(json["rows"][1]["met"], false);
        assert_eq!(json["rows"][2]["ours"], Value::Null);
        assert_eq!(json["rows"][2]["note"], "no etcd");
        assert_eq!(json["rows"][3]["met"], true);
        assert_eq!(json["rows"][4]["met"], false);
        assert_eq!(rows.rows[0].spread(), Some((0.09, 0.3)));
        assert_eq!(number(1234.5), "1234");
        assert_eq!(number(0.0123), "0.012");
    }
}
