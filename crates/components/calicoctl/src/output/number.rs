/// A number as Go prints it by default, for example an order: the shortest digits, with an exponent from 1e+06 on.
pub(crate) fn go_float(n: f64) -> String {
    let text = format!("{n:e}");
    let parts = text
        .split_once('e')
        .and_then(|(digits, e)| Some((digits, e.parse::<i32>().ok()?)));
    match parts {
        Some((digits, e)) if !(-4..6).contains(&e) => {
            format!("{digits}e{}{:02}", if e < 0 { '-' } else { '+' }, e.abs())
        }
        // Infinities and NaN have no exponent.
        _ => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_look_as_go_prints_them() {
        for (n, want) in [
            (0.0, "0"),
            (100.0, "100"),
            (1.5, "1.5"),
            (-3.25, "-3.25"),
            (999_999.0, "999999"),
            (1_000_000.0, "1e+06"),
            (1_234_567.0, "1.234567e+06"),
            (0.00001, "1e-05"),
            (0.0001, "0.0001"),
            (1e21, "1e+21"),
        ] {
            assert_eq!(go_float(n), want);
        }
    }
}
