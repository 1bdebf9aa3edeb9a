//! Times on the command line.

use std::time::Duration;

use crate::failure::Failure;

/// A time as Go writes it: `1s`, `10m`, `2h`, `1h30m`, `500ms`; `0` is none.
///
/// # Errors
/// Names the option that it is the value of.
pub(crate) fn duration(option: &str, text: &str) -> Result<Duration, Failure> {
    let bad = || {
        Failure::Usage(format!(
            "{option}={text}: a time is a number with ms, s, m or h, for example 1s, 10m or 2h"
        ))
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                _ => return Err(bad()),
            };
        rest = &rest[unit..];
    }
    if text.is_empty() {
        return Err(bad());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_writes_them() {
        let ms = |t: &str| duration("--poll", t).unwrap().as_millis();
        assert_eq!(
            (ms("1s"), ms("500ms"), ms("1h30m"), ms("0")),
            (1_000, 500, 5_400_000, 0)
        );
        for bad in ["", "1", "s", "1x", "-1s", "1s2", "9e99h"] {
            assert!(duration("--poll", bad).is_err(), "{bad}");
        }
    }
}
