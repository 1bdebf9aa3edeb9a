//! Tokens.

/// A piece of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    Ident(String),
    Text(String),
    Int(i64),
    Double(f64),
    /// An operator or a bracket.
    Sign(&'static str),
}

/// Longer signs first.
const SIGNS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "?", ":", "(", ")", ".", ",", "-",
];

/// Splits an expression into tokens.
///
/// # Errors
/// At a character that begins none.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
        } else if first.is_ascii_alphabetic() || first == '_' {
            let (word, after) = split(rest, |c| c.is_ascii_alphanumeric() || c == '_');
            out.push(Token::Ident(word.to_owned()));
            rest = after;
        } else if first.is_ascii_digit() {
            let (word, after) = split(rest, |c| c.is_ascii_digit() || c == '.');
            let bad = || format!("{word:?} is no number");
            out.push(if word.contains('.') {
                Token::Double(word.parse().map_err(|_| bad())?)
            } else {
                Token::Int(word.parse().map_err(|_| bad())?)
            });
            rest = after;
        } else if first == '\'' || first == '"' {
            let inside = &rest[1..];
            let end = inside
                .find(first)
                .ok_or_else(|| format!("no end of the text {rest:?}"))?;
            out.push(Token::Text(inside[..end].to_owned()));
            rest = &inside[end + 1..];
        } else {
            let sign = SIGNS.iter().find(|s| rest.starts_with(**s));
            let sign = sign.ok_or_else(|| format!("{first:?} is not understood"))?;
            out.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        }
    }
    Ok(out)
}

/// The longest start of such characters, and what follows.
fn split(text: &str, of: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !of(c)).unwrap_or(text.len()))
}
