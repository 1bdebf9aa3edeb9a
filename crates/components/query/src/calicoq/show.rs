//! Answers, as JSON and as text.

use std::fmt::Write as _;

use serde::Serialize;

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Ref {
    pub(super) kind: &'static str,
    pub(super) host: String,
    /// Without the host.
    pub(super) id: String,
}

impl Ref {
    /// With the host.
    pub(super) fn full(&self) -> String {
        format!("{}/{}", self.host, self.id)
    }
}

/// A rule's selector that matches an endpoint.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Match {
    pub(super) kind: &'static str,
    pub(super) name: String,
    #[serde(rename = "rule")]
    pub(super) what: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) selector: Option<String>,
}

/// An endpoint that was selected.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Selected {
    pub(super) endpoint: Ref,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) selector: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) matches: Vec<Match>,
}

/// A policy that applies to an endpoint.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Applied {
    pub(super) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) order: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) selector: Option<String>,
    pub(super) untracked: bool,
    pub(super) staged: bool,
}

/// An endpoint with all that applies to it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Block {
    pub(super) endpoint: Ref,
    pub(super) policies: Vec<Applied>,
    pub(super) profiles: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule_matches: Option<Vec<Match>>,
}

/// An answer.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", untagged)]
pub(super) enum Answer {
    Eval {
        selector: String,
        endpoints: Vec<Selected>,
    },
    Policy {
        policy: String,
        applies_to: Vec<Selected>,
        #[serde(skip_serializing_if = "Option::is_none")]
        rule_matches: Option<Vec<Selected>>,
    },
    Endpoints {
        #[serde(skip)]
        title: String,
        endpoints: Vec<Block>,
    },
}

impl Answer {
    /// Without what was asked to be hidden.
    pub(super) fn without(mut self, hide_matches: bool, hide_selectors: bool) -> Self {
        match &mut self {
            Self::Eval { .. } => {}
            Self::Policy {
                applies_to,
                rule_matches,
                ..
            } => {
                if hide_matches {
                    *rule_matches = None;
                }
                if hide_selectors {
                    applies_to.iter_mut().for_each(|s| s.selector = None);
                    let all = rule_matches.iter_mut().flatten().flat_map(|s| &mut s.matches);
                    all.for_each(|m| m.selector = None);
                }
            }
            Self::Endpoints { endpoints, .. } => {
                for block in endpoints {
                    if hide_matches {
                        block.rule_matches = None;
                    }
                    if hide_selectors {
                        block.policies.iter_mut().for_each(|p| p.selector = None);
                        block
                            .rule_matches
                            .iter_mut()
                            .flatten()
                            .for_each(|m| m.selector = None);
                    }
                }
            }
        }
        self
    }
}

/// `; selector "…"`, where it is shown.
fn with_selector(selector: Option<&String>) -> String {
    selector
        .map(|s| format!("; selector \"{s}\""))
        .unwrap_or_default()
}

/// The answer as Calico's command prints it.
pub(super) fn text(answer: &Answer) -> String {
    let mut out = String::new();
    match answer {
        Answer::Eval { selector, endpoints } => {
            let _ = writeln!(out, "Endpoints matching selector {selector}:");
            for e in endpoints {
                let _ = writeln!(out, "  {} {}", e.endpoint.kind, e.endpoint.full());
            }
        }
        Answer::Policy {
            policy,
            applies_to,
            rule_matches,
        } => {
            let _ = writeln!(out, "Policy \"{policy}\" applies to these endpoints:");
            for e in applies_to {
                let selector = with_selector(e.selector.as_ref());
                let _ = writeln!(out, "  {} {}{selector}", e.endpoint.kind, e.endpoint.full());
            }
            let Some(matched) = rule_matches else {
                return out;
            };
            let _ = writeln!(out, "\nEndpoints matching Policy \"{policy}\" rules:");
            for e in matched {
                let _ = writeln!(out, "  {} {}", e.endpoint.kind, e.endpoint.full());
                for m in &e.matches {
                    let _ = writeln!(out, "    {}{}", m.what, with_selector(m.selector.as_ref()));
                }
            }
        }
        Answer::Endpoints { title, endpoints } => {
            let _ = writeln!(out, "{title}");
            for block in endpoints {
                out.push('\n');
                block_text(block, &mut out);
            }
        }
    }
    out
}

fn block_text(block: &Block, out: &mut String) {
    let _ = writeln!(out, "{} {}", block.endpoint.kind, block.endpoint.id);
    let _ = writeln!(out, "  Policies:");
    for p in &block.policies {
        let order = p
            .order
            .map_or_else(|| "no order".to_owned(), |o| format!("order {o}"));
        let selector = with_selector(p.selector.as_ref());
        let mut note = String::new();
        if p.untracked {
            note += " [untracked]";
        }
        if p.staged {
            note += " [staged]";
        }
        let _ = writeln!(out, "    Policy \"{}\" ({order}{selector}){note}", p.name);
    }
    let _ = writeln!(out, "  Profiles:");
    for p in &block.profiles {
        let _ = writeln!(out, "    Profile \"{p}\"");
    }
    let Some(matches) = block.rule_matches.as_ref().filter(|m| !m.is_empty()) else {
        return;
    };
    let _ = writeln!(out, "  Rule matches:");
    for m in matches {
        let _ = writeln!(
            out,
            "    {} \"{}\" {}{}",
            m.kind,
            m.name,
            m.what,
            with_selector(m.selector.as_ref())
        );
    }
}

/// What `version` prints.
pub(super) fn version() -> String {
    let known = |text: Option<&'static str>| text.filter(|t| !t.is_empty()).unwrap_or("unknown");
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "Version:      v{version}\nBuild date:   {}\nGit tag ref:  v{version}\nGit commit:   {}\n",
        known(option_env!("CARACAL_BUILD_DATE")),
        known(option_env!("CARACAL_COMMIT"))
    )
}
