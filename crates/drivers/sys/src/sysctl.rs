use std::fs;
use std::path::{Path, PathBuf};

use caracal_net::Family;

use crate::SysError;

/// One kernel setting. Settings below `net` are those of the calling thread's network namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sysctl {
    path: PathBuf,
}

impl Sysctl {
    /// A setting by the parts of its key. Parts, not dots: an interface name may hold a dot.
    pub fn new(parts: &[&str]) -> Result<Self, SysError> {
        let mut path = PathBuf::from("/proc/sys");
        for part in parts {
            if part.is_empty() || *part == "." || *part == ".." || part.contains(['/', '\0']) {
                return Err(SysError::SysctlKey((*part).to_owned()));
            }
            path.push(part);
        }
        Ok(Self { path })
    }

    /// `net.ipvN.conf.INTERFACE.NAME`; the interface may be `all` or `default`.
    pub fn conf(family: Family, interface: &str, name: &str) -> Result<Self, SysError> {
        Self::new(&["net", segment(family), "conf", interface, name])
    }

    /// `net.ipvN.neigh.INTERFACE.NAME`.
    pub fn neigh(family: Family, interface: &str, name: &str) -> Result<Self, SysError> {
        Self::new(&["net", segment(family), "neigh", interface, name])
    }

    /// Where the setting is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this kernel has the setting, and its interface exists.
    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    /// The value, without white space around it.
    pub fn read(&self) -> Result<String, SysError> {
        let text = fs::read_to_string(&self.path).map_err(|e| SysError::file("read", &self.path, e))?;
        Ok(text.trim().to_owned())
    }

    /// Sets the value.
    pub fn write(&self, value: &str) -> Result<(), SysError> {
        fs::write(&self.path, value).map_err(|e| SysError::file("write", &self.path, e))
    }

    /// Sets the value unless it is set already, since some writes restart kernel machinery (forwarding
    /// drops learnt routes). Tells whether it wrote.
    pub fn ensure(&self, value: &str) -> Result<bool, SysError> {
        if self.read()? == value {
            return Ok(false);
        }
        self.write(value)?;
        Ok(true)
    }
}

fn segment(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_leave_the_tree() {
        for bad in ["", ".", "..", "a/b", "a\0"] {
            assert!(
                matches!(
                    Sysctl::conf(Family::V4, bad, "rp_filter"),
                    Err(SysError::SysctlKey(_))
                ),
                "{bad:?}"
            );
        }
        let dotted = Sysctl::conf(Family::V6, "eth0.100", "disable_ipv6").unwrap();
        assert_eq!(
            dotted.path(),
            Path::new("/proc/sys/net/ipv6/conf/eth0.100/disable_ipv6")
        );
    }
}
