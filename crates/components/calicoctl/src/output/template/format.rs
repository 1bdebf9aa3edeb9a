//! How values look, by themselves and by `printf`.

use serde_json::{Map, Number, Value};

use crate::output::number::go_float;

/// Wider fields are a mistake, and would fill the memory.
const WIDEST: usize = 10_000;

/// A value as an action prints it.
pub(super) fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        other => shown(other),
    }
}

/// A value as Go prints it: lists in square brackets, maps with sorted keys.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
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
            let fields: Vec<String> = sorted(fields).map(|(k, v)| format!("{k}:{}", shown(v))).collect();
            format!("map[{}]", fields.join(" "))
        }
    }
}

fn sorted(fields: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    let mut fields: Vec<_> = fields.iter().collect();
    fields.sort_by_key(|(k, _)| *k);
    fields.into_iter()
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
#[derive(Default, Clone, Copy)]
struct Layout {
    left: bool,
    zeros: bool,
    plus: bool,
    space: bool,
    sharp: bool,
    width: usize,
    precision: Option<usize>,
}

/// The arguments of `printf`, in turn or by number.
struct Arguments<'v> {
    values: &'v [Value],
    next: usize,
    /// Some were named by number: then nothing is said of those that were not used.
    numbered: bool,
}

impl<'v> Arguments<'v> {
    fn take(&mut self) -> Option<&'v Value> {
        let value = self.values.get(self.next)?;
        self.next += 1;
        Some(value)
    }
}

type Chars<'f> = std::iter::Peekable<std::str::Chars<'f>>;

/// Go's `Sprintf`, with its remarks on arguments that do not fit.
///
/// # Errors
/// When a width is absurd.
pub(super) fn printf(format: &str, values: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut arguments = Arguments {
        values,
        next: 0,
        numbered: false,
    };
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let layout = layout(&mut chars, &mut arguments)?;
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(verb) => match arguments.take() {
                None => out.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => out.push_str(&one(verb, value, layout)),
            },
        }
    }
    let rest = values.get(arguments.next..).unwrap_or_default();
    let extra: Vec<String> = rest
        .iter()
        .map(|v| format!("{}={}", type_of(v), shown(v)))
        .collect();
    if !extra.is_empty() && !arguments.numbered {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(out)
}

/// Reads what stands between `%` and the verb.
fn layout(chars: &mut Chars<'_>, arguments: &mut Arguments<'_>) -> Result<Layout, String> {
    let mut layout = Layout::default();
    while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '0' | '+' | ' ' | '#')) {
        layout.left |= flag == '-';
        layout.zeros |= flag == '0';
        layout.plus |= flag == '+';
        layout.space |= flag == ' ';
        layout.sharp |= flag == '#';
    }
    place(chars, arguments)?;
    layout.width = width(chars, arguments)?.unwrap_or(0);
    if chars.next_if_eq(&'.').is_some() {
        place(chars, arguments)?;
        layout.precision = Some(width(chars, arguments)?.unwrap_or(0));
    }
    place(chars, arguments)?;
    Ok(layout)
}

/// `[n]`: the n-th argument is next.
fn place(chars: &mut Chars<'_>, arguments: &mut Arguments<'_>) -> Result<(), String> {
    if chars.next_if_eq(&'[').is_none() {
        return Ok(());
    }
    arguments.numbered = true;
    // A number that is none, or of no argument, finds none.
    arguments.next = number(chars)?
        .and_then(|n| n.checked_sub(1))
        .unwrap_or(usize::MAX);
    chars.next_if_eq(&']');
    Ok(())
}

/// A width or precision, in digits or as an argument.
fn width(chars: &mut Chars<'_>, arguments: &mut Arguments<'_>) -> Result<Option<usize>, String> {
    if chars.next_if_eq(&'*').is_none() {
        return number(chars);
    }
    let given = arguments.take().and_then(Value::as_u64);
    let given = given.map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    bounded(given, || "an argument".to_owned())
}

fn number(chars: &mut Chars<'_>) -> Result<Option<usize>, String> {
    let mut digits = String::new();
    while let Some(c) = chars.next_if(char::is_ascii_digit) {
        digits.push(c);
    }
    if digits.is_empty() {
        return Ok(None);
    }
    bounded(Some(digits.parse().unwrap_or(usize::MAX)), || digits.clone())
}

fn bounded(n: Option<usize>, told: impl Fn() -> String) -> Result<Option<usize>, String> {
    match n {
        Some(n) if n > WIDEST => Err(format!(
            "printf cannot use a width of {}; the most is {WIDEST}",
            told()
        )),
        n => Ok(n),
    }
}

fn one(verb: char, value: &Value, mut layout: Layout) -> String {
    // There it asks for the names of fields.
    layout.plus &= verb != 'v';
    match (verb, value) {
        ('T', v) => return pad(type_of(v).to_owned(), false, layout),
        ('v', _) if layout.sharp => return pad(source(value), false, layout),
        // Each element by itself.
        (_, Value::Array(items)) => {
            let items: Vec<String> = items.iter().map(|v| one(verb, v, layout)).collect();
            return format!("[{}]", items.join(" "));
        }
        (_, Value::Object(fields)) => {
            let key = |k: &String| one(verb, &Value::from(k.as_str()), layout);
            let fields = sorted(fields).map(|(k, v)| format!("{}:{}", key(k), one(verb, v, layout)));
            return format!("map[{}]", fields.collect::<Vec<_>>().join(" "));
        }
        _ => {}
    }
    match (verb, value) {
        ('v', Value::Null) => pad("<nil>".to_owned(), false, layout),
        (_, Value::Null) => format!("%!{verb}(<nil>)"),
        ('v' | 's', Value::String(s)) => pad(cut(s, layout), false, layout),
        ('q', Value::String(s)) => pad(quoted(&cut(s, layout), '"'), false, layout),
        ('x' | 'X', Value::String(s)) => {
            let bytes = s.bytes().map(|b| match verb {
                'x' => format!("{b:02x}"),
                _ => format!("{b:02X}"),
            });
            pad(bytes.collect(), false, layout)
        }
        ('v' | 't', Value::Bool(b)) => pad(b.to_string(), false, layout),
        (_, Value::Number(n)) => match (n.as_i64(), n.as_f64()) {
            (Some(n), _) => integer(verb, n, layout).unwrap_or_else(|| unfit(verb, value)),
            (None, Some(f)) if n.is_f64() => float(verb, f, layout).unwrap_or_else(|| unfit(verb, value)),
            _ => pad(n.to_string(), true, layout),
        },
        _ => unfit(verb, value),
    }
}

fn cut(text: &str, layout: Layout) -> String {
    match layout.precision {
        Some(most) => text.chars().take(most).collect(),
        None => text.to_owned(),
    }
}

fn integer(verb: char, n: i64, layout: Layout) -> Option<String> {
    let letter = || {
        u32::try_from(n)
            .ok()
            .and_then(char::from_u32)
            .unwrap_or('\u{FFFD}')
    };
    let sign = if n < 0 { "-" } else { "" };
    let size = n.unsigned_abs();
    let sharp = |prefix: &'static str| if layout.sharp { prefix } else { "" };
    let digits = match verb {
        'v' | 'd' => format!("{sign}{size}"),
        'x' => format!("{sign}{}{size:x}", sharp("0x")),
        'X' => format!("{sign}{}{size:X}", sharp("0X")),
        'o' => format!("{sign}{}{size:o}", sharp("0")),
        'b' => format!("{sign}{size:b}"),
        'c' => return Some(pad(letter().to_string(), false, layout)),
        'q' => return Some(pad(quoted(&letter().to_string(), '\''), false, layout)),
        'U' => return Some(pad(format!("U+{size:04X}"), false, layout)),
        // Typed objects have floats where JSON shows a whole number.
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' if layout.precision.is_some() => {
            return float(verb, n as f64, layout);
        }
        _ => return None,
    };
    Some(pad(digits, true, layout))
}

fn float(verb: char, f: f64, layout: Layout) -> Option<String> {
    let precision = layout.precision.unwrap_or(6);
    let text = match (verb, layout.precision) {
        ('v' | 'g' | 'G', None) => go_float(f),
        ('v' | 'g' | 'G', Some(_)) => go_float(rounded(f, precision.max(1))),
        ('f' | 'F', _) => format!("{f:.precision$}"),
        ('e' | 'E', _) => {
            let text = format!("{f:.precision$e}");
            let (digits, exponent) = text.split_once('e')?;
            let exponent: i32 = exponent.parse().ok()?;
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => return None,
    };
    let text = if verb.is_ascii_uppercase() {
        text.to_ascii_uppercase()
    } else {
        text
    };
    Some(pad(text, true, layout))
}

/// A number with so many digits that matter.
fn rounded(f: f64, digits: usize) -> f64 {
    format!("{f:.*e}", digits - 1).parse().unwrap_or(f)
}

/// A text in quotes as Go's source has it.
fn quoted(text: &str, quote: char) -> String {
    let mut out = String::from(quote);
    for c in text.chars() {
        match c {
            '\u{7}' => out += "\\a",
            '\u{8}' => out += "\\b",
            '\u{c}' => out += "\\f",
            '\n' => out += "\\n",
            '\r' => out += "\\r",
            '\t' => out += "\\t",
            '\u{b}' => out += "\\v",
            '\\' => out += "\\\\",
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_ascii_control() => out += &format!("\\x{:02x}", u32::from(c)),
            c if c.is_control() => out += &format!("\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push(quote);
    out
}

/// A value as Go's source has it.
fn source(value: &Value) -> String {
    match value {
        Value::String(s) => quoted(s, '"'),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(source).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(fields) => {
            let fields = sorted(fields).map(|(k, v)| format!("{}:{}", quoted(k, '"'), source(v)));
            format!(
                "map[string]interface {{}}{{{}}}",
                fields.collect::<Vec<_>>().join(", ")
            )
        }
        Value::Null => "interface {}(nil)".to_owned(),
        other => shown(other),
    }
}

fn pad(text: String, numeric: bool, layout: Layout) -> String {
    let text = match (numeric && !text.starts_with('-'), layout.plus, layout.space) {
        (true, true, _) => format!("+{text}"),
        (true, false, true) => format!(" {text}"),
        _ => text,
    };
    let missing = layout.width.saturating_sub(text.chars().count());
    if layout.left {
        return text + &" ".repeat(missing);
    }
    if layout.zeros && numeric {
        let (sign, digits) = text.split_at(usize::from(text.starts_with(['-', '+', ' '])));
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
        Value::Number(n) if Number::is_f64(n) => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
