//! What a command says about the objects it was given.

use caracal_api::{Kind, Origin};

use super::{Verb, execute::End};
use crate::{failure::Failure, manifests::listed, session::Session};

/// What an end is about.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) kind: Kind,
    pub(super) origin: Option<Origin>,
}

/// All ends, with what they are about.
#[derive(Debug)]
pub(super) struct Results {
    pub(super) subjects: Vec<Subject>,
    pub(super) ends: Vec<End>,
}

impl Results {
    /// `'Kind' ` if all objects are of one.
    fn kind(&self) -> String {
        let mut kinds = self.subjects.iter().map(|s| s.kind);
        let first = kinds.next();
        match first {
            Some(kind) if kinds.all(|k| k == kind) => format!("'{kind}' "),
            _ => String::new(),
        }
    }

    fn count(&self, of: impl Fn(&End) -> bool) -> usize {
        self.ends.iter().filter(|e| of(e)).count()
    }

    fn errors(&self) -> Vec<String> {
        let pairs = self.subjects.iter().zip(&self.ends);
        pairs
            .filter_map(|(subject, end)| match (end, &subject.origin) {
                (End::Failed(e), Some(origin)) => Some(format!("{origin}: {e}")),
                (End::Failed(e), None) => Some(e.to_string()),
                _ => None,
            })
            .collect()
    }
}

/// Prints what was done; what was not is the error.
pub(super) fn report(session: &mut Session, verb: Verb, results: &Results) -> Result<(), Failure> {
    let kind = results.kind();
    let total = results.ends.len();
    let done = results.count(|e| matches!(e, End::Done));
    let skipped = results.count(|e| matches!(e, End::Skipped));
    if skipped > 0 {
        let why = match verb {
            Verb::Delete { .. } => "did not exist",
            _ => "existed already",
        };
        session
            .io
            .complain(&format!("Skipped {skipped} {kind}resource(s) that {why}"));
    }
    let errors = results.errors();
    if errors.is_empty() {
        return session.print(&format!(
            "Successfully {} {done} {kind}resource(s)\n",
            verb.past()
        ));
    }
    let mut failure = if done + skipped > 0 {
        session.print(&format!(
            "Partial success: {} {done} out of {total} {kind}resources\n",
            verb.past()
        ))?;
        "Hit error:".to_owned()
    } else if total == 1 {
        format!("Failed to {} {kind}resource:", verb.now())
    } else {
        format!("Failed to {} any {kind}resources:", verb.now())
    };
    failure.push(if errors.len() > 1 { '\n' } else { ' ' });
    failure += &listed(&errors);
    let untried = results.count(|e| matches!(e, End::NotTried));
    if untried > 0 {
        failure += &format!("\n{untried} resource(s) were not tried after that");
    }
    Err(Failure::Objects(failure))
}
