use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    date_time_ymd,
};

/// A certificate authority of the test's own.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub chain: String,
    /// The private key.
    pub key: String,
}

impl Authority {
    /// An authority of this name.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to be wrong");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = named(name);
        let key = KeyPair::generate().expect("a key can be made");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority signs itself"))
    }

    /// Its certificate, as PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these host names and addresses; the first is the common name.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.sign(names, |_| {})
    }

    /// A certificate whose time is over.
    pub fn issue_expired(&self, names: &[&str]) -> Issued {
        self.sign(names, |params| {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        })
    }

    fn sign(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).expect("the test names hosts");
        params.distinguished_name = named(names.first().map_or("nobody", String::as_str));
        change(&mut params);
        let key = KeyPair::generate().expect("a key can be made");
        let chain = params
            .signed_by(&key, &self.0)
            .expect("the authority signs")
            .pem();
        Issued {
            chain,
            key: key.serialize_pem(),
        }
    }
}

fn named(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

impl Issued {
    /// Writes `NAME.crt` and `NAME.key` and gives their paths. What was there is replaced whole, as a renewal does.
    pub fn write(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let put = |ending: &str, text: &str| {
            let path = dir.join(format!("{name}.{ending}"));
            let fresh = path.with_extension("new");
            std::fs::write(&fresh, text).expect("the test's directory can be written");
            std::fs::rename(&fresh, &path).expect("a file of the test can be renamed");
            path
        };
        (put("crt", &self.chain), put("key", &self.key))
    }
}
