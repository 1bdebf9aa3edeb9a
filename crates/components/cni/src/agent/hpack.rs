//! Headers of HTTP/2 (HPACK, RFC 7541), as far as one call needs them: those of the request, and the verdict in those of the
//! answer. Pure.
//!
//! The other side is told to keep no table of headers, so each block says all by itself.

/// The symbols of the code of RFC 7541, appendix B, that a text of gRPC may have, by the length of their codes. Codes of one
/// length follow one another in this order, and those of the next length follow them.
const CODE: [(u32, &[u8]); 11] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    // Two that no text has follow it.
    (19, b"\\"),
];

/// In the table that both sides have: `:method: POST`, `:scheme: http`, and the names of others.
const POST: u8 = 0x80 | 3;
const HTTP: u8 = 0x80 | 6;
const AUTHORITY: u8 = 1;
const PATH: u8 = 4;
const STATUS_200: usize = 8;
const STATUS_LAST: usize = 14;

fn literal(out: &mut Vec<u8>, text: &str) {
    // All that is written here is shorter than 127 bytes, which one byte can say.
    out.push(u8::try_from(text.len().min(126)).unwrap_or(126));
    out.extend(text.bytes().take(126));
}

/// The headers of a call of `method`, such as `/package.Service/Method`.
pub(super) fn request(method: &str) -> Vec<u8> {
    let mut out = vec![POST, HTTP, PATH];
    literal(&mut out, method);
    out.push(AUTHORITY);
    literal(&mut out, "localhost");
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        out.push(0);
        literal(&mut out, name);
        literal(&mut out, value);
    }
    out
}

/// The verdict in a block of headers, if it has one: well, or why not.
pub(super) fn verdict(block: &[u8]) -> Result<Option<Result<(), String>>, String> {
    let mut reader = Reader(block);
    let (mut status, mut message) = (None, String::new());
    while let Some(first) = reader.0.first().copied() {
        let bits = match first {
            0x80.. => 7,
            0x40.. => 6,
            0x20.. => 5,
            _ => 4,
        };
        let malformed = || "malformed headers".to_owned();
        let index = reader.number(bits).ok_or_else(malformed)?;
        if bits == 5 {
            // The size of the table, which is nothing.
            continue;
        }
        let is_status = (STATUS_200..=STATUS_LAST).contains(&index);
        if bits == 7 {
            if is_status && index != STATUS_200 {
                return Err("the agent does not speak gRPC at this place".to_owned());
            }
            continue;
        }
        let name = match index {
            0 => reader.text().ok_or_else(malformed)?,
            _ => String::new(),
        };
        let value = reader.text().ok_or_else(malformed)?;
        if is_status && value != "200" {
            return Err(format!("the agent answers with status {value} of HTTP"));
        }
        match name.as_str() {
            "grpc-status" => status = Some(value),
            "grpc-message" => message = percent_decoded(&value),
            _ => {}
        }
    }
    Ok(status.map(|status| match (status.as_str(), message.is_empty()) {
        ("0", _) => Ok(()),
        (_, false) => Err(message),
        (_, true) => Err(format!("status {status} of gRPC")),
    }))
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// A number that begins in the low bits of the next byte.
    fn number(&mut self, bits: u32) -> Option<usize> {
        let mask = (1_usize << bits) - 1;
        let mut value = usize::from(self.byte()?) & mask;
        if value < mask {
            return Some(value);
        }
        // Three more bytes say more than any block has.
        for shift in [0, 7, 14] {
            let byte = usize::from(self.byte()?);
            value += (byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn text(&mut self) -> Option<String> {
        let coded = self.0.first()? & 0x80 != 0;
        let length = self.number(7)?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let plain = if coded { decoded(bytes) } else { bytes.to_vec() };
        Some(String::from_utf8_lossy(&plain).into_owned())
    }
}

/// What is coded with [`CODE`]; up to the first symbol that is not in it.
fn decoded(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let (mut code, mut length) = (0_u32, 0);
    for bit in bytes
        .iter()
        .flat_map(|b| (0..8).rev().map(move |i| u32::from(b >> i & 1)))
    {
        (code, length) = (code << 1 | bit, length + 1);
        match symbol(code, length) {
            Found::Symbol(symbol) => {
                out.push(symbol);
                (code, length) = (0, 0);
            }
            Found::Longer => {}
            Found::None => return out,
        }
    }
    out
}

enum Found {
    Symbol(u8),
    Longer,
    None,
}

fn symbol(code: u32, length: u32) -> Found {
    let (mut first, mut at) = (0_u32, 0);
    for (bits, symbols) in CODE {
        if bits > length {
            return Found::Longer;
        }
        first <<= bits - at;
        at = bits;
        if bits == length {
            let place = code.checked_sub(first).and_then(|p| usize::try_from(p).ok());
            return match place.and_then(|p| symbols.get(p)) {
                Some(symbol) => Found::Symbol(*symbol),
                None if length == 19 => Found::None,
                None => Found::Longer,
            };
        }
        first += u32::try_from(symbols.len()).unwrap_or_default();
    }
    Found::None
}

/// gRPC writes whatever is not printable ASCII, and `%`, as `%` and two digits.
fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 16).ok()) {
            Some(byte) if *first == b'%' => {
                out.push(byte);
                rest = &behind[2..];
            }
            _ => {
                out.push(*first);
                rest = behind;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
