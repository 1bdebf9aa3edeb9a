//! The truth-table file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use caracal_api::{Resource, decode};
use caracal_oracle::Verdict;
use serde::Deserialize;
use serde_json::Value;

use super::objects;
use crate::prober::Transport;

/// The first two bytes of everything that gzip makes.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The most that a file may hold once unpacked.
const MAX_BYTES: u64 = 1 << 30;

/// Problems that are told at once.
const SHOWN: usize = 20;

/// The account of pods that name none.
const DEFAULT_ACCOUNT: &str = "default";

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum TableError {
    /// It cannot be read.
    #[error("reading {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// It is too large.
    #[error("{}: more than {MAX_BYTES} bytes (unpacked)", .0.display())]
    TooLarge(PathBuf),
    /// It is no JSON.
    #[error("{}: not JSON: {source}", path.display())]
    Syntax {
        path: PathBuf,
        source: serde_json::Error,
    },
    /// What it says is wrong.
    #[error("{}: {}", path.display(), listed(.problems))]
    Content { path: PathBuf, problems: Vec<String> },
}

fn listed(problems: &[String]) -> String {
    if let [one] = problems {
        return one.clone();
    }
    let mut text = format!("{} problems", problems.len());
    for p in problems.iter().take(SHOWN) {
        text += "\n  ";
        text += p;
    }
    if problems.len() > SHOWN {
        text += "\n  …";
    }
    text
}

/// A case: steps that follow one another.
#[derive(Debug)]
pub(super) struct Case {
    /// Its place in the file, counted from 1.
    pub(super) number: usize,
    /// What it is about.
    pub(super) description: String,
    /// The steps.
    pub(super) steps: Vec<Step>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "case {} {:?}", self.number, self.description)
    }
}

/// A whole state, and what is expected of it.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// Labels by namespace.
    pub(super) namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// The pods.
    pub(super) pods: Vec<Pod>,
    /// Policies, tiers and sets as Calico's objects, defaulted and valid.
    pub(super) objects: Vec<Resource>,
    /// Who should reach whom.
    pub(super) probes: Vec<Probe>,
}

impl Step {
    /// The ports that every pod offers: those of all probes.
    pub(super) fn ports(&self) -> BTreeSet<(&str, u16, Transport)> {
        self.probes
            .iter()
            .map(|p| (p.port_name.as_str(), p.port, p.protocol))
            .collect()
    }
}

/// A pod.
#[derive(Debug, Clone)]
pub(super) struct Pod {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) addr: IpAddr,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) service_account: String,
}

impl Pod {
    /// `namespace/name`.
    pub(super) fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// A connection that is tried, and what should come of it.
#[derive(Debug)]
pub(super) struct Probe {
    /// Who tries: a place in the step's pods.
    pub(super) from: usize,
    /// Whom: a place in the step's pods.
    pub(super) to: usize,
    pub(super) protocol: Transport,
    pub(super) port: u16,
    /// The name that policies may use for the port; may be empty.
    pub(super) port_name: String,
    /// The verdict at `to`.
    pub(super) ingress: Verdict,
    /// The verdict at `from`.
    pub(super) egress: Verdict,
    /// What becomes of the connection.
    pub(super) combined: Verdict,
}

impl Probe {
    /// Whether a pod asks itself: that is not judged.
    pub(super) fn is_to_itself(&self) -> bool {
        self.from == self.to
    }
}

/// Reads a file, packed or plain; `-` is the standard input.
pub(super) fn read(path: &Path) -> Result<Vec<Case>, TableError> {
    let failed = |source| TableError::Read {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        std::io::stdin().take(MAX_BYTES + 1).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|f| f.take(MAX_BYTES + 1).read_to_end(&mut bytes))
    }
    .map_err(failed)?;
    if bytes.starts_with(&GZIP) {
        let mut plain = Vec::new();
        flate2::read::MultiGzDecoder::new(bytes.as_slice())
            .take(MAX_BYTES + 1)
            .read_to_end(&mut plain)
            .map_err(failed)?;
        bytes = plain;
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(TableError::TooLarge(path.to_owned()));
    }
    let value = serde_json::from_slice(&bytes).map_err(|source| TableError::Syntax {
        path: path.to_owned(),
        source,
    })?;
    cases(&value).map_err(|problems| TableError::Content {
        path: path.to_owned(),
        problems,
    })
}

fn cases(value: &Value) -> Result<Vec<Case>, Vec<String>> {
    let Some(list) = value.as_array() else {
        return Err(vec![
            "expected a list of cases: [{\"Description\": …, \"Steps\": […]}, …]".to_owned(),
        ]);
    };
    let mut problems = Vec::new();
    let mut cases = Vec::new();
    for (i, value) in list.iter().enumerate() {
        let number = i + 1;
        let description = value.get("Description").and_then(Value::as_str);
        let place = format!("case {number} {:?}", description.unwrap_or_default());
        let raw = match decode::<RawCase>(value) {
            Ok((raw, unknown)) if unknown.is_empty() => raw,
            Ok((_, found)) | Err(found) => {
                problems.extend(found.iter().map(|p| format!("{place}: {p}")));
                continue;
            }
        };
        let mut steps = Vec::new();
        for (n, step) in raw.steps.into_iter().enumerate() {
            let at = Place {
                text: format!("{place}, step {}", n + 1),
                problems: &mut problems,
            };
            steps.push(read_step(step, at));
        }
        cases.push(Case {
            number,
            description: raw.description.unwrap_or_default(),
            steps,
        });
    }
    if problems.is_empty() {
        Ok(cases)
    } else {
        Err(problems)
    }
}

/// Where in the file reading is, and what was found wrong.
struct Place<'a> {
    text: String,
    problems: &'a mut Vec<String>,
}

impl Place<'_> {
    fn refuse(&mut self, what: impl fmt::Display) {
        self.problems.push(format!("{}, {what}", self.text));
    }
}

fn read_step(raw: RawStep, mut at: Place<'_>) -> Step {
    let namespaces = raw.namespaces.unwrap_or_default();
    let mut step = Step {
        namespaces: namespaces
            .into_iter()
            .map(|(name, labels)| (name, labels.unwrap_or_default()))
            .collect(),
        ..Step::default()
    };
    let mut places = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    for (i, raw) in raw.pods.unwrap_or_default().into_iter().enumerate() {
        let Some(pod) = read_pod(raw, &step.namespaces, &mut at) else {
            continue;
        };
        if places.insert(pod.id(), step.pods.len()).is_some() {
            at.refuse(format_args!("Pods[{i}]: there are two pods {}", pod.id()));
        }
        if let Some(other) = addresses.insert(pod.addr, pod.id()) {
            at.refuse(format_args!(
                "pod {}: IP: {} is also that of {other}; give each pod an address of its own",
                pod.id(),
                pod.addr
            ));
        }
        step.pods.push(pod);
    }
    for (i, raw) in raw.probes.unwrap_or_default().into_iter().enumerate() {
        match read_probe(raw, &places) {
            Ok(probe) => step.probes.push(probe),
            Err(why) => at.refuse(format_args!("Probes[{i}]: {why}")),
        }
    }
    let (objects, problems) = objects::read(&raw.policies.unwrap_or_default());
    problems.into_iter().for_each(|p| at.refuse(p));
    step.objects = objects;
    objects::problems(&step).into_iter().for_each(|p| at.refuse(p));
    step
}

fn read_pod(
    raw: RawPod,
    namespaces: &BTreeMap<String, BTreeMap<String, String>>,
    at: &mut Place<'_>,
) -> Option<Pod> {
    let id = format!("{}/{}", raw.namespace, raw.name);
    if !namespaces.contains_key(&raw.namespace) {
        at.refuse(format_args!(
            "pod {id}: Namespace: {:?} is not among the step's Namespaces; add it there",
            raw.namespace
        ));
    }
    let Ok(addr) = raw.ip.parse() else {
        at.refuse(format_args!(
            "pod {id}: IP: {:?} is not an address such as 192.0.2.1",
            raw.ip
        ));
        return None;
    };
    Some(Pod {
        namespace: raw.namespace,
        name: raw.name,
        addr,
        labels: raw.labels.unwrap_or_default(),
        service_account: raw
            .service_account
            .filter(|a| !a.is_empty())
            .unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned()),
    })
}

fn read_probe(raw: RawProbe, places: &BTreeMap<String, usize>) -> Result<Probe, String> {
    let pod = |field: &str, id: &str| {
        let missing = || format!("{field}: there is no pod {id:?} in this step; pods are namespace/pod");
        places.get(id).copied().ok_or_else(missing)
    };
    let protocol = Transport::parse(&raw.proto).ok_or_else(|| {
        format!(
            "Proto: {:?} is not allowed; allowed are TCP, UDP, SCTP",
            raw.proto
        )
    })?;
    let port = u16::try_from(raw.port).ok().filter(|p| *p > 0);
    Ok(Probe {
        from: pod("From", &raw.from)?,
        to: pod("To", &raw.to)?,
        protocol,
        port: port.ok_or_else(|| format!("Port: {} is not a port: 1 to 65535", raw.port))?,
        port_name: raw.port_name.unwrap_or_default(),
        ingress: raw.ingress,
        egress: raw.egress,
        combined: raw.combined,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawCase {
    description: Option<String>,
    #[serde(rename = "Tags")]
    _tags: Option<Vec<String>>,
    steps: Vec<RawStep>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawStep {
    namespaces: Option<BTreeMap<String, Option<BTreeMap<String, String>>>>,
    pods: Option<Vec<RawPod>>,
    policies: Option<Vec<Value>>,
    probes: Option<Vec<RawProbe>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawPod {
    namespace: String,
    name: String,
    #[serde(rename = "IP")]
    ip: String,
    labels: Option<BTreeMap<String, String>>,
    service_account: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawProbe {
    from: String,
    to: String,
    proto: String,
    port: i64,
    port_name: Option<String>,
    ingress: Verdict,
    egress: Verdict,
    combined: Verdict,
}
