//! How values look, by themselves and by `printf`.

use serde_json::Value;

use crate::output::number::go_float;

/// Wider fields are a mistake, and would fill the memory.
const WIDEST: usize = 10_000;

/// A value as Go prints it: lists in square brackets, maps with sorted keys.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => match (n.as_i64(), n.as_u64(), n.as_f64()) {
            (None, None, Some(f)) => go_float(f),
            _ => n.to_string(),
        },
        Value::String(s) => s.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(shown).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(fields) => {
            let mut fields: Vec<String> = fields.iter().map(|(k, v)| format!("{k}:{}", shown(v))).collect();
            fields.sort();
            format!("map[{}]", fields.join(" "))
        }
    }
}

/// The start of a value, for an error.
pub(super) fn glimpse(value: &Value) -> String {
    const ENOUGH: usize = 60;
    let text = shown(value);
    match text.char_indices().nth(ENOUGH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The flags, width and precision of a verb.
#[derive(Default)]
struct Layout {
    left: bool,
    zeros: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

/// Go's `Sprintf`, with its remarks on arguments that do not fit.
///
/// # Errors
/// When a width is absurd.
pub(super) fn printf(format: &str, values: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut values = values.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut layout = Layout::default();
        while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '0' | '+' | ' ' | '#')) {
            layout.left |= flag == '-';
            layout.zeros |= flag == '0';
            layout.plus |= flag == '+';
        }
        layout.width = number(&mut chars)?.unwrap_or(0);
        if chars.next_if_eq(&'.').is_some() {
            layout.precision = Some(number(&mut chars)?.unwrap_or(0));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match values.next() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => out.push_str(&one(verb, value, &layout)),
            },
        }
    }
    let extra: Vec<String> = values.map(|v| format!("{}={}", type_of(v), shown(v))).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(out)
}

fn number(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Option<usize>, String> {
    let mut digits = String::new();
    while let Some(c) = chars.next_if(char::is_ascii_digit) {
        digits.push(c);
    }
    if digits.is_empty() {
        return Ok(None);
    }
    match digits.parse() {
        Ok(n) if n <= WIDEST => Ok(Some(n)),
        _ => Err(format!(
            "printf cannot use a width of {digits}; the most is {WIDEST}"
        )),
    }
}

fn one(verb: char, value: &Value, layout: &Layout) -> String {
    let text = match (verb, value) {
        ('v', v) => shown(v),
        ('s', Value::String(s)) => match layout.precision {
            Some(most) => s.chars().take(most).collect(),
            None => s.clone(),
        },
        ('s', v @ (Value::Array(_) | Value::Object(_))) => shown(v),
        ('q', Value::String(s)) => Value::from(s.as_str()).to_string(),
        ('t', Value::Bool(b)) => b.to_string(),
        ('d', Value::Number(n)) if !n.is_f64() => n.to_string(),
        ('x' | 'X' | 'o' | 'b', Value::Number(n)) => match (n.as_u64(), verb) {
            (Some(n), 'x') => format!("{n:x}"),
            (Some(n), 'X') => format!("{n:X}"),
            (Some(n), 'o') => format!("{n:o}"),
            (Some(n), _) => format!("{n:b}"),
            _ => unfit(verb, value),
        },
        ('f' | 'F', Value::Number(n)) => {
            format!(
                "{:.*}",
                layout.precision.unwrap_or(6),
                n.as_f64().unwrap_or_default()
            )
        }
        ('g', Value::Number(n)) => go_float(n.as_f64().unwrap_or_default()),
        _ => unfit(verb, value),
    };
    pad(text, value.is_number(), layout)
}

fn pad(text: String, numeric: bool, layout: &Layout) -> String {
    let text = if layout.plus && numeric && !text.starts_with('-') {
        format!("+{text}")
    } else {
        text
    };
    let missing = layout.width.saturating_sub(text.chars().count());
    if layout.left {
        return text + &" ".repeat(missing);
    }
    if layout.zeros && numeric {
        let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+'])));
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    " ".repeat(missing) + &text
}

fn unfit(verb: char, value: &Value) -> String {
    format!("%!{verb}({}={})", type_of(value), shown(value))
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
