//! Bounds and patterns that rows of the table share.

/// Any whole number.
pub(super) const ANY: (i64, i64) = (i64::MIN, i64::MAX);
/// -1 stands for "as the runtime sees fit".
pub(super) const FROM_MINUS_ONE: (i64, i64) = (-1, i64::MAX);
pub(super) const NOT_NEGATIVE: (i64, i64) = (0, i64::MAX);
// Calico takes any number for these and fails when it programs the kernel; here the bad value is named at the start.
pub(super) const BYTE: (i64, i64) = (0, 255);
pub(super) const MTU: (i64, i64) = (0, 65535);
pub(super) const SET_SIZE: (i64, i64) = (1, 0xffff_ffff);
pub(super) const VNI: (i64, i64) = (0, 0xff_ffff);
pub(super) const PORT: (i64, i64) = (0, 65535);
/// The kernel's route metrics, short of the extremes that Calico keeps free.
pub(super) const PRIORITY: (i64, i64) = (1, 2_147_483_646);

pub(super) const HOST_PORT: &str = "^[^:/]+:[0-9]+$";
pub(super) const HOSTNAME: &str = "^[a-zA-Z0-9_.-]+$";
pub(super) const HOST_ADDRESS: &str = "^[a-zA-Z0-9:._+-]{1,64}$";
/// An interface name as the kernel allows it, or a prefix with `+`.
pub(super) const IFACE: &str = "^[a-zA-Z0-9:._+-]{1,15}$";
pub(super) const IFACE_PREFIXES: &str = "^[a-zA-Z0-9_-]{1,15}(,[a-zA-Z0-9_-]{1,15})*$";
pub(super) const RATE: &str = "^([1-9][0-9]{0,3}/(?:second|minute|hour|day))?$";
pub(super) const SPEC_RATE: &str = "^[1-9][0-9]{0,3}/(?:second|minute|hour|day)$";
pub(super) const SPEC_LOG_PREFIX: &str = "^([a-zA-Z0-9%: /_-])*$";
pub(super) const FLAGS: &str = "^([a-zA-Z0-9-_]+=(true|false|),)*([a-zA-Z0-9-_]+=(true|false|))?$";
pub(super) const GATES: &str = "^([a-zA-Z0-9-_]+=([^=]+),)*([a-zA-Z0-9-_]+=([^=]+))?$";

/// Fields of `bpfConntrackTimeouts` and the keys they set.
pub(super) const CONNTRACK_TIMEOUTS: &[(&str, &str)] = &[
    ("creationGracePeriod", "CreationGracePeriod"),
    ("tcpSynSent", "TCPSynSent"),
    ("tcpEstablished", "TCPEstablished"),
    ("tcpFinsSeen", "TCPFinsSeen"),
    ("tcpResetSeen", "TCPResetSeen"),
    ("udpTimeout", "UDPTimeout"),
    ("genericTimeout", "GenericTimeout"),
    ("icmpTimeout", "ICMPTimeout"),
];

/// Registered names of DSCP values (IANA, Differentiated Services Field Codepoints).
pub(crate) const DSCP_NAMES: &[(&str, u8)] = &[
    ("DF", 0),
    ("CS0", 0),
    ("LE", 1),
    ("CS1", 8),
    ("AF11", 10),
    ("AF12", 12),
    ("AF13", 14),
    ("CS2", 16),
    ("AF21", 18),
    ("AF22", 20),
    ("AF23", 22),
    ("CS3", 24),
    ("AF31", 26),
    ("AF32", 28),
    ("AF33", 30),
    ("CS4", 32),
    ("AF41", 34),
    ("AF42", 36),
    ("AF43", 38),
    ("CS5", 40),
    ("VA", 44),
    ("EF", 46),
    ("CS6", 48),
    ("CS7", 56),
];
