//! The node-local agent API: versioned protobuf on a unix socket, root only, read-only but for what CNI plugins
//! ask for: addresses, and the end of a container.
//!
//! `why`, `top`, `watch`, `doctor` and the CNI plugin use it. The source is `proto/agent.proto`;
//! `src/generated/` is committed and rewritten by `xtask/protogen`.

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
