//! One object's verdict.

use caracal_api::{
    API_VERSION, FieldPath, Kind, ManifestError, ManifestObject, Origin, Problem, Resource, Step, Written,
    default_resource, nearest, validate,
};
use caracal_config::validate_spec;
use caracal_schema::{
    CLUSTER_NETWORK_POLICY, Finding as Refusal, Group, check, check_value, cluster_network_policy,
};
use serde::Serialize;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// An API server refuses the object.
    Error,
    /// An API server takes it; `calicoctl` or the agent do not, or not wholly.
    Warning,
}

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// The field; empty for the object itself.
    pub(crate) field: String,
    /// Counted from 1 in the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    /// What is wrong with it.
    pub(crate) message: String,
    /// What is allowed instead, where the message does not say it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) allowed: String,
    /// The schema's rule that does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<&'static str>,
    #[serde(skip)]
    path: FieldPath,
}

/// An object and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Judged {
    pub(crate) source: String,
    /// Counted from 1.
    pub(crate) document: usize,
    /// In a list, counted from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) item: Option<usize>,
    /// The document's first line.
    pub(crate) line: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) api_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kind: Option<String>,
    /// `namespace/name` or `name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// Whether an API server would take it.
    pub(crate) valid: bool,
    pub(crate) findings: Vec<Finding>,
}

impl Judged {
    fn new(
        origin: &Origin,
        api_version: Option<String>,
        kind: Option<String>,
        name: Option<String>,
        findings: Vec<Finding>,
    ) -> Self {
        Self {
            source: origin.source.to_string(),
            document: origin.document,
            item: origin.item,
            line: origin.line,
            api_version,
            kind,
            name,
            valid: findings.iter().all(|f| f.severity == Severity::Warning),
            findings,
        }
    }
}

/// The verdict of text that is neither YAML nor JSON.
pub(crate) fn unreadable(e: &ManifestError) -> Judged {
    let findings = e
        .problems
        .iter()
        .map(|p| from_problem(p, Severity::Error))
        .collect();
    Judged::new(&e.origin, None, e.kind.clone(), e.name.clone(), findings)
}

/// The verdict of an object.
pub(crate) fn judge(object: &Written) -> Judged {
    let mut findings = findings(object);
    for f in &mut findings {
        f.line = object.line(&f.path).or(f.line);
    }
    Judged::new(
        &object.origin,
        object.api_version(),
        object.kind(),
        object.name(),
        findings,
    )
}

fn findings(object: &Written) -> Vec<Finding> {
    let (Some(version), Some(kind)) = (object.api_version(), object.kind()) else {
        // The reader says which of them is missing.
        return read(object, Severity::Error);
    };
    if (version.as_str(), kind.as_str()) == CLUSTER_NETWORK_POLICY {
        let errors = refusals(check_value(cluster_network_policy(), &object.value));
        return with_warnings(errors, read(object, Severity::Warning));
    }
    let Some(group) = Group::ALL.into_iter().find(|g| g.api_version() == version) else {
        return read(object, Severity::Error);
    };
    match group.kind(&kind) {
        Some(kind) => {
            let errors = refusals(check(kind, group, &object.value));
            // The older group's objects are no one's input but an API server's.
            let warnings = match group {
                Group::V3 => read(object, Severity::Warning),
                Group::V1 => Vec::new(),
            };
            with_warnings(errors, warnings)
        }
        // A kind that Kubernetes does not store as such: its types and rules are all there is.
        None if version == API_VERSION => read(object, Severity::Error),
        None => vec![unknown_kind(group, &kind)],
    }
}

fn unknown_kind(group: Group, kind: &str) -> Finding {
    let known: Vec<&str> = Kind::ALL
        .iter()
        .map(|k| group.names(*k).0)
        .filter(|name| group.kind(name).is_some())
        .collect();
    // It may be what the other group calls it.
    let other = Group::ALL
        .into_iter()
        .find_map(|g| g.kind(kind))
        .map(|k| group.names(k).0);
    let allowed = match other.or_else(|| nearest(kind, known.iter().copied())) {
        Some(near) => format!("did you mean {near:?}?"),
        None => known.join(", "),
    };
    finding(
        Severity::Error,
        FieldPath::of("kind"),
        format!("{} has no kind {kind:?}", group.api_version()),
        allowed,
    )
}

fn finding(severity: Severity, path: FieldPath, message: String, allowed: String) -> Finding {
    Finding {
        severity,
        field: path.to_string(),
        line: None,
        message,
        allowed,
        rule: None,
        path,
    }
}

fn from_problem(p: &Problem, severity: Severity) -> Finding {
    Finding {
        line: p.line,
        ..finding(severity, p.path.clone(), p.message.clone(), String::new())
    }
}

fn refusals(found: Vec<Refusal>) -> Vec<Finding> {
    found
        .into_iter()
        .map(|r| {
            let message = match r.value.as_str() {
                "" => r.message,
                value => format!("{value} {}", r.message),
            };
            Finding {
                rule: r.rule,
                ..finding(Severity::Error, r.path, message, r.allowed)
            }
        })
        .collect()
}

/// What `calicoctl` and the agent say of an object: of its types first, then of what it means.
fn read(object: &Written, severity: Severity) -> Vec<Finding> {
    let problems = match object.read() {
        Err(problems) => problems,
        Ok(ManifestObject::Foreign(foreign)) => match caracal_convert::foreign(&foreign) {
            Ok(_) => Vec::new(),
            Err(e) => e.problems,
        },
        Ok(ManifestObject::Calico(mut resource)) => {
            default_resource(&mut resource);
            let mut problems: Vec<Problem> = validate(&resource).into_iter().map(Problem::from).collect();
            if let Resource::FelixConfiguration(o) = &resource {
                problems.extend(validate_spec(&o.spec.fields).into_iter().map(|p| Problem {
                    path: FieldPath::of("spec").key(&p.field),
                    line: None,
                    message: format!("{} {}", p.given, p.why),
                }));
            }
            problems
        }
    };
    problems.iter().map(|p| from_problem(p, severity)).collect()
}

/// The errors, and those warnings that say something else.
fn with_warnings(mut errors: Vec<Finding>, warnings: Vec<Finding>) -> Vec<Finding> {
    let said = |w: &Finding, e: &Finding| match e.rule {
        None => w.path.0.starts_with(&e.path.0) || e.path.0.starts_with(&w.path.0),
        // A rule stands at the object that has the fields; one of them is what the warning is about.
        Some(rule) => {
            let below = w
                .path
                .0
                .starts_with(&e.path.0)
                .then(|| w.path.0.get(e.path.0.len()));
            match below {
                None => false,
                Some(Some(Step::Key(field))) => rule.contains(&format!("self.{field}")),
                Some(_) => true,
            }
        }
    };
    let new: Vec<Finding> = warnings
        .into_iter()
        .filter(|w| !errors.iter().any(|e| said(w, e)))
        .collect();
    errors.extend(new);
    errors
}
