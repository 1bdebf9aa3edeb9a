//! The sources of values, laid over one another.

use std::collections::HashMap;
use std::fmt;

use serde_json::{Map, Value as Json, json};

use crate::parse::{parse, zero};
use crate::table::{OnBadValue, Param};
use crate::value::Value;

mod gather;

use gather::{Gather, Said, key};

/// Where a value comes from, the strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Decided by the program itself, against whatever was configured.
    Internal,
    /// The environment.
    Env,
    /// The configuration file.
    File,
    /// The FelixConfiguration `node.<name>`.
    Node,
    /// A FelixConfiguration that selects the node.
    Selector,
    /// The FelixConfiguration `default`.
    Global,
    /// The table.
    Default,
}

impl Source {
    /// The word that reports use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Internal => "internal",
            Source::Env => "env",
            Source::File => "file",
            Source::Node => "node",
            Source::Selector => "selector",
            Source::Global => "global",
            Source::Default => "default",
        }
    }

    /// Whether the source is on the node itself.
    fn is_local(self) -> bool {
        matches!(self, Source::Internal | Source::Env | Source::File)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One FelixConfiguration.
#[derive(Debug, Clone)]
pub struct SpecLayer<'a> {
    /// The object's name.
    pub name: &'a str,
    /// Its spec.
    pub spec: &'a Map<String, Json>,
    /// Its annotations; those with a prefix of ours or Calico's override the spec.
    pub annotations: Vec<(&'a str, &'a str)>,
}

/// All that values are resolved from. Absent sources are empty.
#[derive(Debug, Clone, Default)]
pub struct Sources<'a> {
    /// Overrides by the program: name and text.
    pub internal: Vec<(String, String)>,
    /// The whole environment; only `FELIX_*` and `CARACAL_*` are looked at, in any case.
    pub env: Vec<(String, String)>,
    /// The text of the configuration file.
    pub file: Option<&'a str>,
    /// The FelixConfiguration `node.<name>`.
    pub node: Option<SpecLayer<'a>>,
    /// The FelixConfiguration whose selector takes the node in, see [`pick_selected`].
    pub selector: Option<SpecLayer<'a>>,
    /// The FelixConfiguration `default`.
    pub global: Option<SpecLayer<'a>>,
}

/// Of several FelixConfigurations that select a node only one counts: the oldest, by name where that ties.
/// Items are (creation timestamp in RFC 3339, name, object).
pub fn pick_selected<'a, T>(selected: impl IntoIterator<Item = (&'a str, &'a str, T)>) -> Option<T> {
    selected
        .into_iter()
        .min_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)))
        .map(|(_, _, object)| object)
}

/// What follows from a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The built-in default is used.
    DefaultUsed,
    /// The agent must not start with this.
    MustExit,
    /// What was said is ignored.
    Ignored,
}

/// Something said in a source that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The parameter's name, or the unknown name.
    pub name: String,
    /// The source.
    pub source: Source,
    /// The place as its author knows it: a variable, a line, a field of an object.
    pub place: String,
    /// What was said there.
    pub raw: String,
    /// Why it cannot be followed, and what could.
    pub why: String,
    /// What follows.
    pub outcome: Outcome,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:?}: {}", self.place, self.raw, self.why)?;
        f.write_str(match self.outcome {
            Outcome::DefaultUsed => "; the default is used",
            Outcome::MustExit => "; the agent does not start with this",
            Outcome::Ignored => "; ignored",
        })
    }
}

/// A parameter with the value that counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedParam {
    /// Its row in the table.
    pub param: &'static Param,
    /// The value.
    pub value: Value,
    /// The text it was read from.
    pub raw: String,
    /// Where that was said. A bad value replaced by the default keeps its source.
    pub source: Source,
}

impl ResolvedParam {
    /// `{name, env, value, raw, source, supported}`, and `note` where there is one.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let mut row = json!({
            "name": self.param.name,
            "env": self.param.env(),
            "value": self.value.to_json(),
            "raw": self.raw,
            "source": self.source.as_str(),
            "supported": self.param.supported,
        });
        if !self.param.note.is_empty() {
            row["note"] = self.param.note.into();
        }
        row
    }
}

/// Every parameter resolved, in the table's order, our own after Calico's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    params: Vec<ResolvedParam>,
    index: HashMap<&'static str, usize>,
    /// Calico's parameters come first; their number.
    calico: usize,
    /// All that could not be followed.
    pub problems: Vec<Problem>,
}

impl Resolved {
    /// Calico's parameters.
    #[must_use]
    pub fn params(&self) -> &[ResolvedParam] {
        &self.params[..self.calico]
    }

    /// Caracal's own parameters.
    #[must_use]
    pub fn own(&self) -> &[ResolvedParam] {
        &self.params[self.calico..]
    }

    /// The parameter of exactly this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&ResolvedParam> {
        self.index.get(name).map(|&i| &self.params[i])
    }

    /// The problems that forbid a start.
    pub fn fatal(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|p| p.outcome == Outcome::MustExit)
    }

    /// Parameters somebody set to something else than the default although this version has no use for them.
    pub fn unsupported(&self) -> impl Iterator<Item = &ResolvedParam> {
        self.set().filter(|p| !p.param.supported)
    }

    /// Parameters somebody set to something else than the default, and should know something about.
    pub fn noted(&self) -> impl Iterator<Item = &ResolvedParam> {
        self.set()
            .filter(|p| p.param.supported && !p.param.note.is_empty())
    }

    fn set(&self) -> impl Iterator<Item = &ResolvedParam> {
        self.params.iter().filter(|p| {
            p.source != Source::Default
                && parse(p.param.kind, p.param.default).is_ok_and(|default| default != p.value)
        })
    }

    /// Parameters whose value names a file that must exist, with the path. Files are for the caller to look at.
    pub fn files_that_must_exist(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.params.iter().filter_map(|p| match (&p.value, p.param.kind) {
            (Value::Text(path), crate::Kind::ExistingFile) if !path.is_empty() => {
                Some((p.param.name, path.as_str()))
            }
            _ => None,
        })
    }

    /// Names of the parameters whose values differ from `before`.
    #[must_use]
    pub fn changed_since(&self, before: &Resolved) -> Vec<&'static str> {
        let pairs = self.params.iter().zip(&before.params);
        pairs
            .filter(|(a, b)| a.value != b.value)
            .map(|(a, _)| a.param.name)
            .collect()
    }
}

/// Lays the sources over one another.
#[must_use]
pub fn resolve(sources: &Sources<'_>) -> Resolved {
    let mut gather = Gather::default();
    for (name, raw) in &sources.internal {
        gather.known(Param::by_name(name), name, raw, Source::Internal, name.clone());
    }
    gather.env(&sources.env);
    if let Some(text) = sources.file {
        gather.file(text);
    }
    for (source, layer) in [
        (Source::Node, &sources.node),
        (Source::Selector, &sources.selector),
        (Source::Global, &sources.global),
    ] {
        if let Some(layer) = layer {
            gather.layer(source, layer);
        }
    }
    let Gather {
        mut said,
        mut problems,
    } = gather;
    let rows = || Param::all().chain(Param::own());
    let params: Vec<_> = rows()
        .map(|p| settle(p, said.remove(&key(p)).unwrap_or_default(), &mut problems))
        .collect();
    let index = rows().enumerate().map(|(i, p)| (p.name, i)).collect();
    Resolved {
        params,
        index,
        calico: Param::all().count(),
        problems,
    }
}

/// The first that says something counts, good or bad.
fn settle(param: &'static Param, said: Vec<Said>, problems: &mut Vec<Problem>) -> ResolvedParam {
    let default = || parse(param.kind, param.default).unwrap_or_else(|_| zero(param.kind));
    for Said { raw, place, source } in said {
        let mut problem = |raw: &str, why: String, outcome| {
            let (name, raw, place) = (param.name.to_owned(), raw.to_owned(), place.clone());
            problems.push(Problem {
                name,
                source,
                place,
                raw,
                why,
                outcome,
            });
        };
        let on_bad_value = match param.on_bad_value {
            OnBadValue::Default => Outcome::DefaultUsed,
            OnBadValue::Exit => Outcome::MustExit,
        };
        let raw = match raw {
            Ok(raw) => raw,
            Err(why) => {
                problem("", why, on_bad_value);
                return ResolvedParam {
                    param,
                    value: default(),
                    raw: String::new(),
                    source,
                };
            }
        };
        if raw.trim().is_empty() {
            continue;
        }
        if param.local_only && !source.is_local() {
            let why = "only the environment and the file of the node may set this".to_owned();
            problem(&raw, why, Outcome::Ignored);
            continue;
        }
        let value = if raw.trim().eq_ignore_ascii_case("none") && !is_word(param, "none") {
            if param.nonzero {
                problem(
                    &raw,
                    "this parameter cannot be none".to_owned(),
                    Outcome::MustExit,
                );
                default()
            } else {
                zero(param.kind)
            }
        } else {
            parse(param.kind, &raw).unwrap_or_else(|bad| {
                problem(&raw, bad.to_string(), on_bad_value);
                default()
            })
        };
        return ResolvedParam {
            param,
            value,
            raw,
            source,
        };
    }
    ResolvedParam {
        param,
        value: default(),
        raw: param.default.to_owned(),
        source: Source::Default,
    }
}

/// Whether `word` is one of the parameter's own words, which then wins over a general meaning.
fn is_word(param: &Param, word: &str) -> bool {
    matches!(param.kind, crate::Kind::OneOf(words) if words.iter().any(|w| w.eq_ignore_ascii_case(word)))
}

#[cfg(test)]
mod tests;
