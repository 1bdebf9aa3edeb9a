//! Numbers and durations as Go programs write them, because that is what operators have in their files.

/// A whole number: decimal, or with `0x`, `0o`, `0b` or a leading zero for octal; `_` may separate digits.
pub(super) fn integer(raw: &str) -> Result<i64, String> {
    let bad = || format!("{raw:?} is not a whole number");
    let (negative, digits) = match raw.as_bytes().first() {
        Some(b'-') => (true, &raw[1..]),
        Some(b'+') => (false, &raw[1..]),
        _ => (false, raw),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = if let Some(hex) = lower.strip_prefix("0x") {
        (16, hex)
    } else if let Some(octal) = lower.strip_prefix("0o") {
        (8, octal)
    } else if let Some(binary) = lower.strip_prefix("0b") {
        (2, binary)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, &lower[1..])
    } else {
        (10, lower.as_str())
    };
    let digits = digits.replace('_', "");
    if digits.starts_with(['+', '-']) {
        return Err(bad());
    }
    let magnitude = i128::from(u64::from_str_radix(&digits, radix).map_err(|_| bad())?);
    i64::try_from(if negative { -magnitude } else { magnitude }).map_err(|_| format!("{raw:?} is too large"))
}

/// A number, `unit` nanoseconds each.
pub(super) fn nanos(raw: &str, unit: f64) -> Result<i64, String> {
    let number: f64 = raw.parse().map_err(|_| format!("{raw:?} is not a number"))?;
    whole_nanos(number * unit).ok_or_else(|| format!("{raw:?} is too large"))
}

/// `None` if not finite or out of range. Truncates, as Go's conversion does.
fn whole_nanos(nanos: f64) -> Option<i64> {
    // 2^63 is exact as a float; anything below it fits.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    #[allow(clippy::cast_possible_truncation, reason = "the range is checked")]
    (nanos.is_finite() && nanos.abs() < LIMIT).then_some(nanos as i64)
}

/// Nanoseconds of a Go duration: `1h3m2.5s`, `300ms`, `-1s`, `0`.
pub(crate) fn go_duration(raw: &str) -> Result<i64, String> {
    let bad = || format!("{raw:?} is not a duration (as in 1m30s or 500ms)");
    let (negative, mut rest) = match raw.as_bytes().first() {
        Some(b'-') => (true, &raw[1..]),
        Some(b'+') => (false, &raw[1..]),
        _ => (false, raw),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(bad)?;
        let (number, tail) = rest.split_at(digits);
        let unit_len = tail
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let unit = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return Err(bad()),
        };
        total += scaled(number, unit).ok_or_else(bad)?;
        if total > i128::from(i64::MAX) {
            return Err(format!("{raw:?} is too long"));
        }
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| bad())
}

/// `12.5` times `unit`, exactly, digits below a nanosecond dropped. `None` if it is no number or has more than 19
/// digits before the point.
fn scaled(number: &str, unit: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || whole.len() > 19 || fraction.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let fraction = &fraction[..fraction.len().min(18)];
    let part = if fraction.is_empty() {
        0
    } else {
        let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
        fraction.parse::<i128>().ok()? * unit / scale
    };
    Some(whole * unit + part)
}

/// Nanoseconds as decimal text in units of `10^digits` nanoseconds (9 for seconds, 6 for milliseconds), exact.
pub(crate) fn seconds_text(nanos: i64, digits: usize) -> String {
    let text = format!("{:0>width$}", nanos.unsigned_abs(), width = digits + 1);
    let (whole, fraction) = text.split_at(text.len() - digits);
    let fraction = fraction.trim_end_matches('0');
    let sign = if nanos < 0 { "-" } else { "" };
    if fraction.is_empty() {
        format!("{sign}{whole}")
    } else {
        format!("{sign}{whole}.{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers() {
        for (raw, want) in [
            ("0", 0),
            ("-1", -1),
            ("+7", 7),
            ("0xffff0000", 0xffff_0000),
            ("0X1f", 31),
            ("010", 8),
            ("0o17", 15),
            ("0b101", 5),
            ("1_000", 1000),
            ("9223372036854775807", i64::MAX),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(integer(raw), Ok(want), "{raw}");
        }
        for raw in [
            "",
            "-",
            "x",
            "1.5",
            "0x",
            "9223372036854775808",
            "--1",
            "0x-1",
            "08",
            "1e3",
            "１",
        ] {
            assert!(integer(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn durations() {
        for (raw, want) in [
            ("0", 0),
            ("1s", 1_000_000_000),
            ("1h3m2s", 3_782_000_000_000),
            ("1.5s", 1_500_000_000),
            (".5m", 30_000_000_000),
            ("300ms", 300_000_000),
            ("-2us", -2_000),
            ("1m30s123ms", 90_123_000_000),
            ("7ns", 7),
            ("2µs", 2_000),
        ] {
            assert_eq!(go_duration(raw), Ok(want), "{raw}");
        }
        for raw in [
            "",
            "5",
            "s",
            "1x",
            "1",
            "1s5",
            ".s",
            "1..2s",
            "99999999999999999999s",
            "1e3s",
            "300000h1x",
            "é",
        ] {
            assert!(go_duration(raw).is_err(), "{raw}");
        }
    }

    #[test]
    fn floats() {
        assert_eq!(nanos("0.5", 1e9), Ok(500_000_000));
        assert_eq!(nanos("1e3", 1e6), Ok(1_000_000_000));
        assert_eq!(nanos("-1", 1e9), Ok(-1_000_000_000));
        for raw in ["inf", "nan", "1e300", "", "1s", "1,5"] {
            assert!(nanos(raw, 1e9).is_err(), "{raw}");
        }
    }

    #[test]
    fn seconds_are_exact() {
        assert_eq!(seconds_text(90_000_000_000, 9), "90");
        assert_eq!(seconds_text(1_500_000_000, 9), "1.5");
        assert_eq!(seconds_text(-1, 9), "-0.000000001");
        assert_eq!(seconds_text(50_000_000, 6), "50");
        assert_eq!(seconds_text(0, 9), "0");
    }
}
