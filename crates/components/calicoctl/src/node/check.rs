//! `node checksystem`.

use std::{fs, io::Read, path::Path};

use flate2::read::GzDecoder;

use crate::{failure::Failure, session::Session};

/// The oldest kernel whose nf_tables has all that is used.
const OLDEST: (u32, u32) = (5, 13);

/// What is needed: the module and the option that builds it.
const NEEDED: &[(&str, &str)] = &[
    ("nf_tables", "CONFIG_NF_TABLES"),
    ("nf_conntrack", "CONFIG_NF_CONNTRACK"),
    ("nf_nat", "CONFIG_NF_NAT"),
    ("nft_ct", "CONFIG_NFT_CT"),
    ("nft_fib", "CONFIG_NFT_FIB"),
    ("nft_log", "CONFIG_NFT_LOG"),
    ("nft_masq", "CONFIG_NFT_MASQ"),
    ("nft_nat", "CONFIG_NFT_NAT"),
    ("nft_reject", "CONFIG_NFT_REJECT"),
    ("veth", "CONFIG_VETH"),
    ("vxlan", "CONFIG_VXLAN"),
];

/// Says what this kernel has; fails if it lacks something.
pub(super) fn check(session: &mut Session, config: Option<&Path>) -> Result<(), Failure> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let known = Known::read(config, release)?;
    let mut missing = Vec::new();
    session.print("Checking kernel version...\n")?;
    let new_enough = version(release).is_some_and(|v| v >= OLDEST);
    if !new_enough {
        missing.push(format!(
            "a kernel from {}.{} on (this is {release})",
            OLDEST.0, OLDEST.1
        ));
    }
    session.print(&line(release, new_enough))?;
    session.print("Checking kernel modules...\n")?;
    for (module, option) in NEEDED {
        let there = known.has(module, option);
        if !there {
            missing.push(format!("{module} ({option})"));
        }
        session.print(&line(module, there))?;
    }
    if missing.is_empty() {
        return session.print("System meets minimum system requirements to run Calico!\n");
    }
    Err(Failure::Input(format!(
        "System doesn't meet one or more minimum system requirements to run Calico: {}",
        missing.join(", ")
    )))
}

fn line(what: &str, there: bool) -> String {
    format!("\t\t{what:<20}\t\t{}\n", if there { "OK" } else { "FAIL" })
}

/// The first two numbers of `6.18.44-something`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// What a kernel says of itself.
struct Known {
    config: String,
    modules: String,
}

impl Known {
    /// Reads the configuration that was named, else all that there is to read.
    fn read(config: Option<&Path>, release: &str) -> Result<Self, Failure> {
        if let Some(path) = config {
            let refuse = |e| Failure::Input(format!("cannot read {}: {e}", path.display()));
            return Ok(Self {
                config: text(path).map_err(refuse)?,
                modules: String::new(),
            });
        }
        let modules = [
            "/proc/modules".to_owned(),
            format!("/lib/modules/{release}/modules.builtin"),
            format!("/lib/modules/{release}/modules.dep"),
        ];
        let modules = modules.iter().filter_map(|p| text(Path::new(p)).ok());
        let configs = ["/proc/config.gz".to_owned(), format!("/boot/config-{release}")];
        let known = Self {
            config: configs
                .iter()
                .find_map(|p| text(Path::new(p)).ok())
                .unwrap_or_default(),
            modules: modules.collect::<Vec<_>>().join("\n"),
        };
        if known.config.is_empty() && known.modules.is_empty() {
            return Err(Failure::Input(format!(
                "nothing here says what this kernel has (not {}, /proc/modules or /lib/modules/{release}): give its \
                 configuration with --kernel-config",
                configs.join(", ")
            )));
        }
        Ok(known)
    }

    fn has(&self, module: &str, option: &str) -> bool {
        let on = |l: &str| {
            l.strip_prefix(option)
                .is_some_and(|rest| rest == "=y" || rest == "=m")
        };
        // A line of a list of modules begins with the module's name, or with the path of its file.
        let named = |l: &str| {
            let first = l.split([' ', ':']).next().unwrap_or_default();
            let file = first.rsplit('/').next().unwrap_or_default();
            file.split('.').next().unwrap_or_default().replace('-', "_") == module
        };
        self.config.lines().any(on) || self.modules.lines().any(named)
    }
}

/// A file, packed or plain.
fn text(path: &Path) -> std::io::Result<String> {
    let bytes = fs::read(path)?;
    let mut text = String::new();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        GzDecoder::new(bytes.as_slice()).read_to_string(&mut text)?;
        return Ok(text);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_wherever_it_is_told_of() {
        assert_eq!(version("6.18.44-fc"), Some((6, 18)));
        assert_eq!(version("six"), None);
        let known = Known {
            config: "CONFIG_VETH=m\n# CONFIG_VXLAN is not set\nCONFIG_NF_NAT=y\n".into(),
            modules: "nft_ct 24576 1 - Live\nkernel/net/netfilter/nft-log.ko.zst: kernel/x.ko\nkernel/net/nft_fib.ko\n".into(),
        };
        let has = |m, o| known.has(m, o);
        assert!(
            has("veth", "CONFIG_VETH") && has("nf_nat", "CONFIG_NF_NAT") && has("nft_ct", "CONFIG_NFT_CT")
        );
        assert!(has("nft_log", "-") && has("nft_fib", "-"));
        assert!(!has("vxlan", "CONFIG_VXLAN") && !has("nf_tables", "CONFIG_NF_TABLES"));
    }
}
