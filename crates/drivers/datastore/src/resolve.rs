use std::collections::BTreeMap;

use caracal_store_etcd::{BadEndpoint, EtcdSettings, EtcdStore, Login, Material, Source};

use crate::ApiConfig;

/// Where the embedded store's socket is when nothing else is said.
pub const DEFAULT_SOCKET: &str = "/run/calico/store.sock";

/// Which datastore, and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "a process has one")]
pub enum Settings {
    /// etcd.
    Etcd(EtcdSettings),
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
    /// One of two settings that belong together.
    #[error("{given} is set, but {missing} is not: set both or none")]
    Half {
        /// The setting that is there.
        given: &'static str,
        /// The one that is missing.
        missing: String,
    },
    /// An endpoint that cannot be used.
    #[error(transparent)]
    Endpoint(#[from] BadEndpoint),
    /// The configuration file.
    #[error("configuration file {path}: {why}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
}

/// Each part of the TLS settings: by file, and as the text itself, which wins as it does in Calico.
const CA: [&str; 2] = ["ETCD_CA_CERT", "ETCD_CA_CERT_FILE"];
const CERT: [&str; 2] = ["ETCD_CERT", "ETCD_CERT_FILE"];
const KEY: [&str; 2] = ["ETCD_KEY", "ETCD_KEY_FILE"];

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
        if endpoints.trim().is_empty() && self.get("ETCD_DISCOVERY_SRV").is_some() {
            return Err(DatastoreError::NotSupported {
                name: "ETCD_DISCOVERY_SRV",
                what: "discovery of etcd by DNS (name the members in ETCD_ENDPOINTS)",
            });
        }
        let endpoints = endpoints.split(',').map(str::trim).filter(|e| !e.is_empty());
        let settings = EtcdSettings {
            tls: self.tls()?,
            login: self.login()?,
            ..EtcdSettings::new(endpoints)
        };
        // Says now what is wrong with them, where the user can still be told which setting it was.
        EtcdStore::new(&settings)?;
        Ok(Settings::Etcd(settings))
    }

    fn tls(&self) -> Result<Material, DatastoreError> {
        let identity = match (self.source(CERT), self.source(KEY)) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(cert), None) => return Err(half(cert.setting, KEY)),
            (None, Some(key)) => return Err(half(key.setting, CERT)),
        };
        Ok(Material {
            authorities: self.source(CA),
            identity,
        })
    }

    fn login(&self) -> Result<Option<Login>, DatastoreError> {
        match (self.get("ETCD_USERNAME"), self.get("ETCD_PASSWORD")) {
            (None, None) => Ok(None),
            (Some(user), Some(password)) => Ok(Some(Login {
                user: user.to_owned(),
                password: password.to_owned(),
            })),
            (Some(_), None) => Err(half("ETCD_USERNAME", ["ETCD_PASSWORD"; 2])),
            (None, Some(_)) => Err(half("ETCD_PASSWORD", ["ETCD_USERNAME"; 2])),
        }
    }

    fn source(&self, [text, file]: [&'static str; 2]) -> Option<Source> {
        let inline = self.get(text).map(|pem| Source::text(text, pem));
        inline.or_else(|| self.get(file).map(|path| Source::file(file, path)))
    }

    fn kubernetes(&self, why: String) -> Result<Settings, DatastoreError> {
        Err(DatastoreError::Kubernetes { why })
    }
}

fn half(given: &'static str, [other, or]: [&'static str; 2]) -> DatastoreError {
    let missing = if other == or {
        other.to_owned()
    } else {
        format!("{or} (or {other})")
    };
    DatastoreError::Half { given, missing }
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
        Ok(Settings::Etcd(EtcdSettings::new(endpoints.iter().copied())))
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
    fn every_setting_is_taken_from_file_and_environment_with_and_without_prefix() {
        for (field, name) in crate::config::NAMES {
            let text = format!(
                "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec:\n  {field}: of-file\n"
            );
            let file = ApiConfig::parse(&text).unwrap();
            let env = |name: String| BTreeMap::from([(name, "of-env".to_owned())]);
            let of = |env: &BTreeMap<String, String>| {
                let look = Lookup {
                    env,
                    file: Some(&file),
                };
                look.get(name).map(str::to_owned)
            };
            assert_eq!(of(&BTreeMap::new()).as_deref(), Some("of-file"), "{field}");
            for variable in [(*name).to_owned(), format!("CALICO_{name}")] {
                assert_eq!(
                    of(&env(variable.clone())).as_deref(),
                    Some("of-env"),
                    "{variable}"
                );
            }
        }
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
    fn credentials_come_from_file_and_environment() {
        let env = [("ETCD_ENDPOINTS", "http://a:1"), ("CALICO_ETCD_PASSWORD", "p")];
        let file =
            "  etcdUsername: u\n  etcdCACertFile: /ca\n  etcdKey: K\n  etcdKeyFile: /k\n  etcdCert: C\n";
        let Ok(Settings::Etcd(settings)) = of(&env, file, true) else {
            panic!("the settings are good");
        };
        let login = settings.login.unwrap();
        assert_eq!((login.user.as_str(), login.password.as_str()), ("u", "p"));
        assert_eq!(
            settings.tls.authorities,
            Some(Source::file("ETCD_CA_CERT_FILE", "/ca"))
        );
        let (cert, key) = (Source::text("ETCD_CERT", "C"), Source::text("ETCD_KEY", "K"));
        assert_eq!(settings.tls.identity, Some((cert, key)));
    }

    #[test]
    fn what_cannot_be_obeyed_is_an_error_not_ignored() {
        let e = ("ETCD_ENDPOINTS", "http://a:1");
        let user = of(&[e, ("ETCD_USERNAME", "u")], "", true).unwrap_err();
        assert!(user.to_string().contains("ETCD_PASSWORD is not"), "{user}");
        let key = of(&[e, ("ETCD_KEY_FILE", "/k")], "", true).unwrap_err();
        assert!(key.to_string().contains("ETCD_CERT_FILE (or ETCD_CERT)"), "{key}");
        let s = ("ETCD_ENDPOINTS", "https://a:1");
        let tls = of(&[s], "", true).unwrap_err();
        assert!(tls.to_string().contains("ETCD_CA_CERT_FILE"), "{tls}");
        let gone = of(&[s, ("ETCD_CA_CERT_FILE", "/nonexistent/ca")], "", true).unwrap_err();
        assert!(gone.to_string().contains("/nonexistent/ca"), "{gone}");
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
