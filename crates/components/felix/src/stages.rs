//! How long the stages of a start took, for the line of the log that says so.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// The ends of the stages, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Stages {
    begun: Instant,
    ends: Mutex<Vec<(&'static str, Instant)>>,
}

impl Default for Stages {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            ends: Mutex::default(),
        }
    }
}

impl Stages {
    /// A stage ends now. What has ended before is not told again.
    pub(crate) fn end(&self, stage: &'static str) {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.iter().all(|(known, _)| *known != stage) {
            ends.push((stage, Instant::now()));
        }
    }

    /// Each stage with its time, and the time of all together.
    pub(crate) fn tell(&self) -> (String, Duration) {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last = self.begun;
        let parts = ends.iter().map(|(stage, end)| {
            let took = end.saturating_duration_since(last);
            last = *end;
            format!("{stage} {:.1} ms", took.as_secs_f64() * 1e3)
        });
        let text = parts.collect::<Vec<_>>().join(", ");
        (text, last.saturating_duration_since(self.begun))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_is_told_once_in_its_order() {
        let stages = Stages::default();
        for stage in ["parameters", "datastore", "parameters"] {
            stages.end(stage);
        }
        let (text, all) = stages.tell();
        let names: Vec<_> = text.split(", ").filter_map(|p| p.split(' ').next()).collect();
        assert_eq!(names, ["parameters", "datastore"]);
        let last = stages.ends.lock().unwrap()[1].1;
        assert_eq!(all, last - stages.begun);
    }
}
