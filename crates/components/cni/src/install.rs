//! `caracal cni install`: puts the plugins and the network configuration where container runtimes look for them.
//!
//! **Invariant:** a runtime never sees half a file, nor a configuration whose plugins or credentials are not there yet:
//! every file is made beside its place and renamed, the configuration last.

pub(crate) mod template;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

use template::{Kubernetes, Values};

/// The plugins' names.
const PLUGINS: [&str; 2] = ["calico", "calico-ipam"];
const CONF_NAME: &str = "10-calico.conflist";
const KUBECONFIG: &str = "calico-kubeconfig";
/// Where a container sees the host's folders.
const HOST_BIN: &str = "/host/opt/cni/bin";
const HOST_NET: &str = "/host/etc/cni/net.d";
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

const HELP: &str = "\
Installs the CNI plugins calico and calico-ipam and their network configuration.

Usage: caracal cni install [--bin-dir DIR] [--net-dir DIR] [--print]

  --bin-dir DIR   where the plugins go (CNI_BIN_DIR; /host/opt/cni/bin if it is there, else /opt/cni/bin)
  --net-dir DIR   where the configuration goes (/host/etc/cni/net.d if it is there, else CNI_NET_DIR, else /etc/cni/net.d)
  --print         only prints the network configuration

The environment says the rest, under Calico's names: CNI_CONF_NAME, CNI_OLD_CONF_NAME, CNI_NETWORK_CONFIG,
CNI_NETWORK_CONFIG_FILE, SKIP_CNI_BINARIES, UPDATE_CNI_BINARIES, TLS_ASSETS_DIR, DATASTORE_TYPE, ETCD_ENDPOINTS, CNI_MTU,
LOG_LEVEL, KUBERNETES_SERVICE_HOST and others: docs/cni.md lists them.
";

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    System(#[from] caracal_sys::SysError),
    #[error("{0}")]
    Template(#[from] template::TemplateError),
    #[error("{path}: {why}")]
    Missing { path: String, why: &'static str },
    #[error("cannot find this program's own file: {0}")]
    Program(std::io::Error),
}

/// What to install and where.
#[derive(Debug)]
pub(crate) struct Plan {
    program: PathBuf,
    bin_dir: PathBuf,
    net_dir: PathBuf,
    print: bool,
    env: BTreeMap<String, String>,
}

/// The command. The result is the exit code.
pub(crate) fn run(args: &[OsString], env: BTreeMap<String, String>) -> i32 {
    if args.iter().any(|a| a == "-h" || a == "--help") {
        print!("{HELP}");
        return 0;
    }
    let done = std::env::current_exe()
        .map_err(InstallError::Program)
        .and_then(|program| Plan::read(args, env, program, &|p| p.is_dir()))
        .and_then(|plan| plan.execute());
    match done {
        Ok(said) => {
            print!("{said}");
            0
        }
        Err(e @ InstallError::Usage(_)) => {
            eprintln!("caracal cni install: {e}\n\n{HELP}");
            64
        }
        Err(e) => {
            eprintln!("caracal cni install: {e}");
            1
        }
    }
}

impl Plan {
    pub(crate) fn read(
        args: &[OsString],
        env: BTreeMap<String, String>,
        program: PathBuf,
        is_dir: &dyn Fn(&Path) -> bool,
    ) -> Result<Self, InstallError> {
        let said = |name: &str| env.get(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let host = |path: &str| Some(PathBuf::from(path)).filter(|p| is_dir(p));
        let mut bin_dir = said("CNI_BIN_DIR").or_else(|| host(HOST_BIN));
        let mut net_dir = host(HOST_NET).or_else(|| said("CNI_NET_DIR"));
        let mut print = false;
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let mut value = || {
                let missing = || InstallError::Usage(format!("{} needs a folder", arg.display()));
                rest.next().map(PathBuf::from).ok_or_else(missing)
            };
            match arg.to_str() {
                Some("--bin-dir") => bin_dir = Some(value()?),
                Some("--net-dir") => net_dir = Some(value()?),
                Some("--print") => print = true,
                _ => {
                    return Err(InstallError::Usage(format!(
                        "there is no option {}",
                        arg.display()
                    )));
                }
            }
        }
        Ok(Self {
            program,
            bin_dir: bin_dir.unwrap_or_else(|| "/opt/cni/bin".into()),
            net_dir: net_dir.unwrap_or_else(|| "/etc/cni/net.d".into()),
            print,
            env,
        })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// Does it; what to tell the user.
    pub(crate) fn execute(&self) -> Result<String, InstallError> {
        let kubernetes = Kubernetes::of(&self.env, |path| {
            let text = caracal_sys::read_optional(Path::new(path))?;
            Ok(text.map(|t| String::from_utf8_lossy(&t).trim().to_owned()))
        })?;
        let tls = self.tls_files()?;
        let values = Values::new(&self.env, &self.seen_net_dir(), kubernetes.as_ref(), &tls);
        let portmap = self.bin_dir.join("portmap").is_file();
        let text = template::network_config(&self.env, &values, portmap, |path| {
            let text = caracal_sys::read_optional(Path::new(path))?;
            let text = text.ok_or_else(|| InstallError::Missing {
                path: path.to_owned(),
                why: "CNI_NETWORK_CONFIG_FILE names it, and it does not exist",
            })?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        })?;
        if self.print {
            return Ok(text);
        }
        let mut said = self.copy_plugins()?;
        for (from, to) in tls {
            if let Some(content) = caracal_sys::read_optional(&from)? {
                caracal_sys::write_atomic(&self.net_dir.join("calico-tls").join(to), &content, 0o600)?;
            }
        }
        if let Some(kubernetes) = &kubernetes {
            let path = self.net_dir.join(KUBECONFIG);
            caracal_sys::write_atomic(&path, kubernetes.kubeconfig().as_bytes(), 0o600)?;
            said.push(path);
        }
        let conf = self
            .net_dir
            .join(self.conf_name("CNI_CONF_NAME")?.unwrap_or(CONF_NAME));
        caracal_sys::write_atomic(&conf, text.as_bytes(), 0o600)?;
        if let Some(old) = self.conf_name("CNI_OLD_CONF_NAME")? {
            let old = self.net_dir.join(old);
            if old != conf {
                caracal_sys::remove_optional(&old)?;
            }
        }
        said.push(conf);
        Ok(said.iter().map(|p| format!("wrote {}\n", p.display())).collect())
    }

    /// The folder of the configuration as the host sees it, for paths inside the configuration.
    fn seen_net_dir(&self) -> String {
        if self.net_dir == Path::new(HOST_NET) {
            return self.get("CNI_NET_DIR").unwrap_or("/etc/cni/net.d").to_owned();
        }
        self.net_dir.display().to_string()
    }

    fn conf_name(&self, variable: &str) -> Result<Option<&str>, InstallError> {
        match self.get(variable) {
            Some(name) if name.contains('/') || name == ".." => Err(InstallError::Usage(format!(
                "{variable}: {name:?} is a path, and a file's name is expected"
            ))),
            name => Ok(name),
        }
    }

    /// Keys and certificates for etcd that are there: where, and under which name they are kept.
    fn tls_files(&self) -> Result<Vec<(PathBuf, &'static str)>, InstallError> {
        let dir = PathBuf::from(self.get("TLS_ASSETS_DIR").unwrap_or("/calico-secrets"));
        let all = ["etcd-key", "etcd-cert", "etcd-ca"].map(|name| (dir.join(name), name));
        Ok(all.into_iter().filter(|(path, _)| path.is_file()).collect())
    }

    fn copy_plugins(&self) -> Result<Vec<PathBuf>, InstallError> {
        let list = self.get("SKIP_CNI_BINARIES").unwrap_or_default();
        let skip: Vec<&str> = list.split(',').map(str::trim).collect();
        let update = self
            .get("UPDATE_CNI_BINARIES")
            .is_none_or(|v| v.eq_ignore_ascii_case("true"));
        let mut done = Vec::new();
        let mut content = None;
        for name in PLUGINS.into_iter().filter(|name| !skip.contains(name)) {
            let path = self.bin_dir.join(name);
            if !update && path.exists() {
                continue;
            }
            if content.is_none() {
                content = caracal_sys::read_optional(&self.program)?;
            }
            let Some(program) = &content else {
                return Err(InstallError::Missing {
                    path: self.program.display().to_string(),
                    why: "this program's file has been removed since it was started",
                });
            };
            caracal_sys::write_atomic(&path, program, 0o755)?;
            done.push(path);
        }
        Ok(done)
    }
}
