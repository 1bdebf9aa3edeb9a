use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use caracal_net::Family;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

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
            check(part)?;
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

/// A folder of settings, found once. Every network namespace has entries of the same names at the same places of
/// `/proc/sys/net`, and the kernel looks through all of them for each path that begins there: with a thousand pods on a
/// node that is a good part of what a pod costs. From an open folder on nothing is looked for there.
///
/// It stays the folder of the namespace in which it was opened.
#[derive(Debug)]
pub struct SysctlDir {
    /// For messages.
    path: PathBuf,
    open: fs::File,
}

/// Longer than any value that is set through here.
const LONGEST: usize = 256;

impl SysctlDir {
    /// `net.ipvN.conf.INTERFACE`.
    ///
    /// # Errors
    /// When it is not there.
    pub fn conf(family: Family, interface: &str) -> Result<Self, SysError> {
        Self::open(&["net", segment(family), "conf", interface])
    }

    /// `net.ipvN.conf`: the interfaces are the folders in it, those that are still to come as well.
    ///
    /// # Errors
    /// When this kernel has no such family.
    pub fn all_conf(family: Family) -> Result<Self, SysError> {
        Self::open(&["net", segment(family), "conf"])
    }

    /// `net.ipvN.neigh`, likewise.
    ///
    /// # Errors
    /// When this kernel has no such family.
    pub fn all_neigh(family: Family) -> Result<Self, SysError> {
        Self::open(&["net", segment(family), "neigh"])
    }

    fn open(parts: &[&str]) -> Result<Self, SysError> {
        let path = Sysctl::new(parts)?.path;
        let open = fs::File::open(&path).map_err(|e| SysError::file("open", &path, e))?;
        Ok(Self { path, open })
    }

    /// A folder in it.
    ///
    /// # Errors
    /// When it is not there.
    pub fn folder(&self, name: &str) -> Result<Self, SysError> {
        check(name)?;
        let path = self.path.join(name);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let open = openat(&self.open, name, flags, Mode::empty());
        let open = open.map_err(|e| SysError::file("open", &path, e))?.into();
        Ok(Self { path, open })
    }

    /// The value of the setting of that name, without white space around it.
    ///
    /// # Errors
    /// As [`Sysctl::read`].
    pub fn read(&self, name: &str) -> Result<String, SysError> {
        check(name)?;
        let file = self.file(name, OFlag::O_RDONLY);
        let value = file.and_then(|f| value_of(&f));
        value.map_err(|e| SysError::file("read", self.path.join(name), e))
    }

    /// As [`Sysctl::ensure`], for the setting of that name.
    ///
    /// # Errors
    /// As [`Sysctl::ensure`].
    pub fn ensure(&self, name: &str, value: &str) -> Result<bool, SysError> {
        check(name)?;
        let failed = |action, e| SysError::file(action, self.path.join(name), e);
        // One that is right already may be where nobody may write.
        let file = self.file(name, OFlag::O_RDWR);
        let Ok(file) = file else {
            let denied = match file {
                Err(e) if e.kind() != io::ErrorKind::NotFound => e,
                Err(e) => return Err(failed("read", e)),
                Ok(_) => return Ok(false),
            };
            return match self.read(name)? == value {
                true => Ok(false),
                false => Err(failed("write", denied)),
            };
        };
        if value_of(&file).map_err(|e| failed("read", e))? == value {
            return Ok(false);
        }
        file.write_all_at(value.as_bytes(), 0)
            .map_err(|e| failed("write", e))?;
        Ok(true)
    }

    fn file(&self, name: &str, flags: OFlag) -> io::Result<fs::File> {
        Ok(openat(&self.open, name, flags | OFlag::O_CLOEXEC, Mode::empty())?.into())
    }
}

fn value_of(file: &fs::File) -> io::Result<String> {
    let mut buffer = [0; LONGEST];
    let length = file.read_at(&mut buffer, 0)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).trim().to_owned())
}

/// One part of a key.
fn check(part: &str) -> Result<(), SysError> {
    if part.is_empty() || part == "." || part == ".." || part.contains(['/', '\0']) {
        return Err(SysError::SysctlKey(part.to_owned()));
    }
    Ok(())
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
        let all = SysctlDir::all_conf(Family::V4).unwrap();
        let lo = all.folder("lo").unwrap();
        assert_eq!(lo.read("route_localnet").unwrap(), now);
        assert!(!lo.ensure("route_localnet", &now).unwrap());
        let missing = all.folder("none-of-these").unwrap_err().to_string();
        assert!(
            missing.contains("/proc/sys/net/ipv4/conf/none-of-these"),
            "{missing}"
        );
        let neigh = SysctlDir::all_neigh(Family::V4).unwrap().folder("lo").unwrap();
        assert!(neigh.read("proxy_delay").is_ok());
        assert!(neigh.read("../lo").is_err());
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
