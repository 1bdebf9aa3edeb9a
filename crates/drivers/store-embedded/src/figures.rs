//! Figures of a running store: how often, how long, how many. They are counted in place, in as much memory for a million
//! requests as for one, and written as Prometheus' text when somebody asks.

use std::fmt::{Display, Write};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tonic::Code;

/// Upper ends of times, in seconds.
const TIMES: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
/// Upper ends of numbers of requests.
const NUMBERS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// What can be asked for, and whether it is answered once: streams have no time.
const METHODS: [(&str, &str, bool); 16] = [
    ("KV", "Range", true),
    ("KV", "Put", true),
    ("KV", "DeleteRange", true),
    ("KV", "Txn", true),
    ("KV", "Compact", true),
    ("Watch", "Watch", false),
    ("Lease", "LeaseGrant", true),
    ("Lease", "LeaseRevoke", true),
    ("Lease", "LeaseKeepAlive", false),
    ("Lease", "LeaseTimeToLive", true),
    ("Lease", "LeaseLeases", true),
    ("Cluster", "MemberList", true),
    ("Maintenance", "Status", true),
    ("Maintenance", "Snapshot", false),
    ("Maintenance", "Alarm", true),
    ("Auth", "Authenticate", true),
];
/// Codes of gRPC, from 0.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// Counts of values up to each of some bounds.
#[derive(Debug)]
struct Histogram<const N: usize> {
    bounds: [f64; N],
    counts: [AtomicU64; N],
    all: AtomicU64,
    /// In millionths.
    sum: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    fn new(bounds: [f64; N]) -> Self {
        Self {
            bounds,
            counts: std::array::from_fn(|_| AtomicU64::new(0)),
            all: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    fn add(&self, value: f64, millionths: u64) {
        if let Some(place) = self.bounds.iter().position(|bound| value <= *bound) {
            self.counts[place].fetch_add(1, Relaxed);
        }
        self.sum.fetch_add(millionths, Relaxed);
        self.all.fetch_add(1, Relaxed);
    }

    fn add_time(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.add(time.as_secs_f64(), micros);
    }

    /// `labels` are either nothing or end with a comma.
    #[allow(clippy::cast_precision_loss, reason = "a sum of times is told as a float")]
    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let mut total = 0;
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            total += count.load(Relaxed);
            line(out, &format!("{name}_bucket{{{labels}le=\"{bound}\"}}"), total);
        }
        // What is counted meanwhile must not make a part larger than the whole.
        let all = self.all.load(Relaxed).max(total);
        line(out, &format!("{name}_bucket{{{labels}le=\"+Inf\"}}"), all);
        let own = labels.trim_end_matches(',');
        let own = if own.is_empty() {
            String::new()
        } else {
            format!("{{{own}}}")
        };
        line(
            out,
            &format!("{name}_sum{own}"),
            self.sum.load(Relaxed) as f64 / 1e6,
        );
        line(out, &format!("{name}_count{own}"), all);
    }
}

fn line(out: &mut String, name: &str, value: impl Display) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{name} {value}");
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    // As above.
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[derive(Debug)]
struct Method {
    codes: [AtomicU64; CODES.len()],
    time: Histogram<{ TIMES.len() }>,
}

/// The figures.
#[derive(Debug)]
pub(crate) struct Figures {
    commits: Histogram<{ TIMES.len() }>,
    groups: Histogram<{ NUMBERS.len() }>,
    lags: Histogram<{ TIMES.len() }>,
    methods: [Method; METHODS.len()],
    unknown: AtomicU64,
    watches: AtomicI64,
    from_disk: AtomicU64,
    failures: AtomicU64,
    refused: AtomicU64,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            commits: Histogram::new(TIMES),
            groups: Histogram::new(NUMBERS),
            lags: Histogram::new(TIMES),
            methods: std::array::from_fn(|_| Method {
                codes: std::array::from_fn(|_| AtomicU64::new(0)),
                time: Histogram::new(TIMES),
            }),
            unknown: AtomicU64::new(0),
            watches: AtomicI64::new(0),
            from_disk: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }
}

impl Figures {
    /// So many requests were written and synced together, in that time.
    #[allow(clippy::cast_precision_loss, reason = "a group has a few hundred requests")]
    pub(crate) fn committed(&self, requests: usize, time: Duration) {
        self.commits.add_time(time);
        if requests > 0 {
            self.groups.add(requests as f64, requests as u64 * 1_000_000);
        }
    }

    /// Storage failed, and the database was opened again.
    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    /// A write was refused for want of space.
    pub(crate) fn no_space(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// A watch is told of a revision that was committed so long ago.
    pub(crate) fn told(&self, lag: Duration) {
        self.lags.add_time(lag);
    }

    /// A watch was too far behind for what is in memory.
    pub(crate) fn read_for_watch(&self) {
        self.from_disk.fetch_add(1, Relaxed);
    }

    /// So many watches more, or less.
    pub(crate) fn watches(&self, more: i64) {
        self.watches.fetch_add(more, Relaxed);
    }

    /// A request was answered; of a stream, it began.
    pub(crate) fn answered(&self, path: &str, code: Code, time: Duration) {
        let Some((place, timed)) = place(path) else {
            self.unknown.fetch_add(1, Relaxed);
            return;
        };
        let method = &self.methods[place];
        let code = usize::try_from(i32::from(code)).unwrap_or(2).min(CODES.len() - 1);
        method.codes[code].fetch_add(1, Relaxed);
        if timed {
            method.time.add_time(time);
        }
    }

    /// All of it as Prometheus' text.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for (name, help, histogram) in [
            (
                "caracal_store_commit_seconds",
                "Time to write and sync a group of requests",
                &self.commits,
            ),
            (
                "caracal_store_watch_lag_seconds",
                "Time from the commit of a revision until a watch is told of it, where it was still in memory",
                &self.lags,
            ),
        ] {
            head(&mut out, name, "histogram", help);
            histogram.write(&mut out, name, "");
        }
        let name = "caracal_store_group_requests";
        head(&mut out, name, "histogram", "Requests that shared a sync");
        self.groups.write(&mut out, name, "");
        for (name, kind, help, value) in [
            (
                "caracal_store_watches",
                "gauge",
                "Watches there are",
                self.watches.load(Relaxed).max(0),
            ),
            (
                "caracal_store_watch_disk_reads_total",
                "counter",
                "Parts of history read from the disk for watches that were behind",
                signed(&self.from_disk),
            ),
            (
                "caracal_store_write_failures_total",
                "counter",
                "Groups of requests that the disk refused, after which the file was opened again",
                signed(&self.failures),
            ),
            (
                "caracal_store_no_space_total",
                "counter",
                "Requests refused for want of space",
                signed(&self.refused),
            ),
            (
                "caracal_store_unknown_requests_total",
                "counter",
                "Requests for what this server does not speak",
                signed(&self.unknown),
            ),
        ] {
            head(&mut out, name, kind, help);
            line(&mut out, name, value);
        }
        self.write_methods(&mut out);
        out
    }

    fn write_methods(&self, out: &mut String) {
        let name = "caracal_store_requests_total";
        head(out, name, "counter", "Requests answered; of streams, begun");
        for ((service, method, _), figures) in METHODS.iter().zip(&self.methods) {
            for (code, count) in CODES.iter().zip(&figures.codes) {
                let count = count.load(Relaxed);
                if count > 0 {
                    let labels = format!("service=\"{service}\",method=\"{method}\",code=\"{code}\"");
                    line(out, &format!("{name}{{{labels}}}"), count);
                }
            }
        }
        let name = "caracal_store_request_seconds";
        head(out, name, "histogram", "Time to answer a request");
        for ((service, method, timed), figures) in METHODS.iter().zip(&self.methods) {
            if *timed && figures.time.all.load(Relaxed) > 0 {
                let labels = format!("service=\"{service}\",method=\"{method}\",");
                figures.time.write(out, name, &labels);
            }
        }
    }
}

fn signed(count: &AtomicU64) -> i64 {
    i64::try_from(count.load(Relaxed)).unwrap_or(i64::MAX)
}

/// Which method a path of gRPC, or of the JSON gateway, is.
fn place(path: &str) -> Option<(usize, bool)> {
    let (service, name) = match path {
        "/v3/kv/range" => ("KV", "Range"),
        "/v3/kv/put" => ("KV", "Put"),
        "/v3/kv/deleterange" => ("KV", "DeleteRange"),
        path => path.strip_prefix("/etcdserverpb.")?.split_once('/')?,
    };
    let place = METHODS.iter().position(|(s, m, _)| (*s, *m) == (service, name))?;
    Some((place, METHODS[place].2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, name: &str) -> f64 {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
            .parse()
            .unwrap()
    }

    #[test]
    fn buckets_hold_all_that_is_below_their_bound() {
        let figures = Figures::default();
        for millis in [1, 3, 40, 60_000] {
            figures.committed(2, Duration::from_millis(millis));
        }
        figures.committed(0, Duration::ZERO);
        let text = figures.text();
        let bucket = |le: &str| {
            value(
                &text,
                &format!("caracal_store_commit_seconds_bucket{{le=\"{le}\"}}"),
            )
        };
        assert_eq!(bucket("0.0005"), 1.0);
        assert_eq!(bucket("0.001"), 2.0);
        assert_eq!(bucket("0.05"), 4.0);
        assert_eq!(bucket("10"), 4.0);
        assert_eq!(bucket("+Inf"), 5.0);
        assert_eq!(value(&text, "caracal_store_commit_seconds_sum"), 60.044);
        assert_eq!(value(&text, "caracal_store_group_requests_count"), 4.0);
        assert_eq!(value(&text, "caracal_store_group_requests_sum"), 8.0);
        assert_eq!(value(&text, "caracal_store_group_requests_bucket{le=\"1\"}"), 0.0);
    }

    #[test]
    fn methods_are_told_apart_and_strangers_do_not_grow_the_text() {
        let figures = Figures::default();
        let second = Duration::from_secs(1);
        figures.answered("/etcdserverpb.KV/Put", Code::Ok, second);
        figures.answered("/etcdserverpb.KV/Put", Code::ResourceExhausted, second);
        figures.answered("/etcdserverpb.Watch/Watch", Code::Ok, second);
        figures.answered("/v3/kv/range", Code::Unknown, second);
        for n in 0..100 {
            figures.answered(&format!("/x{n}/y"), Code::Unimplemented, second);
        }
        let text = figures.text();
        let put = "service=\"KV\",method=\"Put\"";
        let requests = |labels: &str| value(&text, &format!("caracal_store_requests_total{{{labels}}}"));
        assert_eq!(requests(&format!("{put},code=\"OK\"")), 1.0);
        assert_eq!(requests(&format!("{put},code=\"ResourceExhausted\"")), 1.0);
        assert_eq!(requests("service=\"Watch\",method=\"Watch\",code=\"OK\""), 1.0);
        assert_eq!(
            value(&text, &format!("caracal_store_request_seconds_count{{{put}}}")),
            2.0
        );
        assert!(!text.contains("caracal_store_request_seconds_count{service=\"Watch\""));
        assert_eq!(requests("service=\"KV\",method=\"Range\",code=\"Unknown\""), 1.0);
        assert_eq!(value(&text, "caracal_store_unknown_requests_total"), 100.0);
        assert!(!text.contains("/x1"));
    }

    #[test]
    fn every_line_is_a_figure_or_says_what_one_is() {
        let figures = Figures::default();
        figures.watches(3);
        figures.watches(-1);
        figures.told(Duration::from_micros(700));
        for line in figures.text().lines() {
            let figure = line.rsplit_once(' ').is_some_and(|(name, value)| {
                name.starts_with("caracal_store_") && value.parse::<f64>().is_ok()
            });
            assert!(figure || line.starts_with("# "), "{line}");
        }
        assert_eq!(value(&figures.text(), "caracal_store_watches"), 2.0);
    }
}
