//! The node-local agent API: versioned protobuf on two unix sockets, root only. The one is gRPC and only read; over the
//! other one CNI plugins ask for addresses and for the beginning and the end of containers.
//!
//! `why`, `top`, `watch`, `doctor` and the CNI plugin use it. The source is `proto/agent.proto`;
//! `src/generated/` is committed and rewritten by `xtask/protogen`.

pub mod pods;

/// Messages and stubs of version 1.
#[allow(missing_docs, clippy::all)]
#[rustfmt::skip]
#[path = "generated/caracal.agent.v1.rs"]
pub mod v1;

/// The version of the API that this code speaks.
pub const API_VERSION: u32 = 1;

/// Where the agent listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/calico/agent.sock";

/// The environment variable that names another socket.
pub const SOCKET_ENV: &str = "CARACAL_AGENT_SOCKET";

/// What a `DetachReply` says of endpoint and addresses where the container's beginning may still be written to the
/// datastore: what finds nothing there now has to look again later.
pub const STILL_ATTACHING: &str = "the container is still being attached";
