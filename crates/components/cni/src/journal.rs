//! DELs that could not be finished because the datastore was away, or because what ADD had asked for could still be
//! written: a file each, done by a later call.
//!
//! **Invariant:** an entry is never done while, or after, the same attachment is added again: ADD takes the entry's
//! lock and removes it before it looks at anything.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use caracal_store::Store;
use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use crate::{
    call::{Call, Invocation},
    del,
    env::{Env, Needs},
    error::{CniError, Code},
    netconf::NetConf,
    on_demand,
    run::Plugin,
    version::Version,
};

/// Where entries are kept over a restart of the machine.
pub(crate) const DEFAULT_DIR: &str = "/var/lib/calico/cni-pending";

/// How long one entry may take.
const ENTRY_LIMIT: Duration = Duration::from_secs(2);

/// How many entries one call does, so that it is not much longer for it.
const AT_ONCE: usize = 16;

/// How long what the agent was asked for may still be written: its own patience, and etcd's.
const LANDING: Duration = Duration::from_secs(20);

/// Variables that an entry keeps: those of the call, and those that choose the datastore.
const KEPT: [&str; 4] = ["CNI_", "ETCD_", "CALICO_", "DATASTORE_"];

#[derive(Serialize, Deserialize)]
struct Entry {
    plugin: Plugin,
    env: BTreeMap<String, String>,
    config: String,
    /// What ADD asked for may still be written: nothing is found before.
    #[serde(default)]
    arriving: bool,
}

fn path_of(dir: &Path, alias: &str) -> PathBuf {
    let digest = Sha1::digest(alias);
    let name: String = digest.iter().map(|b| format!("{b:02x}")).collect();
    dir.join(format!("{name}.json"))
}

/// Keeps a DEL for later.
pub(crate) fn record(call: &Call<'_>, plugin: Plugin, arriving: bool) -> Result<(), CniError> {
    let kept = |name: &str| KEPT.iter().any(|prefix| name.starts_with(prefix)) || name == "KUBECONFIG";
    let mut env: BTreeMap<String, String> = call
        .env
        .all
        .iter()
        .filter(|(name, _)| kept(name))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    // GC and a failed ADD end in a DEL, too.
    env.insert("CNI_COMMAND".into(), "DEL".into());
    env.insert("CNI_CONTAINERID".into(), call.id.container_id.clone());
    env.insert("CNI_IFNAME".into(), call.id.ifname.clone());
    if let Some((namespace, name)) = &call.id.pod {
        let args = format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}");
        env.insert("CNI_ARGS".into(), args);
    }
    let entry = Entry {
        plugin,
        env,
        config: String::from_utf8_lossy(&call.given.stdin).into_owned(),
        arriving,
    };
    let text = serde_json::to_vec(&entry).unwrap_or_default();
    let path = path_of(call.given.journal(), &call.id.alias());
    // The configuration may hold credentials.
    caracal_sys::write_atomic(&path, &text, 0o600)
        .map_err(|e| CniError::system("keeping the release for later", &e))?;
    let why = match arriving {
        true => "what ADD asked for may still be written",
        false => "the datastore is away",
    };
    tracing::warn!(path = %path.display(), "{why}: the rest of DEL is done by a later call");
    Ok(())
}

/// Takes back what a DEL of this attachment left, because it is added again.
pub(crate) fn forget(call: &Call<'_>) -> Result<(), CniError> {
    let path = path_of(call.given.journal(), &call.id.alias());
    let taken = || -> io::Result<()> {
        let file = match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        // Whoever does the entry at this moment ends within its limit.
        file.lock()?;
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    };
    taken().map_err(|e| {
        CniError::new(
            crate::error::Code::Io,
            "a DEL of this container was to be finished later and cannot be taken back",
            format!("{}: {e}", path.display()),
        )
    })
}

/// Whether earlier calls left anything.
pub(crate) fn is_waiting(given: &Invocation) -> bool {
    fs::read_dir(given.journal()).is_ok_and(|mut entries| entries.next().is_some())
}

/// Does what earlier calls left, as far as the datastore answers now.
pub(crate) async fn replay(given: &Invocation) {
    let Ok(entries) = fs::read_dir(given.journal()) else {
        return;
    };
    let files = entries.flatten().map(|e| e.path());
    let mut done = 0;
    for path in files.filter(|p| p.extension().is_some_and(|e| e == "json")) {
        match one(given, &path).await {
            Ok(()) => done += 1,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "an earlier DEL cannot be finished yet");
                // Without a datastore the others cannot be either; what is wrong with one alone is not their matter.
                if error.is(Code::TryAgain) {
                    return;
                }
            }
        }
        if done == AT_ONCE {
            return;
        }
    }
}

async fn one(given: &Invocation, path: &Path) -> Result<(), CniError> {
    let Ok(file) = File::open(path) else {
        return Ok(());
    };
    if file.try_lock().is_err() {
        return Ok(());
    }
    on_demand::runtime().await;
    // Taken back or done by another one while we were opening it.
    let Ok(Some(text)) = caracal_sys::read_optional(path) else {
        return Ok(());
    };
    match serde_json::from_slice::<Entry>(&text) {
        // Nobody can tell how old one is whose time lies ahead: it is done now.
        Ok(entry) if entry.arriving && age(&file).is_some_and(|age| age < LANDING) => return Ok(()),
        Ok(entry) => finish(given.store.clone(), entry).await?,
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "an entry cannot be read and is removed")
        }
    }
    caracal_sys::remove_optional(path).map_err(|e| CniError::system("a finished entry", &e))?;
    Ok(())
}

fn age(file: &File) -> Option<Duration> {
    file.metadata().ok()?.modified().ok()?.elapsed().ok()
}

async fn finish(store: Option<Arc<dyn Store>>, entry: Entry) -> Result<(), CniError> {
    let given = Invocation {
        env: entry.env,
        stdin: entry.config.into_bytes(),
        store,
        ..Invocation::default()
    };
    let conf = NetConf::read(&given.stdin)?;
    let version = Version::parse(&conf.cni_version)?;
    let env = Env::read(given.env.clone())?;
    let call = Call::new(&given, &env, &conf, version, Needs::Container)?;
    tracing::info!(container = call.id.container_id, "finishing an earlier DEL");
    del::finish(&call, entry.plugin, ENTRY_LIMIT).await
}
