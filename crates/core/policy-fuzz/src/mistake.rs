use std::{fmt, str::FromStr};

macro_rules! mistakes {
    ($($name:ident: $text:literal,)*) => {
        /// A deliberate mistake of the [`Reference`](crate::Reference): what a wrong implementation could believe.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Mistake {
            $(#[doc = concat!("Wrong: ", $text, ".")] $name,)*
        }

        impl Mistake {
            /// Every mistake.
            pub const ALL: &'static [Mistake] = &[$(Mistake::$name),*];
        }

        impl FromStr for Mistake {
            type Err = String;
            /// By name; the error lists them all.
            fn from_str(name: &str) -> Result<Self, String> {
                match name {
                    $(stringify!($name) => Ok(Mistake::$name),)*
                    _ => {
                        let all: Vec<String> = Self::ALL.iter().map(|m| format!("  {m:?}: {m}")).collect();
                        Err(format!("there is no mistake of this name; there are\n{}", all.join("\n")))
                    }
                }
            }
        }

        impl fmt::Display for Mistake {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Mistake::$name => $text),* })
            }
        }
    };
}

mistakes! {
    ExistsIgnored: "has(label) always holds",
    DoesNotExistIgnored: "!has(label) always holds",
    NotInNeedsKey: "'not in' needs the label",
    NotEqualNeedsKey: "'!=' needs the label",
    EmptySelectorMatchesNothing: "an empty selector selects nothing",
    ForcedLabelsCanBeOverridden: "a pod can say itself which namespace it is in",
    InheritedLabelsWin: "labels of profiles hide those of the endpoint",
    TieBreakByParts: "ties are broken by name, namespace and kind one after the other",
    WithoutOrderFirst: "policies without an order come first",
    TierOrderIgnored: "tiers go by name only",
    MissingTierPasses: "a tier that does not exist passes at its end",
    PassIsAllow: "Pass allows",
    PassIsNext: "Pass goes to the next rule",
    LogDecides: "Log allows",
    EndOfTierByAnyDirection: "the end of a tier acts in a direction that no policy of it governs",
    EndOfTierNever: "the end of a tier never denies",
    EndOfTierByStaged: "a staged policy counts for the end of its tier",
    StagedEnforced: "staged policies are enforced",
    StagedDeleteKept: "a staged deletion deletes the enforced policy",
    TypesByRules: "a policy without rules in a direction does not govern it",
    NoProfileAllows: "an endpoint whose profiles say nothing is open",
    MissingProfileSkipped: "a profile that does not exist is passed by",
    CriterionOfOtherFamilyVanishes: "nets of the other family are as if not written",
    NegatedEverythingIgnored: "a negated 0.0.0.0/0 excludes nothing",
    OneNetIsEnough: "a packet in one of the negated nets only is not excluded",
    UnscopedRuleScoped: "a rule of a namespaced policy without selector matches its namespace only",
    SelectorUnscoped: "a selector in a rule of a namespaced policy matches all namespaces",
    NotSelectorUnscoped: "notSelector alone in a namespaced policy matches strangers",
    NegatedSetNeedsKnownAddress: "notSelector alone in a global policy matches known addresses only",
    NamespacesHoldEverything: "namespaceSelector all() selects what is in no namespace",
    GlobalIsAll: "namespaceSelector global() selects everything",
    AccountNamesIgnored: "names of service accounts are not looked at",
    AccountNamesOrSelector: "names or selector of service accounts are enough",
    NotSelectorForgetsAccounts: "notSelector beside service accounts in a global policy matches strangers",
    NamedPortAnded: "a named port and a number must both match",
    NamedPortOfAnyone: "a named port may be of an endpoint that the selector does not select",
    NumberForgetsSelector: "a number beside a named port makes the selector forgotten",
    NotPortsIgnored: "notPorts excludes nothing",
    NotProtocolIgnored: "notProtocol excludes nothing",
    RangeWithoutItsEnd: "the last port of a range is not in it",
    IcmpCodeIgnored: "the code of an ICMP message is not looked at",
    NotIcmpIgnored: "notICMP excludes nothing",
    ServicePortIgnored: "a destination service matches at any port",
    ServiceOfOtherNamespace: "a service is looked for in all namespaces",
    LastHostEndpointWins: "of several host endpoints of an interface the last by name has it",
    WildcardBeatsNamed: "the host endpoint * comes before that of the interface",
    AddressesBesideName: "a host endpoint with an interface's name is found by address too",
    FailsafeIgnored: "failsafe ports are closed",
    FailsafeForwarded: "failsafe ports are open for what is forwarded",
    FailsafeForEveryone: "a failsafe port is open for peers outside its net",
    ForwardWithoutAsking: "policy without applyOnForward governs forwarded packets of a host endpoint",
    UntrackedEndsClosed: "the end of an untracked list denies",
    PreDnatSeesTranslated: "preDNAT policy sees the destination after translation",
    AcceptedIsAskedAgain: "what untracked or preDNAT policy allowed is judged by the other lists of that endpoint",
    UntrackedEverywhere: "doNotTrack policy works on the host endpoint *",
    HostToWorkloadPoliced: "the host's traffic to its workloads meets their policy",
    WorkloadToHostUnpoliced: "a workload's traffic to its host does not meet its policy",
    ToHostAlwaysOpen: "DefaultEndpointToHostAction is not looked at",
    SpoofingAllowed: "workloads may send from any address",
    PrefixesAlwaysOpen: "WorkloadSourceSpoofing is not looked at",
    ServiceLoopsIgnored: "forwarded packets to addresses of services that nobody translated go on",
    ServiceLoopsAlways: "ServiceLoopPrevention is not looked at",
    ServiceLoopsAsSent: "service-loop prevention looks at the destination before its translation",
    ServiceLoopsEverywhere: "service-loop prevention is for what is sent to the host and by it, too",
    ServiceLoopsOfNodes: "BGPConfigurations of single nodes name addresses of services, too",
    ServiceLoopsOfClusterOnly: "external addresses of services and those of load balancers may loop",
    OpenStackIgnored: "OpenStack's workloads meet policy when they ask for DHCP, DNS and metadata",
    OpenStackEverywhere: "DHCP and DNS of hosts are open to workloads where there is no OpenStack",
    OpenStackByTcp: "OpenStack's DNS is open over TCP",
    OpenStackMetadataAnywhere: "OpenStack's metadata service is open at every address",
    UnknownWorkloadOpen: "an interface of no known workload is open",
}
