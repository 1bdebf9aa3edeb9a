//! Text and actions, and the words of an action.

use serde_json::Number;

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
    Number(Number),
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
            Some('"' | '\'') if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '`' | '\'') => quote = Some(c),
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
        '"' => {
            let (text, after) = quoted(rest, '"')?;
            (Word::Text(text), after)
        }
        // A letter is its number.
        '\'' => match quoted(rest, '\'')? {
            (text, after) if text.chars().count() == 1 => {
                let code = text.chars().next().map_or(0, u32::from);
                (Word::Number(code.into()), after)
            }
            (text, _) => return Err(format!("'{text}' is not one letter")),
        },
        '`' => {
            let end = one.find('`').ok_or("a text without its closing quote")?;
            (Word::Text(one[..end].to_owned()), &one[end + 1..])
        }
        c if c.is_ascii_digit()
            || (matches!(c, '-' | '+') && one.starts_with(|d: char| d.is_ascii_digit())) =>
        {
            // A sign may stand behind the letter of an exponent.
            let exponent = |at: usize| !rest.starts_with("0x") && rest[..=at].ends_with(['e', 'E']);
            let end = one
                .char_indices()
                .find(|(i, c)| !is_name(*c) && *c != '.' && !(matches!(c, '+' | '-') && exponent(*i)))
                .map_or(one.len(), |(i, _)| i);
            let text = &rest[..c.len_utf8() + end];
            let number = number(text).ok_or_else(|| format!("{text:?} is no number"))?;
            (Word::Number(number), &one[end..])
        }
        c if is_name(c) => {
            let (name, after) = name(rest);
            (Word::Name(name.to_owned()), after)
        }
        c => return Err(format!("{c:?} means nothing here")),
    })
}

/// A number as Go writes it: decimal, 0x, 0b, 0o or with a leading zero, with `_` between digits, or with a point or an
/// exponent.
fn number(text: &str) -> Option<Number> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let plain = digits.replace('_', "");
    let (base, of_base) = match plain.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x") => (16, &plain[2..]),
        Some("0b") => (2, &plain[2..]),
        Some("0o") => (8, &plain[2..]),
        _ if plain.len() > 1 && plain.starts_with('0') && plain.bytes().all(|b| b.is_ascii_digit()) => {
            (8, &plain[1..])
        }
        _ => (10, plain.as_str()),
    };
    if let Ok(n) = i64::from_str_radix(of_base, base) {
        return Some(if negative { -n } else { n }.into());
    }
    let n: f64 = (base == 10).then(|| plain.parse().ok())??;
    Number::from_f64(if negative { -n } else { n })
}

/// A text in quotes, with Go's escapes, and what follows it.
fn quoted(rest: &str, quote: char) -> Result<(String, &str), String> {
    // Escapes of single bytes can make up a letter together.
    let mut bytes: Vec<u8> = Vec::new();
    let mut chars = rest[1..].char_indices();
    while let Some((i, c)) = chars.next() {
        if c == quote {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            return Ok((text, &rest[1 + i + 1..]));
        }
        let mut put = |c: char| bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
        if c != '\\' {
            put(c);
            continue;
        }
        let unknown = || format!("{rest} holds an unknown escape");
        let (_, letter) = chars.next().ok_or("a text without its closing quote")?;
        let mut code = |first: Option<char>, digits: usize, base: u32| {
            let mut text: String = first.into_iter().collect();
            text.extend(chars.by_ref().take(digits).map(|(_, c)| c));
            u32::from_str_radix(&text, base).map_err(|_| unknown())
        };
        match letter {
            'a' => put('\u{7}'),
            'b' => put('\u{8}'),
            'f' => put('\u{c}'),
            'n' => put('\n'),
            'r' => put('\r'),
            't' => put('\t'),
            'v' => put('\u{b}'),
            '\\' => put('\\'),
            c if c == quote => put(c),
            'x' => bytes.push(u8::try_from(code(None, 2, 16)?).map_err(|_| unknown())?),
            '0'..='7' => bytes.push(u8::try_from(code(Some(letter), 2, 8)?).map_err(|_| unknown())?),
            'u' => put(char::from_u32(code(None, 4, 16)?).ok_or_else(unknown)?),
            'U' => put(char::from_u32(code(None, 8, 16)?).ok_or_else(unknown)?),
            _ => return Err(unknown()),
        }
    }
    Err("a text without its closing quote".to_owned())
}
