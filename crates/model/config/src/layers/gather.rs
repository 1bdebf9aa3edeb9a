//! What each source says, under the rows it speaks of.

use std::collections::HashMap;

use super::{Outcome, Problem, Source, SpecLayer};
use crate::file::{FileText, parse_file};
use crate::own::{ANNOTATION_PREFIX, CALICO_ANNOTATION_PREFIX};
use crate::spec::{nearest, spec_to_raw};
use crate::table::Param;

/// Something said in one source about one parameter.
pub(super) struct Said {
    pub(super) raw: Result<String, String>,
    pub(super) place: String,
    pub(super) source: Source,
}

/// A parameter's identity across both tables.
pub(super) fn key(param: &Param) -> (&'static str, &'static str) {
    (param.env_prefix, param.name)
}

/// Collects what is said, the strongest source first.
#[derive(Default)]
pub(super) struct Gather {
    pub(super) said: HashMap<(&'static str, &'static str), Vec<Said>>,
    pub(super) problems: Vec<Problem>,
}

impl Gather {
    fn say(&mut self, param: &Param, raw: Result<String, String>, source: Source, place: String) {
        let all = self.said.entry(key(param)).or_default();
        if let Some(twice) = all.iter().find(|s| s.source == source) {
            if twice.raw != raw {
                let why = format!("{} says otherwise and was read first", twice.place);
                let raw = raw.unwrap_or_default();
                let name = param.name.to_owned();
                self.problems.push(Problem {
                    name,
                    source,
                    place,
                    raw,
                    why,
                    outcome: Outcome::Ignored,
                });
            }
            return;
        }
        all.push(Said { raw, place, source });
    }

    pub(super) fn known(
        &mut self,
        param: Option<&'static Param>,
        name: &str,
        raw: &str,
        source: Source,
        place: String,
    ) {
        match param {
            Some(param) => self.say(param, Ok(raw.to_owned()), source, place),
            None => self.unknown(
                name,
                raw,
                source,
                place,
                nearest(name, Param::all().map(|p| p.name)),
            ),
        }
    }

    fn unknown(&mut self, name: &str, raw: &str, source: Source, place: String, near: Option<&str>) {
        let hint = near.map(|n| format!(" (did you mean {n}?)")).unwrap_or_default();
        self.problems.push(Problem {
            name: name.to_owned(),
            source,
            place,
            raw: raw.to_owned(),
            why: format!("there is no parameter of this name{hint}"),
            outcome: Outcome::Ignored,
        });
    }

    pub(super) fn env(&mut self, env: &[(String, String)]) {
        let mut env: Vec<_> = env.iter().collect();
        env.sort();
        for (variable, raw) in env {
            let Some((prefix, name)) = variable.split_once('_') else {
                continue;
            };
            if prefix.eq_ignore_ascii_case("felix") {
                self.known(Param::by_name(name), name, raw, Source::Env, variable.clone());
            } else if prefix.eq_ignore_ascii_case("caracal") {
                // Other programs of ours read CARACAL_ variables too, so an unknown one is no problem here.
                if let Some(param) = own_by_name(name) {
                    self.say(param, Ok(raw.clone()), Source::Env, variable.clone());
                }
            }
        }
    }

    pub(super) fn file(&mut self, text: &str) {
        let FileText { pairs, bad } = parse_file(text);
        for (number, line) in bad {
            self.problems.push(Problem {
                name: String::new(),
                source: Source::File,
                place: format!("line {number} of the configuration file"),
                raw: line,
                why: "this is not name = value".to_owned(),
                outcome: Outcome::Ignored,
            });
        }
        for (name, raw) in pairs {
            let place = format!("{name} in the configuration file");
            self.known(
                Param::by_name(&name).or_else(|| own_by_name(&name)),
                &name,
                &raw,
                Source::File,
                place,
            );
        }
    }

    pub(super) fn layer(&mut self, source: Source, layer: &SpecLayer<'_>) {
        for &(annotation, raw) in &layer.annotations {
            let place = format!("annotation {annotation} of FelixConfiguration {}", layer.name);
            if let Some(name) = annotation.strip_prefix(CALICO_ANNOTATION_PREFIX) {
                self.known(Param::by_name(name), name, raw, source, place);
            } else if let Some(name) = annotation.strip_prefix(ANNOTATION_PREFIX) {
                match own_by_name(name) {
                    Some(param) => self.say(param, Ok(raw.to_owned()), source, place),
                    None => {
                        let near = nearest(name, Param::own().map(|p| p.name));
                        self.unknown(name, raw, source, place, near);
                    }
                }
            }
        }
        for (field, value) in layer.spec {
            if field == "nodeSelector" {
                continue;
            }
            let place = format!("spec.{field} of FelixConfiguration {}", layer.name);
            let Some(param) = Param::by_field(field) else {
                let near = nearest(field, Param::all().map(|p| p.field));
                self.unknown(field, &value.to_string(), source, place, near);
                continue;
            };
            // An annotation of this object overrides its own spec, and says so nowhere else.
            let overridden = self
                .said
                .get(&key(param))
                .is_some_and(|s| s.iter().any(|s| s.source == source));
            if !overridden {
                self.say(param, spec_to_raw(param, value), source, place);
            }
        }
    }
}

fn own_by_name(name: &str) -> Option<&'static Param> {
    let plain = name.replace('_', "");
    Param::own().find(|p| p.name.eq_ignore_ascii_case(&plain))
}
