//! The selector language, read a second time: by recursive descent, straight to an answer.

use std::collections::BTreeMap;

use crate::Mistake;

pub(crate) type Labels = BTreeMap<String, String>;

/// How a selector is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading<'a> {
    /// Before the name of each label.
    pub(crate) prefix: &'a str,
    /// Labels that `all()` asks for.
    pub(crate) all_has: &'a [&'a str],
    pub(crate) mistake: Option<Mistake>,
}

/// Whether the selector selects something with these labels. What is no selector selects nothing.
pub(crate) fn selects(text: &str, labels: &Labels, reading: Reading<'_>) -> bool {
    if text.trim().is_empty() {
        return reading.mistake != Some(Mistake::EmptySelectorMatchesNothing);
    }
    let mut reader = Reader {
        rest: text.trim_start(),
        labels,
        reading,
    };
    let answer = reader.or();
    answer.filter(|_| reader.rest.is_empty()).unwrap_or(false)
}

struct Reader<'a> {
    rest: &'a str,
    labels: &'a Labels,
    reading: Reading<'a>,
}

impl<'a> Reader<'a> {
    fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest.trim_start();
                true
            }
            None => false,
        }
    }

    fn wrong(&self, mistake: Mistake) -> bool {
        self.reading.mistake == Some(mistake)
    }

    fn or(&mut self) -> Option<bool> {
        let mut answer = self.and()?;
        while self.eat("||") {
            answer |= self.and()?;
        }
        Some(answer)
    }

    fn and(&mut self) -> Option<bool> {
        let mut answer = self.not()?;
        while self.eat("&&") {
            answer &= self.not()?;
        }
        Some(answer)
    }

    fn not(&mut self) -> Option<bool> {
        if self.rest.starts_with("!has(") && self.wrong(Mistake::DoesNotExistIgnored) {
            self.eat("!");
            return self.term().map(|_| true);
        }
        if self.eat("!") {
            return self.not().map(|answer| !answer);
        }
        self.term()
    }

    fn term(&mut self) -> Option<bool> {
        if self.eat("(") {
            let answer = self.or()?;
            return self.eat(")").then_some(answer);
        }
        if self.eat("all()") {
            return Some(self.reading.all_has.iter().all(|l| self.labels.contains_key(*l)));
        }
        if self.eat("has(") {
            let value = self.label()?;
            let there = value.is_some() || self.wrong(Mistake::ExistsIgnored);
            return self.eat(")").then_some(there);
        }
        let value = self.label()?;
        if self.eat("==") || self.eat("=") {
            let wanted = self.string()?;
            return Some(value == Some(wanted));
        }
        if self.eat("!=") {
            let unwanted = self.string()?;
            let absent = !self.wrong(Mistake::NotEqualNeedsKey);
            return Some(value.map_or(absent, |v| v != unwanted));
        }
        if self.eat("not in") || self.eat("notin") {
            let list = self.list()?;
            let absent = !self.wrong(Mistake::NotInNeedsKey);
            return Some(value.map_or(absent, |v| !list.contains(&v)));
        }
        if self.eat("in") {
            let list = self.list()?;
            return Some(value.is_some_and(|v| list.contains(&v)));
        }
        if self.eat("contains") {
            let part = self.string()?;
            return Some(value.is_some_and(|v| v.contains(part)));
        }
        if self.eat("starts with") {
            let part = self.string()?;
            return Some(value.is_some_and(|v| v.starts_with(part)));
        }
        if self.eat("ends with") {
            let part = self.string()?;
            return Some(value.is_some_and(|v| v.ends_with(part)));
        }
        None
    }

    /// A label's value, if there is one; nothing where no label stands.
    fn label(&mut self) -> Option<Option<&'a str>> {
        let part = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
        let end = self.rest.find(|c| !part(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() {
            return None;
        }
        self.rest = rest.trim_start();
        let name = format!("{}{name}", self.reading.prefix);
        Some(self.labels.get(&name).map(String::as_str))
    }

    fn string(&mut self) -> Option<&'a str> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let (text, rest) = self.rest[1..].split_once(quote)?;
        self.rest = rest.trim_start();
        Some(text)
    }

    fn list(&mut self) -> Option<Vec<&'a str>> {
        let mut list = Vec::new();
        if !self.eat("{") {
            return None;
        }
        while !self.eat("}") {
            list.push(self.string()?);
            self.eat(",");
        }
        Some(list)
    }
}
