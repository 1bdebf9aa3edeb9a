use std::fmt;

const DAY: i64 = 86_400;

/// A moment in whole seconds since 1970. What is pure has no clock: whoever calls it says what time it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(i64);

impl Stamp {
    /// The moment so many seconds after 1970 began.
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0
    }

    /// Seconds from `earlier` to this; negative when it is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Reads RFC 3339 and what Go prints for a time (`2026-01-02 03:04:05.6 +0000 UTC`), which Calico stores beside
    /// addresses.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.trim().split_at_checked(10)?;
        let (year, month, day) = three(date, '-')?;
        let rest = rest.strip_prefix(['T', 't', ' '])?;
        let (clock, rest) = rest.split_at_checked(8)?;
        let (hour, minute, second) = three(clock, ':')?;
        let sane = (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && (0..=23).contains(&hour)
            && (0..=59).contains(&minute)
            && (0..=60).contains(&second);
        if !sane {
            return None;
        }
        let rest = match rest.strip_prefix('.') {
            Some(r) => r.trim_start_matches(|c: char| c.is_ascii_digit()),
            None => rest,
        };
        let seconds = days(year, month, day) * DAY + hour * 3_600 + minute * 60 + second;
        Some(Self(seconds - offset(rest.trim_start())?))
    }
}

fn three(text: &str, between: char) -> Option<(i64, i64, i64)> {
    let mut parts = text.split(between).map(|p| {
        p.bytes()
            .all(|b| b.is_ascii_digit())
            .then(|| p.parse::<i64>().ok())
            .flatten()
    });
    let found = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(found)
}

/// Seconds that a zone is ahead of UTC.
fn offset(zone: &str) -> Option<i64> {
    let zone = zone.split(' ').next().unwrap_or_default();
    if matches!(zone, "Z" | "z" | "UTC") {
        return Some(0);
    }
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", d) => (1, d),
        ("-", d) => (-1, d),
        _ => return None,
    };
    let digits: String = digits.chars().filter(|c| *c != ':').collect();
    if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let n: i64 = digits.parse().ok()?;
    Some(sign * ((n / 100) * 3_600 + (n % 100) * 60))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March here, so that the leap day is last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date(self.0.div_euclid(DAY));
        let s = self.0.rem_euclid(DAY);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
            s / 3_600,
            s / 60 % 60,
            s % 60
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_others_write() {
        let known = Stamp::from_seconds(1_767_323_045);
        for text in [
            "2026-01-02T03:04:05Z",
            "2026-01-02T03:04:05.678901Z",
            "2026-01-02T05:04:05+02:00",
            "2026-01-01t23:04:05-04:00",
            "2026-01-02 03:04:05.123 +0000 UTC",
            "2026-01-02 03:04:05 +0000 UTC m=+0.5",
        ] {
            assert_eq!(Stamp::parse(text), Some(known), "{text}");
        }
        for text in [
            "",
            "soon",
            "2026-01-02",
            "2026-13-02T03:04:05Z",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05+1",
            "2026-01-0éT03:04:05Z",
        ] {
            assert_eq!(Stamp::parse(text), None, "{text}");
        }
        assert_eq!(known.to_string(), "2026-01-02T03:04:05Z");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in -62_000_000_000i64..250_000_000_000) {
            let s = Stamp::from_seconds(seconds);
            prop_assert_eq!(Stamp::parse(&s.to_string()), Some(s));
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            let _ = Stamp::parse(&text);
        }
    }
}
