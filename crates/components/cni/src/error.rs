use caracal_ipam::IpamError;
use caracal_ipam_plan::PlanError;
use caracal_link::LinkError;
use caracal_store::StoreError;
use caracal_sys::SysError;
use serde::Serialize;

/// Codes of the CNI specification, and our own from 100 on (`docs/cni.md` lists them).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Code {
    /// The version of the configuration is not one of ours.
    IncompatibleVersion = 1,
    /// A field asks for something that there is not.
    UnsupportedField = 2,
    /// The container does not exist: nothing has to be cleaned up.
    UnknownContainer = 3,
    /// A variable of the environment is missing or wrong.
    InvalidEnvironment = 4,
    /// Reading or writing failed.
    Io = 5,
    /// The configuration is not JSON.
    Decode = 6,
    /// The configuration contradicts itself or has a field of the wrong type.
    InvalidConfig = 7,
    /// It may work later: the runtime should call again.
    TryAgain = 11,
    /// STATUS: no ADD can be served now.
    NotAvailable = 50,
    /// No address can be had: pools exhausted, or none fits.
    NoAddress = 100,
    /// The address asked for is taken or may not be used.
    AddressRefused = 101,
    /// The datastore refused what was asked, for good.
    Datastore = 102,
    /// The kernel refused.
    Kernel = 103,
    /// Another IPAM plugin failed without saying why in the form of the specification.
    Delegate = 104,
    /// CHECK: something is not as ADD made it.
    CheckFailed = 110,
}

/// Why a plugin failed, as the specification wants it told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{msg}{}{details}", if details.is_empty() { "" } else { ": " })]
pub struct CniError {
    /// The number, as another plugin may have numbers of its own.
    pub code: u32,
    /// What was being done or what is wrong, short.
    pub msg: String,
    /// What failed underneath and what to do.
    pub details: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Printed<'a> {
    cni_version: &'a str,
    code: u32,
    msg: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    details: &'a str,
}

impl CniError {
    pub(crate) fn new(code: Code, msg: impl Into<String>, details: impl ToString) -> Self {
        Self {
            code: code as u32,
            msg: msg.into(),
            details: details.to_string(),
        }
    }

    /// A variable of the environment that is missing or wrong.
    pub(crate) fn env(name: &str, why: impl std::fmt::Display) -> Self {
        Self::new(
            Code::InvalidEnvironment,
            format!("environment variable {name}"),
            why,
        )
    }

    /// A field of the configuration that is wrong.
    pub(crate) fn config(field: &str, why: impl std::fmt::Display) -> Self {
        Self::new(
            Code::InvalidConfig,
            format!("network configuration, field {field}"),
            why,
        )
    }

    pub(crate) fn store(doing: &str, error: &StoreError) -> Self {
        let code = if error.is_transient() {
            Code::TryAgain
        } else {
            Code::Datastore
        };
        Self::new(code, format!("datastore: {doing}"), error)
    }

    pub(crate) fn kernel(doing: &str, error: &LinkError) -> Self {
        Self::new(Code::Kernel, doing, error)
    }

    pub(crate) fn system(doing: &str, error: &SysError) -> Self {
        let code = match error {
            SysError::NetNsMissing(_) | SysError::NotNetNs(_) => Code::UnknownContainer,
            _ => Code::Io,
        };
        Self::new(code, doing, error)
    }

    pub(crate) fn ipam(error: &IpamError) -> Self {
        let code = match error {
            IpamError::Plan(PlanError::NoPool { .. } | PlanError::Exhausted { .. }) => Code::NoAddress,
            IpamError::Plan(PlanError::Malformed { .. }) => Code::Datastore,
            IpamError::Plan(_) => Code::AddressRefused,
            IpamError::Store { source, .. } if source.is_transient() => Code::TryAgain,
            IpamError::Store { .. } => Code::Datastore,
            _ => Code::TryAgain,
        };
        Self::new(code, "IP address management", error)
    }

    pub(crate) fn is(&self, code: Code) -> bool {
        self.code == code as u32
    }

    /// The JSON that the specification wants on stdout.
    pub(crate) fn to_json(&self, cni_version: &str) -> String {
        let printed = Printed {
            cni_version,
            code: self.code,
            msg: &self.msg,
            details: &self.details,
        };
        // Strings and a number always serialise.
        serde_json::to_string(&printed).unwrap_or_default()
    }
}
