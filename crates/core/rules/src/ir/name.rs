use std::{borrow::Borrow, fmt, sync::Arc};

/// Longest interface name in bytes.
pub(crate) const IF_NAME_MAX: usize = 15;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as given.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }
        impl From<String> for $name {
            fn from(name: String) -> Self {
                Self(name.into())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

name! {
    /// The name of a chain, at most 127 bytes for the kernel.
    ChainName
}
name! {
    /// The name of a set or map; both share one name space within a table.
    SetName
}
name! {
    /// The name of a counter, at most 255 bytes for the kernel.
    CounterName
}

/// An interface name, or the beginning of one (`cali*`). Kept inline: maps hold one per endpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfName {
    bytes: [u8; IF_NAME_MAX],
    len: u8,
    prefix: bool,
}

/// A text too long (or empty) to be an interface name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LongName(pub String);

impl fmt::Display for LongName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not an interface name: 1 to {IF_NAME_MAX} bytes are allowed",
            self.0
        )
    }
}

impl std::error::Error for LongName {}

impl IfName {
    fn make(name: &str, prefix: bool) -> Result<Self, LongName> {
        let mut bytes = [0; IF_NAME_MAX];
        let (Some(room), Ok(len)) = (bytes.get_mut(..name.len()), u8::try_from(name.len())) else {
            return Err(LongName(name.into()));
        };
        if name.is_empty() || name.contains('\0') {
            return Err(LongName(name.into()));
        }
        room.copy_from_slice(name.as_bytes());
        Ok(Self { bytes, len, prefix })
    }

    /// This very interface.
    ///
    /// # Errors
    /// When the name is empty or longer than 15 bytes.
    pub fn exact(name: &str) -> Result<Self, LongName> {
        Self::make(name, false)
    }

    /// Every interface whose name begins with `start` (without a star).
    ///
    /// # Errors
    /// When `start` is empty or longer than 15 bytes.
    pub fn starting_with(start: &str) -> Result<Self, LongName> {
        Self::make(start, true)
    }

    /// The name or its beginning, without the star.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)])
            .expect("made from a str of exactly these bytes, so it is UTF-8")
    }

    /// Whether any name that begins so matches.
    #[must_use]
    pub fn is_prefix(&self) -> bool {
        self.prefix
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text(), if self.prefix { "*" } else { "" })
    }
}

impl fmt::Debug for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
