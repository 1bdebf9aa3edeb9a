//! Text and actions, and the words of an action.

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Action { words: Vec<Word>, line: usize },
}

/// A word of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word {
    /// A name: a keyword or a function.
    Name(String),
    /// `.` alone.
    Dot,
    /// `.name`; with no space before it, it belongs to the word before.
    Field {
        name: String,
        glued: bool,
    },
    /// `$` or `$name`.
    Variable(String),
    Text(String),
    Number(serde_json::Number),
    Open,
    Close,
    Pipe,
    Comma,
    /// `:=` (declares) or `=`.
    Assign {
        declares: bool,
    },
}

/// Cuts a template into its pieces.
pub(super) fn lex(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let line_of = |rest: &str| 1 + text[..text.len() - rest.len()].matches('\n').count();
    let mut trim_next = false;
    while !rest.is_empty() {
        let Some(start) = rest.find("{{") else {
            pieces.push(Piece::Text(trimmed(rest, trim_next, false)));
            break;
        };
        let line = line_of(&rest[start..]);
        let inside = &rest[start + 2..];
        let trim_before = inside
            .strip_prefix('-')
            .is_some_and(|r| r.starts_with(char::is_whitespace));
        pieces.push(Piece::Text(trimmed(&rest[..start], trim_next, trim_before)));
        let inside = if trim_before { &inside[1..] } else { inside };
        let at = |e: String| format!("line {line}: {e}");
        let end = end_of_action(inside).map_err(at)?;
        let body = &inside[..end];
        trim_next = body.ends_with('-') && body[..body.len() - 1].ends_with(char::is_whitespace);
        let body = if trim_next { &body[..body.len() - 1] } else { body };
        let comment = body.trim().starts_with("/*");
        if !comment {
            let words = words(body).map_err(at)?;
            pieces.push(Piece::Action { words, line });
        }
        rest = &inside[end + 2..];
    }
    pieces.retain(|p| !matches!(p, Piece::Text(t) if t.is_empty()));
    Ok(pieces)
}

fn trimmed(text: &str, start: bool, end: bool) -> String {
    let text = if start { text.trim_start() } else { text };
    (if end { text.trim_end() } else { text }).to_owned()
}

/// Where `}}` ends the action: not in a quoted text, and behind a comment.
fn end_of_action(inside: &str) -> Result<usize, String> {
    if inside.trim_start().starts_with("/*") {
        let close = inside.find("*/").ok_or("a comment without its end */")?;
        return match inside[close..].find("}}") {
            Some(i) => Ok(close + i),
            None => Err("an action without its end }}".to_owned()),
        };
    }
    let mut quote = None;
    let mut escaped = false;
    for (i, c) in inside.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if inside[i..].starts_with("}}") => return Ok(i),
            None => {}
        }
    }
    Err(if quote.is_some() {
        "a text without its closing quote".to_owned()
    } else {
        "an action without its end }}".to_owned()
    })
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The name at the start of a text, and what follows it.
fn name(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len()))
}

fn words(body: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = body;
    let mut glued = false;
    while let Some(c) = rest.chars().next() {
        if c.is_whitespace() {
            rest = &rest[c.len_utf8()..];
            glued = false;
            continue;
        }
        let (word, after) = word(rest, c, glued)?;
        words.push(word);
        rest = after;
        glued = true;
    }
    Ok(words)
}

fn word(rest: &str, c: char, glued: bool) -> Result<(Word, &str), String> {
    let one = &rest[c.len_utf8()..];
    Ok(match c {
        '(' => (Word::Open, one),
        ')' => (Word::Close, one),
        '|' => (Word::Pipe, one),
        ',' => (Word::Comma, one),
        '=' => (Word::Assign { declares: false }, one),
        ':' if one.starts_with('=') => (Word::Assign { declares: true }, &one[1..]),
        '.' => match name(one) {
            ("", _) => (Word::Dot, one),
            (field, after) => {
                let name = field.to_owned();
                (Word::Field { name, glued }, after)
            }
        },
        '$' => {
            let (name, after) = name(one);
            (Word::Variable(name.to_owned()), after)
        }
        '"' => quoted(rest)?,
        '`' => {
            let end = one.find('`').ok_or("a text without its closing quote")?;
            (Word::Text(one[..end].to_owned()), &one[end + 1..])
        }
        c if c.is_ascii_digit()
            || (matches!(c, '-' | '+') && one.starts_with(|d: char| d.is_ascii_digit())) =>
        {
            let end = one.find(|c| !is_name(c) && c != '.').unwrap_or(one.len());
            let text = &rest[..c.len_utf8() + end];
            let number = text.strip_prefix('+').unwrap_or(text).parse();
            let number = number.map_err(|_| format!("{text:?} is no number"))?;
            (Word::Number(number), &one[end..])
        }
        c if is_name(c) => {
            let (name, after) = name(rest);
            (Word::Name(name.to_owned()), after)
        }
        c => return Err(format!("{c:?} means nothing here")),
    })
}

/// A text in double quotes, with escapes as JSON has them.
fn quoted(rest: &str) -> Result<(Word, &str), String> {
    let mut escaped = false;
    let end = rest[1..].char_indices().find(|(_, c)| {
        let closes = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        closes
    });
    let (end, _) = end.ok_or("a text without its closing quote")?;
    let text = &rest[..end + 2];
    let text: String = serde_json::from_str(text).map_err(|_| format!("{text} holds an unknown escape"))?;
    Ok((Word::Text(text), &rest[end + 2..]))
}
