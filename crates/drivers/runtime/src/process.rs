//! Figures of this process, under the names that Prometheus' own libraries give them.

use std::fs;

/// The unit of times in `/proc`: fixed at 100 a second for programs, whatever the kernel counts in.
const TICKS: f64 = 100.0;

/// Reads the figures. What cannot be read keeps its last value.
pub(crate) fn sample() {
    if let Some(s) = fs::read_to_string("/proc/self/stat")
        .ok()
        .as_deref()
        .and_then(Stat::parse)
    {
        metrics::gauge!("process_cpu_seconds_total").set(s.cpu_ticks / TICKS);
        metrics::gauge!("process_virtual_memory_bytes").set(s.virtual_bytes);
        if let Some(boot) = boot_time() {
            metrics::gauge!("process_start_time_seconds").set(boot + s.start_ticks / TICKS);
        }
    }
    if let Some(bytes) = fs::read_to_string("/proc/self/status")
        .ok()
        .as_deref()
        .and_then(resident)
    {
        metrics::gauge!("process_resident_memory_bytes").set(bytes);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        metrics::gauge!("process_open_fds").set(open.count() as f64);
    }
}

#[derive(Debug, PartialEq)]
struct Stat {
    cpu_ticks: f64,
    start_ticks: f64,
    virtual_bytes: f64,
}

impl Stat {
    /// proc(5): the name in parentheses may hold anything, so counting begins behind the last one.
    fn parse(text: &str) -> Option<Self> {
        let (_, rest) = text.rsplit_once(')')?;
        let field = |n: usize| rest.split_whitespace().nth(n)?.parse::<f64>().ok();
        Some(Self {
            cpu_ticks: field(11)? + field(12)?,
            start_ticks: field(19)?,
            virtual_bytes: field(20)?,
        })
    }
}

fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024.0)
}

fn boot_time() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines()
        .find_map(|l| l.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 30 12 13 14 15 16 17 18 500 4096 20";
        let expected = Stat {
            cpu_ticks: 42.0,
            start_ticks: 500.0,
            virtual_bytes: 4096.0,
        };
        assert_eq!(Stat::parse(text), Some(expected));
        assert!(Stat::parse("nonsense").is_none());
    }

    #[test]
    fn this_process_has_figures() {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        assert!(resident(&status).unwrap() > 0.0);
        assert!(boot_time().unwrap() > 0.0);
    }
}
