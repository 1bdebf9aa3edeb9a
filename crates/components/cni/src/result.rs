//! The result of ADD in the shape of each version, and the results of other plugins.

use std::net::IpAddr;

use caracal_net::{Cidr, IfAddr, MacAddr};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

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
    /// The addresses.
    pub addresses: Vec<IfAddr>,
    /// The routes inside.
    pub routes: Vec<ResultRoute>,
    /// Name servers, as the configuration has them.
    pub dns: Option<Value>,
}

impl AddResult {
    /// The JSON for stdout.
    #[must_use]
    pub fn to_json(&self, version: Version) -> String {
        let mut interfaces = Vec::new();
        if let Some((name, mac)) = &self.host {
            interfaces.push(json!({ "name": name, "mac": mac }));
        }
        let mut inside = None;
        if let Some((name, mac, sandbox)) = &self.container {
            inside = Some(interfaces.len());
            interfaces.push(json!({ "name": name, "mac": mac, "sandbox": sandbox }));
        }
        let ips: Vec<Value> = self
            .addresses
            .iter()
            .map(|a| {
                let mut ip = serde_json::Map::new();
                if version < Version::V1_0_0 {
                    ip.insert("version".into(), if a.addr.is_ipv4() { "4" } else { "6" }.into());
                }
                ip.insert("address".into(), a.to_string().into());
                if let Some(index) = inside {
                    ip.insert("interface".into(), index.into());
                }
                Value::Object(ip)
            })
            .collect();
        let mut out = serde_json::Map::new();
        out.insert("cniVersion".into(), version.as_str().into());
        if !interfaces.is_empty() {
            out.insert("interfaces".into(), interfaces.into());
        }
        out.insert("ips".into(), ips.into());
        if !self.routes.is_empty() {
            out.insert("routes".into(), json!(self.routes));
        }
        out.insert("dns".into(), self.dns.clone().unwrap_or_else(|| json!({})));
        Value::Object(out).to_string()
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
}

#[derive(Deserialize)]
struct ForeignIp {
    address: IfAddr,
}

/// Reads the result of another plugin, or a `prevResult`.
///
/// # Errors
/// When it has not the shape of a result.
pub(crate) fn read_result(value: &Value) -> Result<AddResult, serde_json::Error> {
    let found = Foreign::deserialize(value)?;
    Ok(AddResult {
        addresses: found.ips.into_iter().map(|ip| ip.address).collect(),
        routes: found.routes,
        dns: found.dns,
        ..AddResult::default()
    })
}
