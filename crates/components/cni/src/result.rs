//! The result of ADD in the shape of each version, and the results of other plugins.

use std::net::IpAddr;

use caracal_net::{Cidr, Family, IfAddr, MacAddr};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::version::Version;

/// A route in a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultRoute {
    /// Where to.
    pub dst: Cidr,
    /// By which next hop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
}

/// What ADD made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AddResult {
    /// Name and MAC of the host's side; none in the result of an IPAM plugin.
    pub host: Option<(String, MacAddr)>,
    /// Name, MAC and namespace of the container's side.
    pub container: Option<(String, MacAddr, String)>,
    /// MTU of both sides; 0 in the result of an IPAM plugin.
    pub mtu: u32,
    /// The addresses.
    pub addresses: Vec<IfAddr>,
    /// The routes inside.
    pub routes: Vec<ResultRoute>,
    /// Name servers, as the configuration has them.
    pub dns: Option<Value>,
    /// The result of the plugins before this one in a chain, which is passed on with ours after it.
    pub before: Option<Value>,
}

impl AddResult {
    /// The JSON for stdout.
    #[must_use]
    pub fn to_json(&self, version: Version) -> String {
        let body = if version < Version::V0_3_0 {
            self.single_addresses()
        } else {
            self.lists(version)
        };
        // First, for a reader's sake.
        let mut out = Map::new();
        out.insert("cniVersion".into(), version.as_str().into());
        out.extend(body.into_iter().filter(|(key, _)| key != "cniVersion"));
        Value::Object(out).to_string()
    }

    /// The shape before 0.3.0: an address per family and no interfaces.
    fn single_addresses(&self) -> Map<String, Value> {
        let mut out = self.earlier();
        for (family, key) in [(Family::V4, "ip4"), (Family::V6, "ip6")] {
            let Some(address) = self.addresses.iter().find(|a| Family::of(a.addr) == family) else {
                continue;
            };
            let routes: Vec<_> = self.routes.iter().filter(|r| r.dst.family() == family).collect();
            out.insert(key.into(), json!({ "ip": address.to_string(), "routes": routes }));
        }
        out.insert("dns".into(), self.dns(&out));
        out
    }

    /// The shape since 0.3.0.
    fn lists(&self, version: Version) -> Map<String, Value> {
        let mut out = self.earlier();
        let list = |key: &str| {
            let earlier = out.get(key).and_then(Value::as_array);
            earlier.cloned().unwrap_or_default()
        };
        let (mut interfaces, mut ips, mut routes) = (list("interfaces"), list("ips"), list("routes"));
        let interface = |name: &str, mac: MacAddr, sandbox: Option<&str>| {
            let mut one = Map::new();
            one.insert("name".into(), name.into());
            one.insert("mac".into(), mac.to_string().into());
            if version >= Version::V1_1_0 && self.mtu > 0 {
                one.insert("mtu".into(), self.mtu.into());
            }
            if let Some(sandbox) = sandbox {
                one.insert("sandbox".into(), sandbox.into());
            }
            Value::Object(one)
        };
        if let Some((name, mac)) = &self.host {
            interfaces.push(interface(name, *mac, None));
        }
        let mut inside = None;
        if let Some((name, mac, sandbox)) = &self.container {
            inside = Some(interfaces.len());
            interfaces.push(interface(name, *mac, Some(sandbox)));
        }
        for a in &self.addresses {
            let mut ip = Map::new();
            if version < Version::V1_0_0 {
                ip.insert("version".into(), if a.addr.is_ipv4() { "4" } else { "6" }.into());
            }
            ip.insert("address".into(), a.to_string().into());
            if let Some(index) = inside {
                ip.insert("interface".into(), index.into());
            }
            ips.push(Value::Object(ip));
        }
        routes.extend(self.routes.iter().map(|r| json!(r)));
        if !interfaces.is_empty() {
            out.insert("interfaces".into(), interfaces.into());
        }
        out.insert("ips".into(), ips.into());
        if !routes.is_empty() {
            out.insert("routes".into(), routes.into());
        }
        out.insert("dns".into(), self.dns(&out));
        out
    }

    fn earlier(&self) -> Map<String, Value> {
        let earlier = self.before.as_ref().and_then(Value::as_object);
        earlier.cloned().unwrap_or_default()
    }

    fn dns(&self, out: &Map<String, Value>) -> Value {
        let dns = self.dns.as_ref().or_else(|| out.get("dns"));
        dns.cloned().unwrap_or_else(|| json!({}))
    }
}

#[derive(Deserialize)]
struct Foreign {
    #[serde(default)]
    ips: Vec<ForeignIp>,
    #[serde(default)]
    routes: Vec<ResultRoute>,
    #[serde(default)]
    dns: Option<Value>,
    ip4: Option<OldIp>,
    ip6: Option<OldIp>,
}

#[derive(Deserialize)]
struct ForeignIp {
    address: IfAddr,
    interface: Option<usize>,
}

/// An address before 0.3.0.
#[derive(Deserialize)]
struct OldIp {
    ip: IfAddr,
    #[serde(default)]
    routes: Vec<ResultRoute>,
}

/// Reads the result of another plugin, of any version.
///
/// # Errors
/// When it has not the shape of a result.
pub(crate) fn read_result(value: &Value) -> Result<AddResult, serde_json::Error> {
    Ok(plain(Foreign::deserialize(value)?, |_| true))
}

/// Reads a `prevResult` as far as it is about the interface `ifname` inside, which may be one of several in a chain.
///
/// # Errors
/// When it has not the shape of a result.
pub(crate) fn read_previous(value: &Value, ifname: &str) -> Result<AddResult, serde_json::Error> {
    let found = Foreign::deserialize(value)?;
    let interfaces = value.get("interfaces").and_then(Value::as_array);
    let ours = |index: Option<usize>| {
        let interface = index.and_then(|i| interfaces?.get(i));
        let name = interface.and_then(|i| i.get("name")).and_then(Value::as_str);
        name.is_none_or(|n| n == ifname)
    };
    Ok(plain(found, ours))
}

fn plain(found: Foreign, ours: impl Fn(Option<usize>) -> bool) -> AddResult {
    let mut result = AddResult {
        routes: found.routes,
        dns: found.dns,
        ..AddResult::default()
    };
    let list = found.ips.into_iter().filter(|ip| ours(ip.interface));
    result.addresses = list.map(|ip| ip.address).collect();
    for old in found.ip4.into_iter().chain(found.ip6) {
        result.addresses.push(old.ip);
        result.routes.extend(old.routes);
    }
    result
}
