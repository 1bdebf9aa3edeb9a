//! What `-f` names, read and checked before anything is done with it.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use caracal_api::{ManifestObject, Origin, Resource, parse};
use caracal_store::{Checked, check_key};

use crate::{Io, cli::HowToRead, failure::Failure, target};

/// Errors that are printed one by one; the others are counted.
const SHOWN: usize = 50;

/// An object and the place it was read at.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) resource: Resource,
    pub(crate) origin: Origin,
}

/// How much of an object must be in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// Its name: enough to read or delete it.
    Name,
    /// All of it, with defaults filled in: it is to be written.
    Whole,
}

/// Reads all objects of files, directories and stdin.
///
/// # Errors
/// With everything that is wrong with any of them.
pub(crate) fn load(
    io: &mut Io,
    paths: &[PathBuf],
    how: &HowToRead,
    check: Check,
) -> Result<Vec<Loaded>, Failure> {
    let mut loaded = Vec::new();
    let mut errors = Vec::new();
    for path in paths {
        for file in files(path, how)? {
            let (source, text) = text_of(io, &file)?;
            let documents = parse(&source, &text);
            if documents.is_empty() && !how.skip_empty {
                errors.push(format!(
                    "{source} holds no resource (--skip-empty passes over such files)"
                ));
            }
            for document in documents {
                match document {
                    Ok(d) => match settle(d.object, how.namespace.as_deref(), check) {
                        Ok(resource) => loaded.push(Loaded {
                            resource,
                            origin: d.origin,
                        }),
                        Err(e) => errors.push(format!("{}: {e}", d.origin)),
                    },
                    Err(e) => errors.push(e.to_string()),
                }
            }
        }
    }
    if errors.is_empty() {
        return Ok(loaded);
    }
    Err(Failure::Input(listed(&errors)))
}

/// Many errors as one text.
pub(crate) fn listed(errors: &[String]) -> String {
    let mut text = errors
        .iter()
        .take(SHOWN)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("\n");
    if errors.len() > SHOWN {
        text += &format!("\n… and {} more errors", errors.len() - SHOWN);
    }
    text
}

/// Makes an object complete, or says what is wrong with it.
fn settle(object: ManifestObject, namespace: Option<&str>, check: Check) -> Result<Resource, String> {
    let mut resource = match object {
        ManifestObject::Calico(r) => r,
        ManifestObject::Foreign(f) => {
            return Err(format!(
                "{} {:?} is an object of {}: calicoctl works with projectcalico.org/v3, use kubectl for it",
                f.kind, f.metadata.name, f.api_version
            ));
        }
    };
    target::settle_namespace(&mut resource, namespace)?;
    check_key(&resource.key()).map_err(|e| e.to_string())?;
    if check == Check::Whole {
        if !resource.kind().public() {
            return Err(format!(
                "{}: this kind belongs to IPAM and is not written by hand",
                resource.key()
            ));
        }
        Checked::check_alone(&mut resource).map_err(|e| e.to_string())?;
    }
    Ok(resource)
}

fn cannot_read(path: &Path, e: &std::io::Error) -> Failure {
    Failure::Input(format!("cannot read {}: {e}", path.display()))
}

/// The file itself, or the manifests of a directory in the order of their names.
fn files(path: &Path, how: &HowToRead) -> Result<Vec<PathBuf>, Failure> {
    if path == Path::new("-") {
        return Ok(vec![path.to_owned()]);
    }
    let meta = std::fs::metadata(path).map_err(|e| cannot_read(path, &e))?;
    if !meta.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    walk(path, how.recursive, &mut found)?;
    if found.is_empty() && !how.skip_empty {
        let deeper = if how.recursive {
            ""
        } else {
            " (-R looks into the directories below)"
        };
        return Err(Failure::Input(format!(
            "{} holds no .yaml, .yml or .json file{deeper}",
            path.display()
        )));
    }
    Ok(found)
}

fn walk(dir: &Path, recursive: bool, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let entries = std::fs::read_dir(dir).map_err(|e| cannot_read(dir, &e))?;
    let mut entries = entries
        .map(|e| e.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| cannot_read(dir, &e))?;
    entries.sort();
    for path in entries {
        let manifest = path
            .extension()
            .is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        // A link to a directory could lead round in a circle.
        let directory = path
            .symlink_metadata()
            .map_err(|e| cannot_read(&path, &e))?
            .is_dir();
        if directory {
            if recursive {
                walk(&path, recursive, found)?;
            }
        } else if manifest && !path.is_dir() {
            found.push(path);
        }
    }
    Ok(())
}

fn text_of(io: &mut Io, path: &Path) -> Result<(String, String), Failure> {
    let stdin = path == Path::new("-");
    let source = if stdin {
        "stdin".to_owned()
    } else {
        path.display().to_string()
    };
    let bytes = if stdin {
        let mut bytes = Vec::new();
        io.input
            .read_to_end(&mut bytes)
            .map_err(|e| cannot_read(Path::new("stdin"), &e))?;
        bytes
    } else {
        std::fs::read(path).map_err(|e| cannot_read(path, &e))?
    };
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Failure::Input(format!("{source} is not UTF-8 text: byte {at} cannot be read"))
    })?;
    Ok((source, text))
}
