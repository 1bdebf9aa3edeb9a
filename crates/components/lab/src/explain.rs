//! Errors for people.

/// An error with its causes. A cause that the error before it tells already is not told again.
pub(crate) fn explain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn nothing_is_told_twice() {
        let error = Err::<(), _>(anyhow::anyhow!("no such file"))
            .context("cannot start x: no such file")
            .context("lab");
        assert_eq!(explain(&error.unwrap_err()), "lab: cannot start x: no such file");
    }
}
