use crate::error::{CniError, Code};

/// A version of the CNI specification that we speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the versions")]
pub enum Version {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Version; 7] = [
        Version::V0_1_0,
        Version::V0_2_0,
        Version::V0_3_0,
        Version::V0_3_1,
        Version::V0_4_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];

    /// What answers carry when the question names no version that we speak.
    pub(crate) const FALLBACK: Version = Version::V1_0_0;

    /// The version as text.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    /// Reads `cniVersion`.
    pub(crate) fn parse(text: &str) -> Result<Self, CniError> {
        Self::ALL.into_iter().find(|v| v.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            let said = if text.is_empty() {
                "the configuration names no cniVersion".to_owned()
            } else {
                format!("the configuration says cniVersion {text:?}")
            };
            CniError::new(
                Code::IncompatibleVersion,
                "incompatible CNI version",
                format!("{said}; this plugin speaks {known}"),
            )
        })
    }
}

/// The answer to VERSION.
pub(crate) fn version_json(asked: &str) -> String {
    serde_json::json!({
        "cniVersion": if asked.is_empty() { Version::FALLBACK.as_str() } else { asked },
        "supportedVersions": Version::ALL.map(Version::as_str),
    })
    .to_string()
}
