//! Endpoints and network sets, from what is written to what the engine works with.

use std::net::IpAddr;

use caracal_api::{
    EndpointPort, HostEndpointSpec, Object, Protocol, ResourceKey, WorkloadEndpointSpec, WorkloadPort,
};
use caracal_desired::{HostEndpoint, WorkloadEndpoint};
use caracal_ids::{ProfileName, WorkloadId};
use caracal_net::{Cidr, PerFamily, Proto};
use caracal_selector::LabelSet;

use crate::{
    cluster::{Port, Ports, content},
    faults::{Fault, Faults},
    index::Content,
    scope::{NAMESPACE, ORCHESTRATOR, SERVICE_ACCOUNT},
    vocabulary::Vocabulary,
};

/// The longest name that the kernel gives an interface, in bytes.
const INTERFACE_NAME_MAX: usize = 15;

/// What an endpoint or network set is as a member of IP sets.
pub(crate) struct Member {
    pub(crate) content: Content<Ports>,
    pub(crate) nets: Vec<Cidr>,
}

/// A workload endpoint as a member; nothing while it has no address, for then it does not count as existing.
pub(crate) fn workload(
    voc: &mut Vocabulary,
    key: &ResourceKey,
    object: &Object<WorkloadEndpointSpec>,
    faults: &mut Faults,
) -> Option<Member> {
    let spec = &object.spec;
    if spec.ip_networks.is_empty() {
        return None;
    }
    // A pod chooses its labels, but not what it is.
    let forced = voc.forced(
        [NAMESPACE, ORCHESTRATOR, SERVICE_ACCOUNT],
        [&key.namespace, &spec.orchestrator, &spec.service_account_name],
    );
    let own = LabelSet::new(&mut voc.interner, &object.metadata.labels);
    let profiles = spec.profiles.iter().map(|p| voc.word(p)).collect();
    let ports = named_ports(voc, spec.ports.iter().map(PortLine::from), faults);
    Some(Member {
        content: content(own, forced, profiles, ports),
        nets: nets(&spec.ip_networks, "spec.ipNetworks", faults),
    })
}

/// A host endpoint as a member.
pub(crate) fn host(voc: &mut Vocabulary, object: &Object<HostEndpointSpec>, faults: &mut Faults) -> Member {
    let spec = &object.spec;
    let labels = LabelSet::new(&mut voc.interner, &object.metadata.labels);
    let profiles = spec.profiles.iter().map(|p| voc.word(p)).collect();
    let ports = named_ports(voc, spec.ports.iter().map(PortLine::from), faults);
    let addresses = addresses(&spec.expected_ips, "spec.expectedIPs", faults);
    Member {
        content: content(labels, LabelSet::default(), profiles, ports),
        nets: addresses.into_iter().map(Cidr::host).collect(),
    }
}

/// A network set as a member. One in a namespace belongs to it like a pod; one without cannot pretend to.
pub(crate) fn network_set(
    voc: &mut Vocabulary,
    key: &ResourceKey,
    labels: &std::collections::BTreeMap<String, String>,
    texts: &[String],
    faults: &mut Faults,
) -> Member {
    if labels.contains_key(NAMESPACE) {
        faults.add(Fault::new(
            format!("metadata.labels[{NAMESPACE}]"),
            "the label is not allowed here, and ignored: it follows from the object's namespace",
        ));
    }
    let own = labels.iter().filter(|(name, _)| *name != NAMESPACE);
    let own = LabelSet::new(&mut voc.interner, own);
    let forced = LabelSet::new(&mut voc.interner, key.namespace().map(|ns| (NAMESPACE, ns)));
    Member {
        content: content(own, forced, Box::default(), Vec::new()),
        nets: nets(texts, "spec.nets", faults),
    }
}

/// A declared port, whoever declares it.
struct PortLine<'a> {
    name: &'a str,
    protocol: &'a Protocol,
    port: u16,
}

impl<'a> From<&'a WorkloadPort> for PortLine<'a> {
    fn from(p: &'a WorkloadPort) -> Self {
        Self {
            name: &p.name,
            protocol: &p.protocol,
            port: p.port,
        }
    }
}

impl<'a> From<&'a EndpointPort> for PortLine<'a> {
    fn from(p: &'a EndpointPort) -> Self {
        Self {
            name: &p.name,
            protocol: &p.protocol,
            port: p.port,
        }
    }
}

fn named_ports<'a>(
    voc: &mut Vocabulary,
    lines: impl Iterator<Item = PortLine<'a>>,
    faults: &mut Faults,
) -> Vec<Port> {
    let mut ports = Vec::new();
    for (n, line) in lines.enumerate().filter(|(_, line)| !line.name.is_empty()) {
        let proto = line.protocol.proto().filter(|p: &Proto| p.has_ports());
        let known = proto.ok_or_else(|| {
            let why = format!("{} is not TCP, UDP or SCTP", line.protocol);
            Fault::new(format!("spec.ports[{n}].protocol"), why)
        });
        ports.extend(faults.take(known).map(|proto| Port {
            name: voc.word(line.name),
            proto,
            port: line.port,
        }));
    }
    ports
}

fn nets(texts: &[String], field: &str, faults: &mut Faults) -> Vec<Cidr> {
    let mut found = Vec::with_capacity(texts.len());
    for (n, text) in texts.iter().enumerate() {
        match text.parse::<Cidr>() {
            Ok(net) => found.push(net),
            Err(e) => faults.add(Fault::new(format!("{field}[{n}]"), format!("{e}"))),
        }
    }
    found
}

fn address(text: &str, field: &str) -> Result<IpAddr, Fault> {
    text.parse()
        .map_err(|_| Fault::new(field, format!("{text:?} is not an IPv4 or IPv6 address")))
}

fn addresses(texts: &[String], field: &str, faults: &mut Faults) -> Vec<IpAddr> {
    let numbered = texts.iter().enumerate();
    let parsed = numbered.map(|(n, text)| address(text, &format!("{field}[{n}]")));
    parsed.filter_map(|a| faults.take(a)).collect()
}

/// A workload endpoint of this node, without its policies. Nothing if anything is wrong with it: its interface is then
/// unknown, and what is unknown is dropped.
pub(crate) fn local_workload(
    key: &ResourceKey,
    object: &Object<WorkloadEndpointSpec>,
    faults: &mut Faults,
) -> Option<WorkloadEndpoint> {
    let spec = &object.spec;
    if spec.interface_name.is_empty() {
        faults.add(Fault::new("spec.interfaceName", "it is empty"));
    }
    let mac = (!spec.mac.is_empty()).then(|| {
        let parsed = spec.mac.parse();
        faults.take(parsed.map_err(|e| Fault::new("spec.mac", format!("{e}"))))
    });
    let mut addresses: PerFamily<Vec<Cidr>> = PerFamily::default();
    // Bad ones were noted when the endpoint was read as a member.
    for net in spec.ip_networks.iter().filter_map(|t| t.parse::<Cidr>().ok()) {
        addresses.get_mut(net.family()).push(net);
    }
    let mut translations = Vec::new();
    for (n, nat) in spec.ip_nats.iter().enumerate() {
        let field = |name: &str| format!("spec.ipNATs[{n}].{name}");
        let external = faults.take(address(&nat.external_ip, &field("externalIP")));
        let internal = faults.take(address(&nat.internal_ip, &field("internalIP")));
        translations.extend(external.zip(internal));
    }
    let allowed_sources = nets(
        &spec.allow_spoofed_source_prefixes,
        "spec.allowSpoofedSourcePrefixes",
        faults,
    );
    let profiles = profiles(&spec.profiles, faults);
    if !faults.is_empty() {
        return None;
    }
    Some(WorkloadEndpoint {
        id: WorkloadId {
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        },
        interface: spec.interface_name.as_str().into(),
        container_id: spec.container_id.as_str().into(),
        mac: mac.flatten(),
        addresses,
        nats: translations,
        allowed_sources,
        tiers: Vec::new(),
        profiles,
        qos: spec.qos_controls.clone(),
    })
}

/// A host endpoint of this node, without its policies. What is wrong with it is left out and the rest stays: without a
/// host endpoint its interface would be open.
pub(crate) fn local_host(
    key: &ResourceKey,
    object: &Object<HostEndpointSpec>,
    faults: &mut Faults,
) -> HostEndpoint {
    let spec = &object.spec;
    let interface = spec.interface_name.as_str();
    if interface.len() > INTERFACE_NAME_MAX {
        let why =
            format!("{interface:?} is no interface's name: at most {INTERFACE_NAME_MAX} bytes are allowed");
        faults.add(Fault::new("spec.interfaceName", why));
    } else if interface.is_empty() && spec.expected_ips.is_empty() {
        let why = "an interface's name, * for all, or an address in expectedIPs is needed";
        faults.add(Fault::new("spec.interfaceName", why));
    }
    let good = spec.expected_ips.iter().filter_map(|t| t.parse().ok());
    HostEndpoint {
        name: key.name.clone(),
        interface: interface.into(),
        // Bad ones were noted when the endpoint was read as a member.
        expected_ips: good.collect(),
        tiers: Vec::new(),
        untracked: Vec::new(),
        pre_dnat: Vec::new(),
        forward: Vec::new(),
        profiles: profiles(&spec.profiles, faults),
    }
}

/// A name that cannot be one stands for a profile that cannot exist, which denies.
fn profiles(names: &[String], faults: &mut Faults) -> Vec<ProfileName> {
    let numbered = names.iter().enumerate();
    let read = numbered.filter_map(|(n, text)| {
        ProfileName::new(text)
            .or_else(|e| {
                faults.add(Fault::new(format!("spec.profiles[{n}]"), format!("{e}")));
                ProfileName::new(stand_in(text))
            })
            .ok()
    });
    read.collect()
}

/// A valid name in the place of one that is not. No object has it: its colon is refused wherever objects are made.
pub(crate) fn stand_in(text: &str) -> String {
    let allowed = |c: char| {
        if c.is_control() || c.is_whitespace() || c == '/' {
            '_'
        } else {
            c
        }
    };
    let short = text.chars().take(50).map(allowed);
    format!("invalid:{}", short.collect::<String>())
}
