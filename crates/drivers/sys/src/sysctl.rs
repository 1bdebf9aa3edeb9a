use std::fs;
use std::os::fd::AsRawFd;
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

/// The settings of one interface, found once. Every network namespace has entries of the same names at the same places of
/// `/proc/sys/net`, and the kernel looks through all of them for each path that begins there: with a thousand pods on a
/// node that is a good part of what a pod costs.
#[derive(Debug)]
pub struct SysctlDir {
    /// For messages.
    path: PathBuf,
    /// The same place by way of an open file.
    place: Sysctl,
    _open: fs::File,
}

impl SysctlDir {
    /// `net.ipvN.conf.INTERFACE`.
    ///
    /// # Errors
    /// When it is not there.
    pub fn conf(family: Family, interface: &str) -> Result<Self, SysError> {
        Self::open(&["net", segment(family), "conf", interface])
    }

    fn open(parts: &[&str]) -> Result<Self, SysError> {
        let path = Sysctl::new(parts)?.path;
        let open = fs::File::open(&path).map_err(|e| SysError::file("open", &path, e))?;
        let place = Sysctl {
            path: PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd())),
        };
        Ok(Self {
            path,
            place,
            _open: open,
        })
    }

    /// As [`Sysctl::ensure`], for the setting of that name.
    ///
    /// # Errors
    /// As [`Sysctl::ensure`].
    pub fn ensure(&self, name: &str, value: &str) -> Result<bool, SysError> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(SysError::SysctlKey(name.to_owned()));
        }
        let setting = Sysctl {
            path: self.place.path.join(name),
        };
        setting.ensure(value).map_err(|e| match e {
            SysError::File { action, source, .. } => SysError::file(action, self.path.join(name), source),
            other => other,
        })
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
    fn a_directory_has_the_settings_of_its_interface_and_names_what_it_lacks() {
        let dir = SysctlDir::conf(Family::V4, "lo").unwrap();
        let now = Sysctl::conf(Family::V4, "lo", "route_localnet")
            .unwrap()
            .read()
            .unwrap();
        assert!(!dir.ensure("route_localnet", &now).unwrap());
        let lacks = dir.ensure("no_such_setting", "1").unwrap_err().to_string();
        assert!(
            lacks.contains("/proc/sys/net/ipv4/conf/lo/no_such_setting"),
            "{lacks}"
        );
        let missing = SysctlDir::conf(Family::V6, "none-of-these")
            .unwrap_err()
            .to_string();
        assert!(missing.contains("none-of-these"), "{missing}");
    }

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
        let dir = SysctlDir::conf(Family::V4, "lo").unwrap();
        for bad in ["", "..", "../default/rp_filter"] {
            assert!(
                matches!(dir.ensure(bad, "0"), Err(SysError::SysctlKey(_))),
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
