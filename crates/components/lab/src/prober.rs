//! Packets between pods: a [`Prober`] asks from inside a network namespace who answers, a [`Responder`] answers inside
//! another. TCP by connecting, UDP by echo, SCTP by raw INIT and INIT ACK, because kernels without SCTP are common.
//!
//! **Invariant:** a prober uses each of its source ports once before it starts again with the first, so that what a
//! connection of an earlier probe left in the kernel's connection tracking lets no later probe through.

mod probe;
mod respond;
mod sctp;
mod sockets;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use probe::{FIRST_PORT, LAST_PORT, Prober};
pub use respond::{Responder, serve};
pub(crate) use sctp::crc32c;

/// A transport protocol that pods are probed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Transport {
    /// The transport of a protocol's name, in any case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name.to_ascii_uppercase().as_str() {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }

    /// Its protocol number.
    #[must_use]
    pub fn proto(self) -> caracal_net::Proto {
        match self {
            Self::Tcp => caracal_net::Proto::TCP,
            Self::Udp => caracal_net::Proto::UDP,
            Self::Sctp => caracal_net::Proto::SCTP,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// A port that a responder answers on, in both families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Listen {
    /// The protocol.
    pub protocol: Transport,
    /// The port.
    pub port: u16,
}

/// Where a probe goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Target {
    /// The protocol.
    pub protocol: Transport,
    /// The address.
    pub addr: IpAddr,
    /// The port.
    pub port: u16,
}

/// What came of a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The responder answered: packets pass both ways.
    Answered,
    /// Something refused: a policy that rejects, or a pod that does not listen.
    Refused,
    /// Nothing came back.
    Silent,
    /// The probe could not be sent, and why.
    Failed(String),
}

impl Outcome {
    /// Whether the probe went through.
    #[must_use]
    pub fn allowed(&self) -> bool {
        *self == Self::Answered
    }
}

/// How long a probe that nobody answers goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The wait for an answer to one try.
    pub wait: Duration,
    /// How many tries.
    pub tries: u32,
}

impl Patience {
    /// For probes that may well be blocked.
    pub const SHORT: Self = Self {
        wait: Duration::from_millis(400),
        tries: 2,
    };
    /// For probes that should have been answered: on a busy machine an answer takes its time.
    pub const LONG: Self = Self {
        wait: Duration::from_millis(1000),
        tries: 5,
    };
}
