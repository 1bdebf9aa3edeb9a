use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use caracal_store::Store;
use caracal_store_etcd::{EtcdSettings, EtcdStore};

use crate::{ApiConfig, DatastoreError, Settings, resolve};

/// The file that is read when none is named and it is there.
pub const DEFAULT_CONFIG: &str = "/etc/calico/calicoctl.cfg";

/// Makes the store. Nothing is sent before the first request, so this costs nothing and cannot hang.
///
/// # Errors
/// [`DatastoreError`] when an endpoint cannot be used.
pub fn connect(settings: &Settings) -> Result<Arc<dyn Store>, DatastoreError> {
    Ok(Arc::new(client(settings)?))
}

fn client(settings: &Settings) -> Result<EtcdStore, DatastoreError> {
    Ok(match settings {
        Settings::Etcd(settings) => EtcdStore::new(settings)?,
        Settings::Embedded { socket } => EtcdStore::new(&EtcdSettings::unix(socket))?,
    })
}

/// Makes the client of a datastore that is named for itself, as source or destination of a [`transfer`]: by a
/// CalicoAPIConfig file, with nothing from the environment, or as `unix:///PATH/OF/ITS.sock`.
///
/// [`transfer`]: caracal_store_etcd::transfer
///
/// # Errors
/// [`DatastoreError`] saying what is wrong with the file.
pub fn named(text: &str) -> Result<EtcdStore, DatastoreError> {
    if text.starts_with("unix://") {
        return Ok(EtcdStore::new(&EtcdSettings::new([text]))?);
    }
    let file = read_config(Some(Path::new(text)))?;
    client(&resolve(&BTreeMap::new(), file.as_ref(), |path| {
        Path::new(path).exists()
    })?)
}

/// Decides with this process's environment and the file at `config` (or else [`DEFAULT_CONFIG`], if it is there), and
/// makes the store.
///
/// # Errors
/// [`DatastoreError`] saying what to set, or what is wrong with the file.
pub fn from_process(config: Option<&Path>) -> Result<(Settings, Arc<dyn Store>), DatastoreError> {
    let settings = settings(config)?;
    let store = connect(&settings)?;
    Ok((settings, store))
}

/// As [`from_process`], for what is about how objects are stored and not about objects.
///
/// # Errors
/// As those of [`from_process`].
pub fn client_from_process(config: Option<&Path>) -> Result<EtcdStore, DatastoreError> {
    client(&settings(config)?)
}

fn settings(config: Option<&Path>) -> Result<Settings, DatastoreError> {
    let env: BTreeMap<_, _> = std::env::vars_os()
        .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
        .collect();
    let file = read_config(config)?;
    resolve(&env, file.as_ref(), |path| Path::new(path).exists())
}

fn read_config(config: Option<&Path>) -> Result<Option<ApiConfig>, DatastoreError> {
    let path = config.unwrap_or(Path::new(DEFAULT_CONFIG));
    let error = |why: String| DatastoreError::File {
        path: path.display().to_string(),
        why,
    };
    match std::fs::read_to_string(path) {
        Ok(text) => ApiConfig::parse(&text)
            .map(Some)
            .map_err(|e| error(e.to_string())),
        Err(e) if config.is_none() && e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(error(e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_file_must_be_there_and_good() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.cfg");
        let e = read_config(Some(&path)).unwrap_err().to_string();
        assert!(e.contains("c.cfg"), "{e}");
        std::fs::write(&path, "kind: Other\n").unwrap();
        let e = read_config(Some(&path)).unwrap_err().to_string();
        assert!(e.contains("c.cfg") && e.contains("apiVersion"), "{e}");
    }

    #[test]
    fn making_the_store_needs_no_runtime_and_no_server() {
        let store = connect(&Settings::Embedded {
            socket: "/nonexistent".into(),
        });
        assert_eq!(store.unwrap().describe(), "embedded store at /nonexistent");
    }
}
