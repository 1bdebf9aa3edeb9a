//! Tables with lines around their cells, as `calicoctl ipam show` draws them.

/// Draws a table; the columns whose number is in `right` are aligned to the right.
pub(super) fn draw(header: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let width = |i: usize| {
        let cells = rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count());
        cells.chain([header[i].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let rule = widths
        .iter()
        .fold("+".to_owned(), |s, w| s + &"-".repeat(w + 2) + "+")
        + "\n";
    let line = |cells: &[&str]| {
        let mut text = "|".to_owned();
        for (i, w) in widths.iter().enumerate() {
            let cell = cells.get(i).copied().unwrap_or_default();
            let pad = " ".repeat(w - cell.chars().count().min(*w));
            let (before, after) = if right.contains(&i) {
                (&*pad, "")
            } else {
                ("", &*pad)
            };
            text += &format!(" {before}{cell}{after} |");
        }
        text + "\n"
    };
    let mut out = rule.clone() + &line(header) + &rule;
    for r in rows {
        out += &line(&r.iter().map(String::as_str).collect::<Vec<_>>());
    }
    out + &rule
}

/// A count with five significant digits: 65536, 2.6214e+05.
pub(super) fn short(n: f64) -> String {
    if n < 99_999.5 {
        return format!("{n:.0}");
    }
    let text = format!("{n:.4e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    format!("{digits}e+{exponent:0>2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must() {
        let rows = [vec!["a".into(), "10".into()], vec!["long".into(), "5".into()]];
        let want =
            "+------+----+\n| X    |  N |\n+------+----+\n| a    | 10 |\n| long |  5 |\n+------+----+\n";
        assert_eq!(draw(&["X", "N"], &rows, &[1]), want);
    }

    #[test]
    fn large_numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (65_536.0, "65536"),
            (262_144.0, "2.6214e+05"),
            (1e6, "1e+06"),
            (2f64.powi(64), "1.8447e+19"),
        ];
        for (n, text) in cases {
            assert_eq!(short(n), text);
        }
    }
}
