use std::{collections::HashSet, fmt::Display, hash::Hash, net::IpAddr};

use caracal_net::{Cidr, Family, IfAddr};
use caracal_selector::Selector;

use crate::{
    FieldPath, Step,
    validate::{FieldError, text},
};

/// The longest selector that Calico's schema admits.
pub(super) const MAX_SELECTOR: usize = 1024;

/// Walks an object, knows where it is, and collects what is wrong.
#[derive(Default)]
pub(super) struct Check {
    /// The names of the fields that lead here, one behind the other: an agent checks every object that it reads, and
    /// nearly none has a mistake whose path would have to be told.
    names: String,
    way: Vec<Way>,
    pub(super) errors: Vec<FieldError>,
}

/// A step on the way here.
#[derive(Clone, Copy)]
enum Way {
    /// Into the field whose name begins here.
    Field(usize),
    /// Into a list.
    Item(usize),
}

/// How exact a range must be written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Range {
    /// With a prefix length and no bits behind it.
    Strict,
    /// An address, or a range with any bits behind its prefix.
    Loose,
}

impl Check {
    /// Looks at a field.
    pub(super) fn field<T>(&mut self, key: &str, f: impl FnOnce(&mut Self) -> T) -> T {
        let start = self.names.len();
        self.names.push_str(key);
        self.way.push(Way::Field(start));
        let t = f(self);
        self.way.pop();
        self.names.truncate(start);
        t
    }

    /// Where this is.
    fn path(&self) -> FieldPath {
        let mut end = self.names.len();
        let mut steps: Vec<Step> = Vec::with_capacity(self.way.len());
        for way in self.way.iter().rev() {
            steps.push(match *way {
                Way::Item(i) => Step::Index(i),
                Way::Field(start) => {
                    let name = self.names[start..end].to_owned();
                    end = start;
                    Step::Key(name)
                }
            });
        }
        steps.reverse();
        FieldPath(steps)
    }

    /// Looks at each item of a list.
    pub(super) fn each<'i, T>(&mut self, key: &str, items: &'i [T], mut f: impl FnMut(&mut Self, &'i T)) {
        self.field(key, |c| {
            for (i, item) in items.iter().enumerate() {
                c.way.push(Way::Item(i));
                f(c, item);
                c.way.pop();
            }
        });
    }

    /// Refuses the value here.
    pub(super) fn fail(&mut self, value: impl Display, reason: impl Into<String>) {
        self.fail_allowed(value, reason, "");
    }

    /// Refuses the value here and says what is allowed.
    pub(super) fn fail_allowed(
        &mut self,
        value: impl Display,
        reason: impl Into<String>,
        allowed: impl Into<String>,
    ) {
        let mut value: String = value.to_string();
        if let Some((end, _)) = value.char_indices().nth(80) {
            value.truncate(end);
            value.push('…');
        }
        self.errors.push(FieldError {
            path: self.path(),
            value,
            reason: reason.into(),
            allowed: allowed.into(),
        });
    }

    /// Refuses the value of a field.
    pub(super) fn fail_at(&mut self, key: &str, value: impl Display, reason: impl Into<String>) {
        self.field(key, |c| c.fail(value, reason));
    }

    /// Refuses a field that fails a test.
    pub(super) fn require(&mut self, good: bool, key: &str, value: impl Display, reason: &str) {
        if !good {
            self.fail_at(key, value, reason);
        }
    }

    /// A selector; the empty one is `all()`. Yields it if it can be read.
    pub(super) fn selector(&mut self, key: &str, text: &str) -> Option<Selector> {
        self.field(key, |c| {
            let selector = match Selector::parse(text) {
                Ok(s) => Some(s),
                Err(e) => {
                    c.fail("", e.to_string());
                    None
                }
            };
            if text.len() > MAX_SELECTOR {
                c.fail_allowed(
                    text,
                    format!("has {} characters", text.len()),
                    format!("{MAX_SELECTOR} at most"),
                );
            }
            selector
        })
    }

    /// A selector in which `global()` has no meaning.
    pub(super) fn plain_selector(&mut self, key: &str, text: &str) {
        if self.selector(key, text).is_some_and(|s| s.contains_global()) {
            self.fail_at(
                key,
                text,
                "uses global(), which only the namespaceSelector of a rule can",
            );
        }
    }

    /// A range of addresses.
    pub(super) fn cidr(&mut self, text: &str, range: Range) -> Option<Cidr> {
        let parsed: IfAddr = match text.parse() {
            Ok(p) => p,
            Err(e) => {
                self.fail("", e.to_string());
                return None;
            }
        };
        let cidr = parsed.network();
        if range == Range::Strict {
            if !text.contains('/') {
                self.fail_allowed(
                    text,
                    "has no prefix length",
                    format!("{cidr} for this one address"),
                );
                return None;
            }
            if cidr.addr() != parsed.addr {
                self.fail_allowed(text, "has bits set behind its prefix", cidr.to_string());
                return None;
            }
        }
        Some(cidr)
    }

    /// An address, of one family if given.
    pub(super) fn ip(&mut self, text: &str, family: Option<Family>) -> Option<IpAddr> {
        let wanted = match family {
            Some(Family::V4) => "an IPv4 address",
            Some(Family::V6) => "an IPv6 address",
            None => "an address",
        };
        match text.parse::<IpAddr>() {
            Ok(ip) if family.is_none_or(|f| f == Family::of(ip)) => Some(ip),
            _ => {
                self.fail(text, format!("is not {wanted}"));
                None
            }
        }
    }

    /// An address in a field, if it is set.
    pub(super) fn optional_ip(&mut self, key: &str, text: &str, family: Option<Family>) {
        if !text.is_empty() {
            self.field(key, |c| c.ip(text, family));
        }
    }

    /// A range in a field, if it is set, of one family if given.
    pub(super) fn optional_cidr(&mut self, key: &str, text: &str, family: Option<Family>) {
        if text.is_empty() {
            return;
        }
        self.field(key, |c| {
            if let Some(cidr) = c.cidr(text, Range::Loose)
                && family.is_some_and(|f| f != cidr.family())
            {
                c.fail(text, "is of the wrong family");
            }
        });
    }

    /// A name in the form of a host name.
    pub(super) fn name(&mut self, text: &str) {
        if text.len() > 253 {
            self.fail_allowed(text, format!("has {} characters", text.len()), "253 at most");
        } else if !text::is_subdomain(text) {
            self.fail_allowed(
                text,
                "is not a name",
                "a-z, 0-9, '-' and '.', each part beginning and ending with a letter or digit",
            );
        }
    }

    /// A name in a field, if it is set.
    pub(super) fn optional_name(&mut self, key: &str, text: &str) {
        if !text.is_empty() {
            self.field(key, |c| c.name(text));
        }
    }

    /// At most so many items.
    pub(super) fn count(&mut self, key: &str, len: usize, max: usize) {
        if len > max {
            self.field(key, |c| {
                c.fail_allowed("", format!("has {len} entries"), format!("{max} at most"))
            });
        }
    }

    /// No item twice.
    pub(super) fn unique<T: Eq + Hash + Display>(&mut self, key: &str, items: &[T]) {
        if items.len() < 2 {
            return;
        }
        let mut seen = HashSet::with_capacity(items.len());
        self.each(key, items, |c, item| {
            if !seen.insert(item) {
                c.fail(item, "is there twice");
            }
        });
    }

    /// A number in bounds.
    pub(super) fn bounds(&mut self, key: &str, n: i64, min: i64, max: i64) {
        if !(min..=max).contains(&n) {
            self.field(key, |c| {
                c.fail_allowed(n, "is out of bounds", format!("{min} to {max}"))
            });
        }
    }

    /// A text among some.
    pub(super) fn one_of(&mut self, key: &str, text: &str, allowed: &[&str]) {
        if !allowed.contains(&text) {
            self.field(key, |c| {
                c.fail_allowed(text, "is not allowed here", allowed.join(", "))
            });
        }
    }
}
