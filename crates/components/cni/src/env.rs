use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use crate::{
    error::CniError,
    netconf::{is_identifier, parse_ip},
};

/// The longest container id that fits wherever we write it (a link's alias is the shortest place).
const MAX_CONTAINER_ID: usize = 190;

/// What a runtime passes in the environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Env {
    pub(crate) command: String,
    pub(crate) container_id: String,
    pub(crate) netns: String,
    pub(crate) ifname: String,
    /// Where other plugins are.
    pub(crate) path: Vec<PathBuf>,
    /// All of `CNI_ARGS`; names that we do not know are kept and left alone, whatever `IgnoreUnknown` says.
    pub(crate) args: BTreeMap<String, String>,
    /// Everything, for the choice of the datastore.
    pub(crate) all: BTreeMap<String, String>,
}

/// Which variables a verb needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// ADD and CHECK: container, interface and namespace.
    Namespace,
    /// DEL: container and interface; the namespace may be gone.
    Container,
    /// VERSION, STATUS and GC.
    Nothing,
}

impl Env {
    pub(crate) fn read(all: BTreeMap<String, String>) -> Result<Self, CniError> {
        let get = |name: &str| all.get(name).cloned().unwrap_or_default();
        let path = std::env::split_paths(&get("CNI_PATH")).collect();
        Ok(Self {
            command: get("CNI_COMMAND"),
            container_id: get("CNI_CONTAINERID"),
            netns: get("CNI_NETNS"),
            ifname: get("CNI_IFNAME"),
            path,
            args: parse_args(&get("CNI_ARGS"))?,
            all,
        })
    }

    /// Checks what the verb needs.
    pub(crate) fn check(&self, needs: Needs) -> Result<(), CniError> {
        if needs == Needs::Nothing {
            return Ok(());
        }
        let missing =
            |name: &str| CniError::env(name, format!("it is missing, and {} needs it", self.command));
        if self.container_id.is_empty() {
            return Err(missing("CNI_CONTAINERID"));
        }
        if !is_identifier(&self.container_id) || self.container_id.len() > MAX_CONTAINER_ID {
            let why = format!(
                "{:?} is not allowed: a letter or digit, then letters, digits, '_', '.' and '-', at most \
                 {MAX_CONTAINER_ID} in all",
                self.container_id.chars().take(80).collect::<String>()
            );
            return Err(CniError::env("CNI_CONTAINERID", why));
        }
        if self.ifname.is_empty() {
            return Err(missing("CNI_IFNAME"));
        }
        caracal_link::check_name(&self.ifname).map_err(|e| CniError::env("CNI_IFNAME", e))?;
        if needs == Needs::Namespace && self.netns.is_empty() {
            return Err(missing("CNI_NETNS"));
        }
        Ok(())
    }

    /// An argument of `CNI_ARGS` that is not empty.
    pub(crate) fn arg(&self, name: &str) -> Option<&str> {
        self.args.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// The addresses asked for by `IP=`.
    pub(crate) fn requested_ips(&self) -> Result<Vec<IpAddr>, CniError> {
        let list = self.arg("IP").unwrap_or_default().split(',');
        list.filter(|t| !t.trim().is_empty())
            .map(|t| {
                parse_ip(t).ok_or_else(|| CniError::env("CNI_ARGS", format!("IP={t}: not an IP address")))
            })
            .collect()
    }
}

fn parse_args(text: &str) -> Result<BTreeMap<String, String>, CniError> {
    let mut args = BTreeMap::new();
    for pair in text.split(';').map(str::trim).filter(|p| !p.is_empty()) {
        let Some((key, value)) = pair.split_once('=').filter(|(key, _)| !key.trim().is_empty()) else {
            let shown: String = pair.chars().take(80).collect();
            return Err(CniError::env(
                "CNI_ARGS",
                format!("{shown:?} is not of the form KEY=VALUE;KEY=VALUE"),
            ));
        };
        args.insert(key.trim().to_owned(), value.trim().to_owned());
    }
    Ok(args)
}
