//! What `-f` names, read and checked before anything is done with it.

use std::path::{Path, PathBuf};

use caracal_api::{Kind, ManifestObject, Origin, Resource, parse};
use caracal_manifests::{Depth, InputError};
use caracal_store::{Checked, Store, check_key};

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
    /// As `Whole`, but what the fields of a FelixConfiguration must be depends on what is stored: [`against_stored`].
    Changed,
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
        for (source, text) in texts(io, path, how)? {
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

/// Checks what [`Check::Changed`] left out, before anything is written. A field that nobody knows is a mistake, unless the
/// stored object has it: then a newer version wrote it, and `get` showed it.
///
/// # Errors
/// With everything that is wrong with any of them.
pub(crate) async fn against_stored(store: &dyn Store, loaded: &mut [Loaded]) -> Result<(), Failure> {
    let mut errors = Vec::new();
    let configurations = |l: &&mut Loaded| l.resource.kind() == Kind::FelixConfiguration;
    for l in loaded.iter_mut().filter(configurations) {
        let Err(alone) = Checked::check_alone(&mut l.resource) else {
            continue;
        };
        let outcome = match store.get(&l.resource.key()).await {
            Ok(stored) => Checked::check_change(&mut l.resource, Some(&stored)),
            Err(_) => Err(alone),
        };
        if let Err(e) = outcome {
            errors.push(format!("{}: {e}", l.origin));
        }
    }
    if errors.is_empty() {
        return Ok(());
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
    if check != Check::Name {
        if !resource.kind().public() {
            return Err(format!(
                "{}: this kind belongs to IPAM and is not written by hand",
                resource.key()
            ));
        }
        if check == Check::Whole || resource.kind() != Kind::FelixConfiguration {
            Checked::check_alone(&mut resource).map_err(|e| e.to_string())?;
        }
    }
    Ok(resource)
}

fn texts(io: &mut Io, path: &Path, how: &HowToRead) -> Result<Vec<(String, String)>, Failure> {
    let depth = if how.recursive {
        Depth::Recursive
    } else {
        Depth::Flat
    };
    match caracal_manifests::texts(path, depth, &mut io.input) {
        Err(InputError::Empty { .. }) if how.skip_empty => Ok(Vec::new()),
        Err(e @ InputError::Empty { .. }) if !how.recursive => Err(Failure::Input(format!(
            "{e} (-R looks into the directories below)"
        ))),
        outcome => outcome.map_err(|e| Failure::Input(e.to_string())),
    }
}
