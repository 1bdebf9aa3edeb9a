//! A line for each event, and nothing that is only needed for spans, which plugins do not have: what a general subscriber
//! prepares for them would be made anew at each call.

use std::fmt::{self, Write};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    span,
};

/// Writes events of the two sorts up to their levels, each as a line with its end, by `write`.
#[derive(Debug)]
pub(crate) struct Lines<W> {
    pub(crate) ours: LevelFilter,
    pub(crate) libraries: LevelFilter,
    pub(crate) write: W,
}

impl<W: Fn(&str) + 'static> Subscriber for Lines<W> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target().starts_with("caracal");
        let most = if ours { self.ours } else { self.libraries };
        metadata.is_event() && *metadata.level() <= most
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.ours.max(self.libraries))
    }

    fn event(&self, event: &Event<'_>) {
        let level: &Level = event.metadata().level();
        let mut line = Line(format!("{:.6} {level:>5}", jiff::Timestamp::now()));
        event.record(&mut line);
        line.0.push('\n');
        (self.write)(&line.0);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

/// Keeps a line one line, and a terminal what it is.
impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c.is_control() {
                true => self.0.extend(c.escape_default()),
                false => self.0.push(c),
            }
        }
        Ok(())
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // A string takes whatever is written to it.
        let _ = match field.name() {
            "message" => write!(self, " {value:?}"),
            name => write!(self, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    fn logged(ours: LevelFilter, libraries: LevelFilter, work: impl FnOnce()) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let subscriber = Lines {
            ours,
            libraries,
            write: move |line: &str| kept.lock().unwrap().push(line.to_owned()),
        };
        tracing::subscriber::with_default(subscriber, work);
        lines.lock().unwrap().clone()
    }

    #[test]
    fn an_event_is_a_line() {
        let lines = logged(LevelFilter::INFO, LevelFilter::OFF, || {
            let (path, text) = ("/a b", "two\nlines\u{1b}[31m");
            tracing::warn!(path, number = 7, %text, debug = ?Some("x\n"), "it {}", "went");
            tracing::debug!("not this");
            tracing::info_span!("nor this").in_scope(|| tracing::info!("but this"));
        });
        let [first, second] = lines.as_slice() else {
            panic!("{lines:?}");
        };
        let (time, rest) = first.split_once(' ').unwrap();
        assert!(
            time.ends_with('Z') && time.len() == "2026-11-22T03:54:07.695235Z".len(),
            "{time}"
        );
        let expected = r#" WARN it went path="/a b" number=7 text=two\nlines\u{1b}[31m debug=Some("x\n")"#;
        assert_eq!(rest, format!("{expected}\n"));
        assert!(second.ends_with("  INFO but this\n"), "{second}");
    }

    #[test]
    fn libraries_have_a_level_of_their_own() {
        let lines = logged(LevelFilter::DEBUG, LevelFilter::WARN, || {
            tracing::debug!("ours");
            tracing::debug!(target: "h2::codec", "of a library");
            tracing::error!(target: "h2::codec", "something wrong");
        });
        let ends: Vec<_> = lines
            .iter()
            .map(|l| l.rsplit_once("  ").map_or(l.as_str(), |e| e.1))
            .collect();
        assert_eq!(lines.len(), 2, "{ends:?}");
        assert!(
            lines[0].contains("ours") && lines[1].contains("ERROR something wrong"),
            "{ends:?}"
        );
        assert!(logged(LevelFilter::OFF, LevelFilter::OFF, || tracing::error!("nothing")).is_empty());
    }
}
