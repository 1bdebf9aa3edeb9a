use std::{
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Whether directories below a directory are looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Only the directory itself.
    Flat,
    /// All that is below it.
    Recursive,
}

/// Why manifests cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file, directory or standard input that cannot be read.
    #[error("cannot read {source_name}: {error}")]
    Unreadable {
        /// Which.
        source_name: String,
        /// Why.
        error: io::Error,
    },
    /// A file that is not text.
    #[error("{source_name} is not UTF-8 text: byte {at} cannot be read")]
    NotText {
        /// Which.
        source_name: String,
        /// The first byte that is not.
        at: usize,
    },
    /// A directory without manifests.
    #[error("{} holds no .yaml, .yml or .json file", directory.display())]
    Empty {
        /// Which.
        directory: PathBuf,
    },
}

impl InputError {
    fn unreadable(path: &Path, error: io::Error) -> Self {
        Self::Unreadable {
            source_name: path.display().to_string(),
            error,
        }
    }
}

/// The texts behind a path, each with the name of its source: the file, the manifests of a directory in the order of
/// their names, or `stdin` for `-`. Links are followed to files, not into directories: they might lead back.
///
/// # Errors
/// When something cannot be read, or a directory holds no manifest.
pub fn texts(path: &Path, depth: Depth, stdin: &mut dyn Read) -> Result<Vec<(String, String)>, InputError> {
    if path == Path::new("-") {
        let mut bytes = Vec::new();
        let read = stdin.read_to_end(&mut bytes);
        read.map_err(|e| InputError::unreadable(Path::new("stdin"), e))?;
        return Ok(vec![text("stdin".to_owned(), bytes)?]);
    }
    let read = |file: PathBuf| {
        let bytes = std::fs::read(&file).map_err(|e| InputError::unreadable(&file, e))?;
        text(file.display().to_string(), bytes)
    };
    files(path, depth)?.into_iter().map(read).collect()
}

fn text(source_name: String, bytes: Vec<u8>) -> Result<(String, String), InputError> {
    match String::from_utf8(bytes) {
        Ok(text) => Ok((source_name, text)),
        Err(e) => Err(InputError::NotText {
            source_name,
            at: e.utf8_error().valid_up_to(),
        }),
    }
}

fn files(path: &Path, depth: Depth) -> Result<Vec<PathBuf>, InputError> {
    let meta = std::fs::metadata(path).map_err(|e| InputError::unreadable(path, e))?;
    if !meta.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    walk(path, depth, &mut found)?;
    if found.is_empty() {
        return Err(InputError::Empty {
            directory: path.to_owned(),
        });
    }
    Ok(found)
}

fn walk(dir: &Path, depth: Depth, found: &mut Vec<PathBuf>) -> Result<(), InputError> {
    let unreadable = |e| InputError::unreadable(dir, e);
    let entries = std::fs::read_dir(dir).map_err(unreadable)?;
    let entries = entries.map(|e| e.map(|e| e.path()));
    let mut entries = entries.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    entries.sort();
    for path in entries {
        let known = |e: &std::ffi::OsStr| e == "yaml" || e == "yml" || e == "json";
        let meta = path
            .symlink_metadata()
            .map_err(|e| InputError::unreadable(&path, e))?;
        if meta.is_dir() {
            if depth == Depth::Recursive {
                walk(&path, depth, found)?;
            }
        } else if path.extension().is_some_and(known) && !path.is_dir() {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(path: &Path, depth: Depth) -> Vec<String> {
        let texts = texts(path, depth, &mut io::empty()).unwrap();
        let name = |(source, _): &(String, String)| source.rsplit('/').next().unwrap_or_default().to_owned();
        texts.iter().map(name).collect()
    }

    #[test]
    fn directories_are_read_in_the_order_of_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        fs::create_dir(path.join("c")).unwrap();
        for file in ["b.yaml", "a.yml", "c/z.json", "c/y.txt", "readme"] {
            fs::write(path.join(file), file).unwrap();
        }
        std::os::unix::fs::symlink("..", path.join("c/up.yaml")).unwrap();
        assert_eq!(names(path, Depth::Flat), ["a.yml", "b.yaml"]);
        assert_eq!(names(path, Depth::Recursive), ["a.yml", "b.yaml", "z.json"]);
        assert_eq!(names(&path.join("readme"), Depth::Flat), ["readme"]);
        let stdin = texts(Path::new("-"), Depth::Flat, &mut "x".as_bytes()).unwrap();
        assert_eq!(stdin, [("stdin".to_owned(), "x".to_owned())]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        fs::create_dir(path.join("sub")).unwrap();
        fs::write(path.join("sub/x.yaml"), b"ab\xff").unwrap();
        std::os::unix::fs::symlink("nowhere", path.join("sub/y.yaml")).unwrap();
        for (what, part) in [
            ("nothing", "No such file"),
            ("sub/y.yaml", "y.yaml"),
            ("sub/x.yaml", "byte 2"),
        ] {
            let e = texts(&path.join(what), Depth::Flat, &mut io::empty()).unwrap_err();
            let e = e.to_string();
            assert!(e.contains(what) && e.contains(part), "{e}");
        }
        let e = texts(path, Depth::Flat, &mut io::empty())
            .unwrap_err()
            .to_string();
        assert!(e.contains("holds no .yaml"), "{e}");
    }
}
