use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

#[derive(Debug)]
struct State {
    live_deadline: Option<Duration>,
    last_alive: Instant,
    ready: bool,
    detail: String,
}

/// What the parts of a program say about themselves, added up to liveness and readiness.
#[derive(Debug, Clone, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<String, State>>>,
}

impl Health {
    /// No parts yet: live, but not ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn with<R>(&self, f: impl FnOnce(&mut BTreeMap<String, State>) -> R) -> R {
        // A panic while the lock was held leaves plain data behind; reading it is safe.
        f(&mut self.parts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a part. With `live_deadline` it counts as dead when it does not report for that long.
    #[must_use]
    pub fn register(&self, name: &str, live_deadline: Option<Duration>) -> Reporter {
        let state = State {
            live_deadline,
            last_alive: Instant::now(),
            ready: false,
            detail: "starting".to_owned(),
        };
        self.with(|parts| parts.insert(name.to_owned(), state));
        Reporter {
            name: name.to_owned(),
            health: self.clone(),
        }
    }

    /// Whether every part reported in time, and the detail per part.
    #[must_use]
    pub fn live(&self) -> (bool, Value) {
        self.sum(|s| s.live_deadline.is_none_or(|d| s.last_alive.elapsed() <= d))
    }

    /// Whether every part is ready, and the detail per part.
    #[must_use]
    pub fn ready(&self) -> (bool, Value) {
        let (all, detail) = self.sum(|s| s.ready);
        (all && self.with(|p| !p.is_empty()), detail)
    }

    fn sum(&self, good: impl Fn(&State) -> bool) -> (bool, Value) {
        self.with(|parts| {
            let all = parts.values().all(&good);
            let detail: serde_json::Map<String, Value> = parts
                .iter()
                .map(|(name, s)| (name.clone(), json!({ "ok": good(s), "detail": s.detail })))
                .collect();
            (all, Value::Object(detail))
        })
    }
}

/// One part's way to report.
#[derive(Debug, Clone)]
pub struct Reporter {
    name: String,
    health: Health,
}

impl Reporter {
    fn change(&self, f: impl FnOnce(&mut State)) {
        self.health.with(|parts| {
            if let Some(s) = parts.get_mut(&self.name) {
                s.last_alive = Instant::now();
                f(s);
            }
        });
    }

    /// Says that the part is alive.
    pub fn alive(&self) {
        self.change(|_| {});
    }

    /// Says whether the part is ready, and in words how it is.
    pub fn report(&self, ready: bool, detail: impl Into<String>) {
        self.change(|s| {
            s.ready = ready;
            s.detail = detail.into();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_every_part_is() {
        let h = Health::new();
        assert!(!h.ready().0);
        let a = h.register("a", None);
        let b = h.register("b", Some(Duration::ZERO));
        a.report(true, "fine");
        assert!(!h.ready().0);
        b.report(true, "fine");
        assert!(h.ready().0);
        // b's deadline of zero has passed by now.
        while h.live().0 {
            std::hint::spin_loop();
        }
        assert_eq!(h.live().1["a"]["ok"], json!(true));
    }
}
