use caracal_ipam_plan::PlanError;
use caracal_store::StoreError;

/// Why an IPAM operation failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IpamError {
    /// No plan can be made.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The datastore failed.
    #[error("{doing}: {source}")]
    Store {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: StoreError,
    },
    /// Others were always faster.
    #[error("gave up after {0} conflicts with other writers; try again")]
    Contention(u32),
}

pub(crate) fn doing(doing: &'static str) -> impl FnOnce(StoreError) -> IpamError {
    move |source| IpamError::Store { doing, source }
}

/// The one who groups requests has ended.
pub(crate) fn ended() -> IpamError {
    IpamError::Store {
        doing: "waiting for the agent",
        source: StoreError::Unavailable("it is shutting down; try again".to_owned()),
    }
}
