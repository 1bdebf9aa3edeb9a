//! Text to tokens.
//!
//! The language has no reserved words: `in`, `has` or `contains` may be labels. A word is an
//! operator only right behind a label, and `has(`, `all(`, `global(` are functions only where a
//! label could not have ended just before.

use crate::error::ParseError;

/// The longest label name the language takes, in bytes.
pub const MAX_LABEL_LENGTH: usize = 512;

/// Whether `name` can be written as a label in a selector: 1 to [`MAX_LABEL_LENGTH`] characters of
/// `[A-Za-z0-9_./-]`.
pub fn is_label(name: &str) -> bool {
    (1..=MAX_LABEL_LENGTH).contains(&name.len()) && name.bytes().all(is_label_byte)
}

/// Whether `value` can be written as a string in a selector. Strings have no escapes, so a text
/// that holds both kinds of quote cannot.
pub fn is_value(value: &str) -> bool {
    !(value.contains('"') && value.contains('\''))
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-')
}

fn is_space(c: char) -> bool {
    c == ' ' || c == '\t'
}

/// What a token is; names and values borrow from the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind<'a> {
    Label(&'a str),
    Value(&'a str),
    Has(&'a str),
    All,
    Global,
    Equal,
    NotEqual,
    In,
    NotIn,
    Contains,
    StartsWith,
    EndsWith,
    Not,
    And,
    Or,
    Open,
    Close,
    OpenBrace,
    CloseBrace,
    Comma,
    End,
}

impl Kind<'_> {
    /// The token as an error message names it.
    pub(crate) fn describe(self) -> String {
        let fixed = match self {
            Kind::Label(name) => return format!("the word {}", quoted(name)),
            Kind::Value(value) => return format!("the string {}", quoted(value)),
            Kind::Has(name) => return format!("has({})", shortened(name)),
            Kind::All => "all()",
            Kind::Global => "global()",
            Kind::Equal => "'=='",
            Kind::NotEqual => "'!='",
            Kind::In => "'in'",
            Kind::NotIn => "'not in'",
            Kind::Contains => "'contains'",
            Kind::StartsWith => "'starts with'",
            Kind::EndsWith => "'ends with'",
            Kind::Not => "'!'",
            Kind::And => "'&&'",
            Kind::Or => "'||'",
            Kind::Open => "'('",
            Kind::Close => "')'",
            Kind::OpenBrace => "'{'",
            Kind::CloseBrace => "'}'",
            Kind::Comma => "','",
            Kind::End => "the end of the text",
        };
        fixed.to_owned()
    }
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 40;
    match text.char_indices().nth(LONGEST) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text))
}

/// A token and the byte offset at which it starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Token<'a> {
    pub(crate) kind: Kind<'a>,
    pub(crate) at: usize,
}

/// Hands out the tokens of a text one by one; [`Kind::End`] for ever at its end.
pub(crate) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    after_label: Option<&'a str>,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            after_label: None,
        }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    pub(crate) fn next(&mut self) -> Result<Token<'a>, ParseError> {
        self.skip_space();
        let at = self.at;
        let kind = self.token()?;
        self.after_label = if let Kind::Label(name) = kind {
            Some(name)
        } else {
            None
        };
        Ok(Token { kind, at })
    }

    fn token(&mut self) -> Result<Kind<'a>, ParseError> {
        let Some(first) = self.rest().chars().next() else {
            return Ok(Kind::End);
        };
        let kind = match first {
            '(' => self.take(1, Kind::Open),
            ')' => self.take(1, Kind::Close),
            '{' => self.take(1, Kind::OpenBrace),
            '}' => self.take(1, Kind::CloseBrace),
            ',' => self.take(1, Kind::Comma),
            '!' if self.rest().starts_with("!=") => self.take(2, Kind::NotEqual),
            '!' => self.take(1, Kind::Not),
            '=' => self.doubled("==", Kind::Equal, "to compare, write ==")?,
            '&' => self.doubled("&&", Kind::And, "for 'and', write &&")?,
            '|' => self.doubled("||", Kind::Or, "for 'or', write ||")?,
            '"' | '\'' => self.string(first)?,
            _ => match self.after_label {
                Some(label) => self.operator(label)?,
                None => self.word()?,
            },
        };
        Ok(kind)
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches(is_space).len();
    }

    fn take(&mut self, bytes: usize, kind: Kind<'a>) -> Kind<'a> {
        self.at += bytes;
        kind
    }

    /// Takes `word` if it comes next.
    fn accept(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn doubled(
        &mut self,
        operator: &'static str,
        kind: Kind<'a>,
        hint: &str,
    ) -> Result<Kind<'a>, ParseError> {
        if self.accept(operator) {
            return Ok(kind);
        }
        Err(self.error_here(operator).with_hint(hint))
    }

    fn string(&mut self, quote: char) -> Result<Kind<'a>, ParseError> {
        let body = &self.rest()[1..];
        let Some(length) = body.find(quote) else {
            let error = ParseError::new(self.text, self.at, "a string that never ends", "a closing quote");
            return Err(error.with_hint(format!(
                "put a second {quote} where the string ends; strings have no escapes"
            )));
        };
        Ok(self.take(length + 2, Kind::Value(&body[..length])))
    }

    /// The label name that comes next, if any.
    fn name(&mut self) -> Result<Option<&'a str>, ParseError> {
        let rest = self.rest();
        let length = rest.bytes().position(|b| !is_label_byte(b)).unwrap_or(rest.len());
        if length > MAX_LABEL_LENGTH {
            let found = format!("a label name of {length} characters");
            return Err(ParseError::new(
                self.text,
                self.at,
                found,
                "a label name of at most 512 characters",
            ));
        }
        self.at += length;
        Ok((length > 0).then(|| &rest[..length]))
    }

    /// What follows where no label came just before: a function or a label.
    fn word(&mut self) -> Result<Kind<'a>, ParseError> {
        if self.accept("has(") {
            self.skip_space();
            let Some(name) = self.name()? else {
                let error = self.error_here("a label name inside has(…)");
                let quoted = self.rest().starts_with(['"', '\'']);
                return Err(if quoted {
                    error.with_hint("label names are written without quotes")
                } else {
                    error
                });
            };
            self.close("')' after the label name of has(")?;
            return Ok(Kind::Has(name));
        }
        if self.accept("all(") {
            self.close("')' right after all(")?;
            return Ok(Kind::All);
        }
        if self.accept("global(") {
            self.close("')' right after global(")?;
            return Ok(Kind::Global);
        }
        match self.name()? {
            Some(name) => Ok(Kind::Label(name)),
            None => Err(self.error_here("a label name, a function, '!' or '('")),
        }
    }

    fn close(&mut self, expected: &'static str) -> Result<(), ParseError> {
        self.skip_space();
        if self.accept(")") {
            Ok(())
        } else {
            Err(self.error_here(expected))
        }
    }

    /// The word behind a label: one of the operators, which need no space around them.
    fn operator(&mut self, label: &str) -> Result<Kind<'a>, ParseError> {
        let start = self.at;
        let second = match () {
            () if self.accept("contains") => return Ok(Kind::Contains),
            () if self.accept("starts") => Some(("with", Kind::StartsWith)),
            () if self.accept("ends") => Some(("with", Kind::EndsWith)),
            () if self.accept("not") => Some(("in", Kind::NotIn)),
            () if self.accept("in") => return Ok(Kind::In),
            () => None,
        };
        if let Some((word, kind)) = second {
            self.skip_space();
            if self.accept(word) {
                return Ok(kind);
            }
        }
        self.at = start;
        let error = self.error_here(OPERATORS);
        if error.hint().is_some() {
            return Err(error);
        }
        Err(error.with_hint_if(operator_hint(label)))
    }

    /// An error about the character or word at the current place.
    fn error_here(&self, expected: &'static str) -> ParseError {
        let rest = self.rest();
        let length = rest.bytes().position(|b| !is_label_byte(b)).unwrap_or(rest.len());
        let found = match rest.chars().next() {
            None => Kind::End.describe(),
            Some(_) if length > 0 => Kind::Label(&rest[..length]).describe(),
            Some(c) => format!("{c:?}"),
        };
        let error = ParseError::new(self.text, self.at, found, expected);
        match rest.chars().next() {
            Some('“' | '”' | '‘' | '’' | '„' | '«' | '»') => {
                error.with_hint("use plain quotes: \" or '")
            }
            Some('`') => error.with_hint("strings take \" or ' as quotes"),
            Some('*') => error.with_hint("to select everything, write all()"),
            Some(c) if c.is_whitespace() => error.with_hint("only spaces and tabs may stand between words"),
            Some('@' | '$' | ':' | '+' | '#' | '\\' | '~' | '%') => {
                error.with_hint("label names are made of letters, digits, '_', '.', '/' and '-'")
            }
            _ => error,
        }
    }
}

/// What may follow a label.
pub(crate) const OPERATORS: &str = "==, !=, in, not in, contains, starts with or ends with";

/// What is likely meant by a bare word that no operator follows.
pub(crate) fn operator_hint(label: &str) -> Option<String> {
    Some(match label {
        "has" | "all" | "global" => format!("no space may stand between {label} and ("),
        "not" | "NOT" => "to negate, write !".to_owned(),
        _ => format!(
            "to ask only whether the label is there, write has({})",
            shortened(label)
        ),
    })
}
