use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The first file system of a machine: a cpio archive of the kind `newc`, that the kernel unpacks.
pub(super) struct Archive {
    out: BufWriter<File>,
    /// What is in it already; directories are made once, and a library is packed once.
    names: BTreeSet<PathBuf>,
}

impl Archive {
    pub(super) fn new(file: File) -> Self {
        Self {
            out: BufWriter::new(file),
            names: BTreeSet::new(),
        }
    }

    pub(super) fn directory(&mut self, name: &Path) -> io::Result<()> {
        if name.parent().is_none() || self.names.contains(name) {
            return Ok(());
        }
        self.parent_of(name)?;
        self.entry(name, 0o040_755, &[])
    }

    pub(super) fn link(&mut self, name: &Path, target: &str) -> io::Result<()> {
        self.parent_of(name)?;
        self.entry(name, 0o120_777, target.as_bytes())
    }

    pub(super) fn text(&mut self, name: &Path, mode: u32, text: &str) -> io::Result<()> {
        self.parent_of(name)?;
        self.entry(name, 0o100_000 | mode, text.as_bytes())
    }

    /// The file `from` of this machine as `name`, with the same permissions.
    pub(super) fn file(&mut self, from: &Path, name: &Path) -> io::Result<()> {
        if self.names.contains(name) {
            return Ok(());
        }
        self.parent_of(name)?;
        let mode = fs::metadata(from)?.permissions().mode() & 0o777;
        self.entry(name, 0o100_000 | mode, &fs::read(from)?)
    }

    /// All below the directory `from` as `name`; symbolic links stay links.
    pub(super) fn tree(&mut self, from: &Path, name: &Path) -> io::Result<()> {
        self.directory(name)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let (path, name) = (entry.path(), name.join(entry.file_name()));
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.tree(&path, &name)?;
            } else if kind.is_symlink() {
                self.link(&name, &fs::read_link(&path)?.to_string_lossy())?;
            } else {
                self.file(&path, &name)?;
            }
        }
        Ok(())
    }

    /// A program and the libraries that its loader asks for, without what only a debugger reads.
    pub(super) fn program(&mut self, from: &Path, name: &Path) -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let slim = dir.path().join("slim");
        let stripped = Command::new("objcopy")
            .arg("--strip-debug")
            .args([from, &slim])
            .output();
        // A script, or no objcopy: it goes as it is.
        let slim = if stripped.is_ok_and(|o| o.status.success()) {
            &slim
        } else {
            from
        };
        self.file(slim, name)?;
        for library in libraries(from)? {
            self.file(&library, &library)?;
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        self.entry(Path::new("TRAILER!!!"), 0, &[])?;
        self.out.flush()
    }

    fn parent_of(&mut self, name: &Path) -> io::Result<()> {
        name.parent().map_or(Ok(()), |parent| self.directory(parent))
    }

    fn entry(&mut self, name: &Path, mode: u32, data: &[u8]) -> io::Result<()> {
        self.names.insert(name.to_owned());
        let number = self.names.len();
        let name = name.to_string_lossy();
        let name = name.trim_start_matches('/');
        let links = 1;
        write!(
            self.out,
            "070701{number:08x}{mode:08x}{0:08x}{0:08x}{links:08x}{0:08x}{1:08x}",
            0,
            data.len()
        )?;
        write!(
            self.out,
            "{0:08x}{0:08x}{0:08x}{0:08x}{1:08x}{0:08x}",
            0,
            name.len() + 1
        )?;
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(110 + name.len() + 1)?;
        self.out.write_all(data)?;
        self.pad(data.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..written.wrapping_neg() % 4])
    }
}

/// What `ldd` says: `name => /path (0x…)` and the loader itself, `/path (0x…)`.
fn libraries(program: &Path) -> io::Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = text.lines().filter_map(|line| {
        let line = line.split_once("=> ").map_or(line, |(_, path)| path);
        let path = line.split_whitespace().next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    });
    Ok(paths.collect())
}
