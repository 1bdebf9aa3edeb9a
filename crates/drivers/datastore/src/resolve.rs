use std::collections::BTreeMap;

use crate::ApiConfig;

/// Where the embedded store's socket is when nothing else is said.
pub const DEFAULT_SOCKET: &str = "/run/calico/store.sock";

/// Which datastore, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settings {
    /// etcd at these endpoints.
    Etcd {
        /// `http://host:port` or `unix:///path`.
        endpoints: Vec<String>,
    },
    /// The embedded server on this machine.
    Embedded {
        /// Its unix socket.
        socket: String,
    },
}

/// Why there is no datastore to use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatastoreError {
    /// Nothing says which.
    #[error(
        "no datastore is configured: set DATASTORE_TYPE (etcdv3 or kubernetes), or ETCD_ENDPOINTS, or KUBECONFIG, \
         or start the embedded store (`caracal store serve`), whose socket {socket} does not exist"
    )]
    None {
        /// Where the embedded store's socket was looked for.
        socket: String,
    },
    /// A type that there is not.
    #[error("DATASTORE_TYPE is {0:?}: it must be etcdv3 or kubernetes")]
    UnknownType(String),
    /// etcd without endpoints, and no embedded store either.
    #[error(
        "DATASTORE_TYPE is etcdv3, but ETCD_ENDPOINTS is not set and the embedded store's socket {socket} does not exist"
    )]
    NoEndpoints {
        /// Where the embedded store's socket was looked for.
        socket: String,
    },
    /// The Kubernetes datastore.
    #[error(
        "{why} asks for the Kubernetes datastore, which is not supported yet: set DATASTORE_TYPE=etcdv3 with \
         ETCD_ENDPOINTS, or use the embedded store"
    )]
    Kubernetes {
        /// The setting that asks for it.
        why: String,
    },
    /// A setting that we cannot obey.
    #[error("{name} is set, but {what} is not supported yet: remove it")]
    NotSupported {
        /// The setting.
        name: &'static str,
        /// What it asks for.
        what: &'static str,
    },
    /// An endpoint that cannot be used.
    #[error(transparent)]
    Endpoint(#[from] caracal_store_etcd::BadEndpoint),
    /// The configuration file.
    #[error("configuration file {path}: {why}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
}

/// Settings of a secured etcd.
const SECURITY: &[(&str, &str)] = &[
    ("ETCD_DISCOVERY_SRV", "discovery of etcd by DNS"),
    ("ETCD_USERNAME", "login to etcd with user and password"),
    ("ETCD_PASSWORD", "login to etcd with user and password"),
    ("ETCD_KEY_FILE", "TLS to etcd"),
    ("ETCD_CERT_FILE", "TLS to etcd"),
    ("ETCD_CA_CERT_FILE", "TLS to etcd"),
    ("ETCD_KEY", "TLS to etcd"),
    ("ETCD_CERT", "TLS to etcd"),
    ("ETCD_CA_CERT", "TLS to etcd"),
];

struct Lookup<'a> {
    env: &'a BTreeMap<String, String>,
    file: Option<&'a ApiConfig>,
}

impl Lookup<'_> {
    /// A setting that is not empty: of the environment with and without Calico's prefix, else of the file.
    fn get(&self, name: &str) -> Option<&str> {
        let prefixed = format!("CALICO_{name}");
        let from_env = [prefixed.as_str(), name]
            .into_iter()
            .filter_map(|n| self.env.get(n));
        let from_file = self.file.and_then(|f| f.settings.get(name));
        from_env
            .chain(from_file)
            .map(|v| v.trim())
            .find(|v| !v.is_empty())
    }

    fn socket(&self) -> String {
        // The table of parameters knows it as `StoreSocket`, in any case.
        let own = self.env.iter().find(|(name, value)| {
            let plain: String = name.chars().filter(|c| *c != '_').collect();
            plain.eq_ignore_ascii_case("CARACALSTORESOCKET") && !value.trim().is_empty()
        });
        own.map_or(DEFAULT_SOCKET, |(_, value)| value.trim()).to_owned()
    }

    fn etcd(&self, endpoints: &str) -> Result<Settings, DatastoreError> {
        for (name, what) in SECURITY {
            if self.get(name).is_some() {
                return Err(DatastoreError::NotSupported { name, what });
            }
        }
        let endpoints: Vec<_> = endpoints
            .split(',')
            .map(str::trim)
            .filter(|e| !e.is_empty())
            .map(str::to_owned)
            .collect();
        // Says now what is wrong with them, where the user can still be told which setting it was.
        caracal_store_etcd::EtcdStore::new(&caracal_store_etcd::EtcdSettings::new(&endpoints))?;
        Ok(Settings::Etcd { endpoints })
    }

    fn kubernetes(&self, why: String) -> Result<Settings, DatastoreError> {
        Err(DatastoreError::Kubernetes { why })
    }
}

/// Decides which datastore is used. `exists` says whether a path is there.
///
/// # Errors
/// [`DatastoreError`] saying what to set.
pub fn resolve(
    env: &BTreeMap<String, String>,
    file: Option<&ApiConfig>,
    exists: impl Fn(&str) -> bool,
) -> Result<Settings, DatastoreError> {
    let look = Lookup { env, file };
    let endpoints = look.get("ETCD_ENDPOINTS");
    let socket = look.socket();
    match look.get("DATASTORE_TYPE") {
        Some("etcdv3") => match endpoints {
            Some(endpoints) => look.etcd(endpoints),
            None if look.get("ETCD_DISCOVERY_SRV").is_some() => look.etcd(""),
            None if exists(&socket) => Ok(Settings::Embedded { socket }),
            None => Err(DatastoreError::NoEndpoints { socket }),
        },
        Some("kubernetes") => look.kubernetes("DATASTORE_TYPE=kubernetes".to_owned()),
        Some(other) => Err(DatastoreError::UnknownType(other.to_owned())),
        None => match endpoints {
            Some(endpoints) => look.etcd(endpoints),
            None => {
                let kube = ["KUBECONFIG", "KUBECONFIG_INLINE", "K8S_API_ENDPOINT"];
                if let Some(name) = kube.into_iter().find(|n| look.get(n).is_some()) {
                    return look.kubernetes(name.to_owned());
                }
                if exists(&socket) {
                    return Ok(Settings::Embedded { socket });
                }
                Err(DatastoreError::None { socket })
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(env: &[(&str, &str)], file: &str, socket: bool) -> Result<Settings, DatastoreError> {
        let env = env
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let text = format!("apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec:\n{file}");
        let file = ApiConfig::parse(&text).unwrap();
        resolve(&env, Some(&file), |_| socket)
    }

    fn etcd(endpoints: &[&str]) -> Result<Settings, DatastoreError> {
        Ok(Settings::Etcd {
            endpoints: endpoints.iter().map(|e| (*e).to_owned()).collect(),
        })
    }

    fn embedded(socket: &str) -> Result<Settings, DatastoreError> {
        Ok(Settings::Embedded {
            socket: socket.to_owned(),
        })
    }

    #[test]
    fn the_order_is_type_endpoints_kubeconfig_socket() {
        let e = ("ETCD_ENDPOINTS", "http://a:1");
        let k = ("KUBECONFIG", "/k");
        let kubernetes = |r| matches!(r, Err(DatastoreError::Kubernetes { .. }));
        assert!(kubernetes(of(&[("DATASTORE_TYPE", "kubernetes"), e], "", true)));
        assert_eq!(of(&[e, k], "", true), etcd(&["http://a:1"]));
        assert!(kubernetes(of(&[k], "", true)));
        assert_eq!(of(&[], "", true), embedded(DEFAULT_SOCKET));
        let none = of(&[], "", false).unwrap_err().to_string();
        for name in ["DATASTORE_TYPE", "ETCD_ENDPOINTS", "KUBECONFIG", "store.sock"] {
            assert!(none.contains(name), "{none}");
        }
    }

    #[test]
    fn the_environment_beats_the_file_and_the_prefix_is_taken() {
        let file = "  etcdEndpoints: http://f:1\n";
        assert_eq!(of(&[], file, true), etcd(&["http://f:1"]));
        assert_eq!(
            of(&[("ETCD_ENDPOINTS", "http://a:1, http://b:2,")], file, true),
            etcd(&["http://a:1", "http://b:2"])
        );
        assert_eq!(
            of(&[("CALICO_ETCD_ENDPOINTS", "http://p:1")], file, true),
            etcd(&["http://p:1"])
        );
        assert_eq!(of(&[("ETCD_ENDPOINTS", " ")], file, true), etcd(&["http://f:1"]));
    }

    #[test]
    fn etcd_without_endpoints_is_the_embedded_store_or_an_error() {
        let t = ("DATASTORE_TYPE", "etcdv3");
        assert_eq!(of(&[t], "", true), embedded(DEFAULT_SOCKET));
        assert!(matches!(
            of(&[t], "", false),
            Err(DatastoreError::NoEndpoints { .. })
        ));
        for name in ["CARACAL_STORE_SOCKET", "CARACAL_StoreSocket"] {
            assert_eq!(of(&[t, (name, "/s")], "", true), embedded("/s"));
        }
    }

    #[test]
    fn what_cannot_be_obeyed_is_an_error_not_ignored() {
        let e = ("ETCD_ENDPOINTS", "http://a:1");
        let user = of(&[e, ("ETCD_USERNAME", "u")], "", true).unwrap_err();
        assert!(user.to_string().contains("ETCD_USERNAME"), "{user}");
        let tls = of(&[("ETCD_ENDPOINTS", "https://a:1")], "", true).unwrap_err();
        assert!(tls.to_string().contains("TLS"), "{tls}");
        let form = of(&[("ETCD_ENDPOINTS", "a:1")], "", true).unwrap_err();
        assert!(form.to_string().contains("http://HOST:PORT"), "{form}");
        assert!(of(&[("ETCD_ENDPOINTS", ",")], "", true).is_err());
        let other = of(&[("DATASTORE_TYPE", "consul")], "", true);
        assert_eq!(other, Err(DatastoreError::UnknownType("consul".into())));
        let srv = of(
            &[("DATASTORE_TYPE", "etcdv3"), ("ETCD_DISCOVERY_SRV", "x")],
            "",
            true,
        );
        assert!(matches!(srv, Err(DatastoreError::NotSupported { .. })));
    }
}
