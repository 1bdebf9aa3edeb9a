//! FelixConfiguration's spec, from the table of parameters.

use caracal_config::{Kind, PairsAs, Param, SpecRule};

use super::SELECTOR;
use crate::{
    Reason::{Forbidden, Invalid},
    schema::{Schema, Type},
};

/// Durations as Calico's schema has them. In the pattern for most fields a backslash too many stands before the dot, so
/// that fractions are refused; an object must get the same verdict from this schema as from Calico's.
const DURATION: &str = r"^([0-9]+(\\.[0-9]+)?(ms|s|m|h))*$";
const DURATION_WITH_FRACTION: &str = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))*$";
const TIMEOUT: &str = r"^(([0-9]*(\.[0-9]*)?(ms|s|h|m|us)+)+|Auto)$";

/// Durations that take any text.
const FREE_DURATIONS: &[&str] = &[
    "dataplaneWatchdogTimeout",
    "localSubnetL2ReachabilityRefreshInterval",
    "nftablesRefreshInterval",
];

pub(super) fn spec() -> Schema {
    let spec = Schema::object()
        .with("nodeSelector", Schema::string().chars(SELECTOR).documented("", "nodeSelector"))
        .rule(
            Forbidden,
            "!has(self.routeTableRange) || !has(self.routeTableRanges)",
            "routeTableRange is the old form of routeTableRanges: give only the latter",
        )
        .rule(
            Invalid,
            "!has(self.natOutgoingAddress) || size(self.natOutgoingAddress) == 0 || (isIP(self.natOutgoingAddress) && ip(self.natOutgoingAddress).family() == 4)",
            "natOutgoingAddress must be an IPv4 address",
        )
        .rule(
            Invalid,
            "!has(self.deviceRouteSourceAddress) || size(self.deviceRouteSourceAddress) == 0 || (isIP(self.deviceRouteSourceAddress) && ip(self.deviceRouteSourceAddress).family() == 4)",
            "deviceRouteSourceAddress must be an IPv4 address",
        )
        .rule(
            Invalid,
            "!has(self.deviceRouteSourceAddressIPv6) || size(self.deviceRouteSourceAddressIPv6) == 0 || (isIP(self.deviceRouteSourceAddressIPv6) && ip(self.deviceRouteSourceAddressIPv6).family() == 6)",
            "deviceRouteSourceAddressIPv6 must be an IPv6 address",
        );
    Param::all()
        .filter(|p| !p.field.is_empty())
        .fold(spec, |spec, p| {
            spec.with(p.field, parameter(p).documented("Param", p.name))
        })
}

fn parameter(p: &Param) -> Schema {
    let schema = of_kind(p);
    let schema = match p.spec_rule {
        SpecRule::Nothing => schema,
        SpecRule::Exactly(words) => Schema {
            pattern: None,
            ..schema.words(words)
        },
        SpecRule::Matches(pattern) => schema.pattern(pattern),
        SpecRule::Within(low, i64::MAX) => schema.at_least(low),
        SpecRule::Within(low, high) => schema.within(low, high),
    };
    match p.field {
        // The enum came after the pattern, which stayed.
        "iptablesBackend" => schema.pattern(words_in_any_case(&["Auto", "Legacy", "NFT"])),
        "nftablesFlowTableOffload" => schema.or("Disabled"),
        "nftablesMode" => schema.or("Auto"),
        "bpfCTLBLogFilter" => Schema {
            pattern: None,
            ..schema
        },
        "liveMigrationRouteConvergenceTime" => schema.pattern(DURATION_WITH_FRACTION),
        field if FREE_DURATIONS.contains(&field) => Schema {
            pattern: None,
            ..schema
        },
        _ => schema,
    }
}

fn of_kind(p: &Param) -> Schema {
    let texts = || Schema::list(Schema::string());
    match p.kind {
        Kind::Bool | Kind::OptionalBool => Schema::of_type(Type::Boolean),
        Kind::Int(_) => Schema::of_type(Type::Integer),
        Kind::MarkMask => Schema::of_type(Type::Integer)
            .format("int64")
            .within(0, u32::MAX.into()),
        Kind::Seconds | Kind::Millis => Schema::string().pattern(DURATION),
        Kind::OneOf(words) => Schema::string().pattern(words_in_any_case(words)),
        Kind::Cidrs | Kind::Interfaces | Kind::Endpoints => texts(),
        Kind::ProtoPorts => Schema::list(
            Schema::object()
                .with("net", Schema::string())
                .with("port", Schema::of_type(Type::Integer).must())
                .with("protocol", Schema::string()),
        ),
        Kind::PortRanges => Schema::list(Schema::number_or_text()).most(7),
        Kind::PortRange | Kind::Dscp => Schema::number_or_text(),
        Kind::TableRange => table_range().rule(
            Invalid,
            "self.min >= 1 && self.max >= self.min && self.max <= 250",
            "must be a range of route tables within 1 to 250, min not above max",
        ),
        Kind::TableRanges => Schema::list(
            table_range()
                .rule(Invalid, "self.min >= 1", "route tables are counted from 1")
                .rule(Invalid, "self.min <= self.max", "min must not be above max"),
        ),
        Kind::Pairs(PairsAs::Object) => Schema::map(Schema::string()),
        Kind::Pairs(PairsAs::Text(pattern)) => Schema::string().pattern(pattern),
        Kind::Pairs(PairsAs::Fields(fields)) => fields.iter().fold(Schema::object(), |o, (field, _)| {
            o.with(field, Schema::string().pattern(TIMEOUT))
        }),
        Kind::NamedDurations => Schema::list(
            Schema::object()
                .with("name", Schema::string().must())
                .with("timeout", Schema::string().must()),
        )
        .whole(),
        Kind::Ipv4 | Kind::Ipv6 => Schema::string().chars(45),
        Kind::Text
        | Kind::Matching(_)
        | Kind::Path
        | Kind::ExistingFile
        | Kind::Executable
        | Kind::Regex
        | Kind::InterfacePatterns
        | Kind::Region => Schema::string(),
    }
}

fn table_range() -> Schema {
    Schema::object()
        .with("max", Schema::of_type(Type::Integer).must())
        .with("min", Schema::of_type(Type::Integer).must())
}

fn words_in_any_case(words: &[&str]) -> String {
    format!("^(?i)({})?$", words.join("|"))
}
