//! Endpoint status files: one per endpoint that is up, for programs that follow Calico's.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    path::{Path, PathBuf},
};

use caracal_ids::WorkloadId;
use caracal_net::Family;
use serde::{Deserialize, Serialize};

use crate::status::{EndpointStatus, State};

/// The folder below `EndpointStatusPathPrefix`.
const FOLDER: &str = "endpoint-status";

/// What is read of a file that an agent before this one wrote.
#[derive(Debug, Deserialize)]
struct Left {
    namespace: String,
    name: String,
    #[serde(rename = "containerID")]
    container: String,
    #[serde(rename = "ipv4Nets")]
    v4: Vec<String>,
    #[serde(rename = "ipv6Nets")]
    v6: Vec<String>,
}

/// A file's content.
#[derive(Serialize)]
struct Content<'a> {
    namespace: &'a str,
    name: &'a str,
    #[serde(rename = "ifaceName")]
    interface: &'a str,
    #[serde(rename = "containerID")]
    container: &'a str,
    #[serde(rename = "ipv4Nets")]
    v4: Vec<&'a str>,
    #[serde(rename = "ipv6Nets")]
    v6: Vec<&'a str>,
    status: &'static str,
}

/// Writes and removes the files.
#[derive(Debug, Default)]
pub(crate) struct StatusFiles {
    dir: Option<PathBuf>,
    /// What was written, as a number that another content does not have.
    written: BTreeMap<String, u64>,
    swept: bool,
}

impl StatusFiles {
    /// Files below this prefix; none when absent.
    pub(crate) fn set_prefix(&mut self, prefix: Option<&str>) {
        let dir = prefix.map(|p| Path::new(p).join(FOLDER));
        if dir != self.dir {
            *self = Self {
                dir,
                ..Self::default()
            };
        }
    }

    /// The name of an endpoint's file: no `/` can be in it.
    fn name(id: &WorkloadId) -> String {
        format!("{} {}", id.namespace, id.name).replace('/', "%2F")
    }

    /// Makes the file of an endpoint right.
    pub(crate) fn set(&mut self, id: &WorkloadId, status: &EndpointStatus) {
        let name = Self::name(id);
        if status.state != State::Up {
            return self.remove_named(&name);
        }
        let Some(dir) = &self.dir else { return };
        let of = |family| -> Vec<&str> {
            let is = |a: &&String| a.contains(':') == (family == Family::V6);
            status.addresses.iter().filter(is).map(String::as_str).collect()
        };
        let content = Content {
            namespace: &id.namespace,
            name: &id.name,
            interface: &status.interface,
            container: &status.container_id,
            v4: of(Family::V4),
            v6: of(Family::V6),
            status: "up",
        };
        let Ok(mut text) = serde_json::to_vec(&content) else {
            return;
        };
        text.push(b'\n');
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let number = hasher.finish();
        if self.written.get(&name) == Some(&number) {
            return;
        }
        match caracal_sys::replace(&dir.join(&name), &text, 0o644) {
            Ok(()) => {
                self.written.insert(name, number);
            }
            Err(e) => tracing::warn!(file = name, "the endpoint's status file cannot be written: {e}"),
        }
    }

    /// Removes the file of an endpoint that is gone.
    pub(crate) fn remove(&mut self, id: &WorkloadId) {
        self.remove_named(&Self::name(id));
    }

    fn remove_named(&mut self, name: &str) {
        let Some(dir) = &self.dir else { return };
        if self.written.remove(name).is_some()
            && let Err(e) = caracal_sys::remove_optional(&dir.join(name))
        {
            tracing::warn!(file = name, "the endpoint's status file cannot be removed: {e}");
        }
    }

    /// Addresses in the files of an agent before this one whose holder is not `holds` any more: its endpoint is gone, or
    /// has another container.
    pub(crate) fn departed(&self, holds: impl Fn(&WorkloadId, &str) -> bool) -> BTreeSet<IpAddr> {
        let entries = self.dir.iter().filter_map(|dir| std::fs::read_dir(dir).ok());
        let mut departed = BTreeSet::new();
        for entry in entries.flatten().flatten() {
            // What cannot be read says nothing.
            let Some(left) = std::fs::read(entry.path())
                .ok()
                .and_then(|text| serde_json::from_slice::<Left>(&text).ok())
            else {
                continue;
            };
            if !holds(&WorkloadId::new(&left.namespace, &left.name), &left.container) {
                let nets = left.v4.iter().chain(&left.v6);
                departed.extend(nets.filter_map(|n| n.split('/').next()?.parse::<IpAddr>().ok()));
            }
        }
        departed
    }

    /// Once, after the first complete apply: removes what an agent before this one left of endpoints that are gone.
    pub(crate) fn sweep(&mut self) {
        if std::mem::replace(&mut self.swept, true) {
            return;
        }
        let Some(dir) = &self.dir else { return };
        let Ok(entries) = std::fs::read_dir(dir) else {
            return;
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if !self.written.contains_key(&name)
                && let Err(e) = caracal_sys::remove_optional(&entry.path())
            {
                tracing::warn!(file = name, "an old status file cannot be removed: {e}");
            }
        }
    }

    /// Removes the whole folder.
    pub(crate) fn remove_all(prefix: &str) -> std::io::Result<()> {
        match std::fs::remove_dir_all(Path::new(prefix).join(FOLDER)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(state: State) -> EndpointStatus {
        EndpointStatus {
            interface: "cali1".into(),
            container_id: "c".into(),
            addresses: vec!["10.0.0.1/32".into()],
            state,
        }
    }

    #[test]
    fn only_endpoints_that_are_up_have_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(FOLDER);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("left over"), "x").unwrap();
        let mut files = StatusFiles::default();
        files.set_prefix(dir.path().to_str());
        let (a, b) = (WorkloadId::new("ns", "a"), WorkloadId::new("ns", "b"));
        files.set(&a, &status(State::Up));
        files.set(&b, &status(State::Down("no link".into())));
        files.sweep();
        let names = || -> Vec<String> {
            std::fs::read_dir(&folder)
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect()
        };
        assert_eq!(names(), ["ns a"]);
        let file = folder.join("ns a");
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            "{\"namespace\":\"ns\",\"name\":\"a\",\"ifaceName\":\"cali1\",\"containerID\":\"c\",\
             \"ipv4Nets\":[\"10.0.0.1/32\"],\"ipv6Nets\":[],\"status\":\"up\"}\n"
        );
        let number = || std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(&file).unwrap());
        let before = number();
        files.set(&a, &status(State::Up));
        assert_eq!(number(), before, "what is there already is not written");
        let moved = EndpointStatus {
            container_id: "d".into(),
            ..status(State::Up)
        };
        files.set(&a, &moved);
        assert_ne!(number(), before);
        files.set(&a, &status(State::Up));
        let mut later = StatusFiles::default();
        later.set_prefix(dir.path().to_str());
        assert!(
            later
                .departed(|id, container| *id == a && container == "c")
                .is_empty()
        );
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(
            later.departed(|_, container| container == "other"),
            [address].into()
        );
        files.set(&a, &status(State::Error("refused".into())));
        assert!(names().is_empty());
    }
}
