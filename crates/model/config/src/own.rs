//! Parameters of our own: `CARACAL_<NAME>` in the environment (`CARACAL_LOG_FORMAT`), or an annotation on FelixConfiguration.

use crate::table::{Kind, Param, own};

/// Annotations with this prefix on a FelixConfiguration set own parameters: `config.caracal/LogFormat: json`.
pub const ANNOTATION_PREFIX: &str = "config.caracal/";

/// Annotations with this prefix set Calico's parameters over the spec, as raw text.
pub const CALICO_ANNOTATION_PREFIX: &str = "config.projectcalico.org/";

/// Where the agent's socket and the embedded store's socket are; how log lines look.
pub(crate) const PARAMS: &[Param] = &[
    own("AgentSocket", Kind::Path, "/run/calico/agent.sock").local(),
    own("StoreSocket", Kind::Path, "/run/calico/store.sock").local(),
    own("LogFormat", Kind::OneOf(&["text", "json"]), "text").anew(),
    own("CutConnections", Kind::Bool, "false"),
    own("RemoveCalico", Kind::Bool, "false").at_start(),
];
