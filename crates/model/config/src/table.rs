//! The table: one row for each parameter.

use crate::own;

mod bpf;
mod dataplane;
mod node;
mod shapes;

pub(crate) use shapes::DSCP_NAMES;

/// What the environment variables of our own parameters begin with.
const OWN_PREFIX: &str = "CARACAL_";

/// What a parameter's text may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true`, `1`, `yes`, `y`, `t` or their opposites, in any case.
    Bool,
    /// As [`Kind::Bool`], but unset differs from false.
    OptionalBool,
    /// A whole number from the first to the second bound.
    Int((i64, i64)),
    /// Seconds, with a fraction if wanted.
    Seconds,
    /// Milliseconds, with a fraction if wanted.
    Millis,
    /// One of these words, in any case; kept as it is written here.
    OneOf(&'static [&'static str]),
    /// Any text.
    Text,
    /// Text that matches this regular expression.
    Matching(&'static str),
    /// The path of a file.
    Path,
    /// The path of a file that must exist: the caller checks that, see [`crate::Resolved::files_that_must_exist`].
    ExistingFile,
    /// The path of a program.
    Executable,
    /// A regular expression.
    Regex,
    /// Interface names, or regular expressions between slashes, separated by commas.
    InterfacePatterns,
    /// Interface names separated by commas; `+` at the end is a wildcard.
    Interfaces,
    /// CIDRs or addresses separated by commas.
    Cidrs,
    /// URLs `http(s)://host:port` separated by commas.
    Endpoints,
    /// `protocol:port`, `protocol:cidr:port` or `port`, separated by commas.
    ProtoPorts,
    /// A port or a range `n:m`.
    PortRange,
    /// Ports and ranges `n:m` separated by commas.
    PortRanges,
    /// A range `n-m` of route tables within 0 to 250.
    TableRange,
    /// Ranges `n-m` of route tables separated by commas or spaces.
    TableRanges,
    /// `key=value` separated by commas.
    Pairs(PairsAs),
    /// `name=duration` separated by commas.
    NamedDurations,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A DSCP value from 0 to 63 or its registered name.
    Dscp,
    /// A bit mask with at least two bits set, decimal or hexadecimal.
    MarkMask,
    /// A DNS label, or nothing.
    Region,
}

/// How `key=value` pairs are written in a FelixConfiguration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairsAs {
    /// As one string that matches this regular expression.
    Text(&'static str),
    /// As an object from key to string.
    Object,
    /// As an object with exactly these fields: (field, key), each value a duration or `Auto`.
    Fields(&'static [(&'static str, &'static str)]),
}

/// What a bad value does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnBadValue {
    /// The built-in default is used.
    Default,
    /// The agent must not start: guessing could open what was meant to be closed.
    Exit,
}

/// What the FelixConfiguration schema asks beyond the type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecRule {
    /// Nothing more.
    Nothing,
    /// One of these words, in exactly this case.
    Exactly(&'static [&'static str]),
    /// Text that matches this regular expression.
    Matches(&'static str),
    /// A number from the first to the second.
    Within(i64, i64),
}

/// How a change of a parameter takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Applies {
    /// The running agent takes it.
    AtOnce,
    /// The agent starts anew by itself, in its own place.
    Anew,
    /// When the agent is started the next time.
    AtStart,
}

/// One parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param {
    /// The name in the file.
    pub name: &'static str,
    /// What precedes the name in the environment: `FELIX_` or `CARACAL_`.
    pub env_prefix: &'static str,
    /// The field in FelixConfiguration's spec; empty where there is none.
    pub field: &'static str,
    /// What its text may be.
    pub kind: Kind,
    /// The built-in default as text; empty means the type's zero value.
    pub default: &'static str,
    /// What a bad value does.
    pub on_bad_value: OnBadValue,
    /// Only environment and file may set it.
    pub local_only: bool,
    /// The literal `none` is refused.
    pub nonzero: bool,
    /// The feature behind it exists in this version.
    pub supported: bool,
    /// What whoever sets it should know of this version; empty where there is nothing.
    pub note: &'static str,
    /// How a change takes effect.
    pub applies: Applies,
    /// What FelixConfiguration's schema asks beyond the type.
    pub spec_rule: SpecRule,
}

/// Parameters that belong together.
#[derive(Debug, Clone, Copy)]
pub struct Group {
    /// What they are about.
    pub title: &'static str,
    /// The parameters.
    pub params: &'static [Param],
}

/// A row of the table: name in the file, field in the spec, kind, default.
const fn p(name: &'static str, field: &'static str, kind: Kind, default: &'static str) -> Param {
    Param {
        name,
        env_prefix: "FELIX_",
        field,
        kind,
        default,
        on_bad_value: OnBadValue::Default,
        local_only: false,
        nonzero: false,
        supported: false,
        note: "",
        applies: Applies::AtOnce,
        spec_rule: SpecRule::Nothing,
    }
}

/// A row for a parameter of our own: no field in the spec, always supported.
pub(crate) const fn own(name: &'static str, kind: Kind, default: &'static str) -> Param {
    Param {
        env_prefix: OWN_PREFIX,
        supported: true,
        ..p(name, "", kind, default)
    }
}

impl Param {
    const fn exits(self) -> Self {
        Param {
            on_bad_value: OnBadValue::Exit,
            ..self
        }
    }

    pub(crate) const fn local(self) -> Self {
        Param {
            local_only: true,
            applies: Applies::AtStart,
            ..self
        }
    }

    /// The agent reads it once in its life.
    pub(crate) const fn anew(self) -> Self {
        Param {
            applies: Applies::Anew,
            ..self
        }
    }

    pub(crate) const fn at_start(self) -> Self {
        Param {
            applies: Applies::AtStart,
            ..self
        }
    }

    const fn nonzero(self) -> Self {
        Param {
            nonzero: true,
            ..self
        }
    }

    const fn supported(self) -> Self {
        Param {
            supported: true,
            ..self
        }
    }

    const fn note(self, note: &'static str) -> Self {
        Param { note, ..self }
    }

    const fn spec(self, spec_rule: SpecRule) -> Self {
        Param { spec_rule, ..self }
    }

    /// The environment variable: `FELIX_HealthPort`, but `CARACAL_LOG_FORMAT`. Any case is read.
    #[must_use]
    pub fn env(&self) -> String {
        let mut name = self.env_prefix.to_owned();
        if !self.is_own() {
            return name + self.name;
        }
        for (i, c) in self.name.char_indices() {
            if i > 0 && c.is_ascii_uppercase() {
                name.push('_');
            }
            name.push(c.to_ascii_uppercase());
        }
        name
    }

    /// Whether this is a parameter of Caracal's own.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.env_prefix == OWN_PREFIX
    }

    /// Calico's parameters, in the order of its documentation.
    pub fn all() -> impl Iterator<Item = &'static Param> {
        groups().flat_map(|g| g.params)
    }

    /// Caracal's own parameters.
    pub fn own() -> impl Iterator<Item = &'static Param> {
        own::PARAMS.iter()
    }

    /// The parameter of exactly this name, of Calico's or our own.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Param> {
        Self::all().chain(Self::own()).find(|p| p.name == name)
    }

    /// The Calico parameter of this name, in any case.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Param> {
        Self::all().find(|p| p.name.eq_ignore_ascii_case(name))
    }

    /// The parameter that a field of FelixConfiguration's spec sets.
    #[must_use]
    pub fn by_field(field: &str) -> Option<&'static Param> {
        Self::all().find(|p| !p.field.is_empty() && p.field == field)
    }
}

/// The groups of Calico's parameters.
pub fn groups() -> impl Iterator<Item = &'static Group> {
    [node::GROUPS, dataplane::GROUPS, bpf::GROUPS]
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests;
