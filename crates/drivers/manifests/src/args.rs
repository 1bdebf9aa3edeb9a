use std::{ffi::OsString, io::Write};

use clap::Parser;

/// Reads a command line; `args[0]` is the program's name. What clap has to say instead (help, or what is wrong) is
/// written, and the exit code comes back: `usage` where the line makes no sense or help cannot be shown, else 0.
///
/// # Errors
/// The exit code of a program that has nothing to do.
pub fn read_args<C: Parser>(
    args: Vec<OsString>,
    output: &mut dyn Write,
    errors: &mut dyn Write,
    usage: i32,
) -> Result<C, i32> {
    C::try_parse_from(args).map_err(|e| {
        let written = if e.use_stderr() {
            write!(errors, "{}", e.render())
        } else {
            write!(output, "{}", e.render())
        };
        if e.use_stderr() || written.is_err() {
            usage
        } else {
            0
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[arg(long)]
        word: String,
    }

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn help_is_shown_and_a_mistake_is_told() {
        let read = |line: &str, output: &mut dyn Write, errors: &mut dyn Write| {
            let args = line.split(' ').map(OsString::from).collect();
            read_args::<Cli>(args, output, errors, 7).map(|c| c.word)
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        assert_eq!(read("p --word x", &mut out, &mut err), Ok("x".to_owned()));
        assert!(out.is_empty() && err.is_empty());
        assert_eq!(read("p --help", &mut out, &mut err), Err(0));
        assert!(!out.is_empty() && err.is_empty());
        assert_eq!(read("p --help", &mut Full, &mut err), Err(7));
        out.clear();
        assert_eq!(read("p --wrod x", &mut out, &mut err), Err(7));
        assert!(out.is_empty() && String::from_utf8_lossy(&err).contains("--wrod"));
    }
}
