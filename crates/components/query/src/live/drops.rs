//! `caracal watch drops`.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use caracal_agent_api::v1::{DeniedPacket, WatchDeniedRequest};
use caracal_api::Stamp;
use caracal_net::Proto;
use serde::Serialize;
use tokio::sync::mpsc;

use super::cli::{Drops, Lines};
use super::decider::Who;
use super::names::Names;
use crate::Io;
use crate::agent::{Agent, refused};
use crate::failure::Failure;

/// Packets that wait to be printed; when there are more the agents count what they lose.
const WAITING: usize = 256;
/// An agent that ended is asked again after this, then after twice as long, up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// A denied packet as data: a line of `-o json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Drop {
    at: String,
    node: String,
    endpoint: String,
    decided_by: Who,
    protocol: String,
    source: Side,
    destination: Side,
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp: Option<Icmp>,
    #[serde(skip_serializing_if = "String::is_empty")]
    interface_in: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    interface_out: String,
    length: u32,
    /// Denied packets before this one that came too fast to be told.
    lost: u64,
}

/// A time in which nobody told of an agent's packets: a line of `-o json`.
#[derive(Debug, Serialize)]
struct Gap {
    gap: Unseen,
}

#[derive(Debug, Serialize)]
struct Unseen {
    node: String,
    from: String,
    to: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Side {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u32>,
}

#[derive(Debug, Serialize)]
struct Icmp {
    r#type: u32,
    code: u32,
}

/// Prints denied packets until the reader goes or as many were printed as were asked for. An agent that ends is waited for,
/// unless the command line says not to.
pub(super) async fn drops(args: &Drops, io: &mut Io) -> Result<(), Failure> {
    let pods = args.pod.iter().map(|p| pod(p)).collect::<Result<Vec<_>, _>>()?;
    let agents = super::agents(&args.agents).await?;
    let mut names = Names::new(if args.numeric { None } else { store(args, io) });
    names.prepare(&[]).await;
    let (sender, mut packets) = mpsc::channel(WAITING);
    let nodes: Vec<String> = agents.iter().map(|a| a.node.clone()).collect();
    for agent in agents {
        tokio::spawn(follow(agent, sender.clone(), !args.no_reconnect));
    }
    drop(sender);
    io.complain(&format!(
        "watching {}: packets that policy denies from now on",
        nodes.join(", ")
    ));
    let mut printed = 0;
    while args.count.is_none_or(|count| printed < count) {
        let Some(packet) = packets.recv().await else {
            return Err(Failure::input("the agents ended"));
        };
        let (node, packet) = match packet? {
            News::Packet(node, packet) => (node, packet),
            News::Lost(node, why) => {
                io.complain(&format!(
                    "note: {why}; packets that {node} denies are not told until it is back"
                ));
                continue;
            }
            News::Back(unseen) => {
                io.complain(&format!(
                    "note: the agent of {} is back: what was denied there from {} to {} was not told",
                    unseen.node, unseen.from, unseen.to
                ));
                if args.output == Lines::Json {
                    let line = serde_json::to_string(&Gap { gap: unseen }).map_err(std::io::Error::from)?;
                    io.print(&format!("{line}\n"))?;
                }
                continue;
            }
        };
        let sides = [&packet.source, &packet.destination].map(|a| a.parse().ok());
        names.prepare(&sides).await;
        if let Some(trouble) = names.trouble.take() {
            io.complain(&format!("note: {trouble}"));
        }
        let told = told(&node, *packet, sides, &names);
        if !pods.is_empty() && !pods.iter().any(|p| concerns(&told, p)) {
            continue;
        }
        let line = match args.output {
            Lines::Text => text(&told),
            Lines::Json => serde_json::to_string(&told).map_err(std::io::Error::from)?,
        };
        io.print(&format!("{line}\n"))?;
        printed += 1;
    }
    Ok(())
}

fn store(args: &Drops, io: &mut Io) -> Option<std::sync::Arc<dyn caracal_store::Store>> {
    if let Some(store) = &io.store {
        return Some(store.clone());
    }
    match caracal_datastore::from_process(args.config.as_deref()) {
        Ok((_, store)) => Some(store),
        Err(e) => {
            io.complain(&format!("note: pods have no names: {e}"));
            None
        }
    }
}

/// `NAMESPACE/NAME` or `NAMESPACE/`.
fn pod(text: &str) -> Result<String, Failure> {
    match text.split_once('/') {
        Some((namespace, _)) if !namespace.is_empty() => Ok(text.to_owned()),
        _ => Err(Failure::input(format!(
            "--pod {text}: a pod is NAMESPACE/NAME; NAMESPACE/ is all of a namespace"
        ))),
    }
}

fn concerns(told: &Drop, pod: &str) -> bool {
    let fits = |name: &str| name == pod || (pod.ends_with('/') && name.starts_with(pod));
    let sides = [&told.source.name, &told.destination.name];
    fits(&told.endpoint) || sides.into_iter().flatten().any(|n| fits(n))
}

/// What becomes of an agent.
enum News {
    /// It denied a packet.
    Packet(String, Box<DeniedPacket>),
    /// It ended, and why.
    Lost(String, String),
    /// It tells again.
    Back(Unseen),
}

type Told = Result<News, Failure>;

async fn follow(mut agent: Agent, sender: mpsc::Sender<Told>, come_back: bool) {
    let node = agent.node.clone();
    let mut pause = AGAIN.0;
    // Since when nothing is told, once that has been said.
    let mut lost: Option<String> = None;
    loop {
        let why = match agent.client.watch_denied(WatchDeniedRequest::default()).await {
            Ok(stream) => {
                let mut stream = stream.into_inner();
                if let Some(from) = lost.take() {
                    let (node, to) = (node.clone(), now());
                    if sender
                        .send(Ok(News::Back(Unseen { node, from, to })))
                        .await
                        .is_err()
                    {
                        return;
                    }
                }
                loop {
                    match stream.message().await {
                        Ok(Some(packet)) => {
                            pause = AGAIN.0;
                            if sender
                                .send(Ok(News::Packet(node.clone(), Box::new(packet))))
                                .await
                                .is_err()
                            {
                                return;
                            }
                        }
                        Ok(None) => break Failure::input(format!("the agent of {node} ended")),
                        Err(status) => break refused(&node, &status),
                    }
                }
            }
            Err(status) if lost.is_none() || will_not(&status) => {
                // Who does not listen any more has ended.
                let _ = sender.send(Err(refused(&node, &status))).await;
                return;
            }
            Err(status) => refused(&node, &status),
        };
        if !come_back {
            let _ = sender.send(Err(why)).await;
            return;
        }
        if lost.is_none() {
            lost = Some(now());
            if sender
                .send(Ok(News::Lost(node.clone(), why.to_string())))
                .await
                .is_err()
            {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(AGAIN.1),
            () = sender.closed() => return,
        }
    }
}

/// An agent that came back as another version, or that may not be asked, does not change its mind.
fn will_not(status: &tonic::Status) -> bool {
    matches!(
        status.code(),
        tonic::Code::Unimplemented | tonic::Code::PermissionDenied | tonic::Code::Unauthenticated
    )
}

fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    moment(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn told(node: &str, p: DeniedPacket, sides: [Option<IpAddr>; 2], names: &Names) -> Drop {
    let proto = u8::try_from(p.protocol).ok().map(Proto);
    let ports = proto.is_some_and(Proto::has_ports);
    let is_icmp = proto.is_some_and(|p| p == Proto::ICMP || p == Proto::ICMPV6);
    let side = |address: &str, at: usize, port: u32| Side {
        name: names.of_address(sides[at]).map(str::to_owned),
        address: address.to_owned(),
        port: ports.then_some(port),
    };
    Drop {
        at: moment(p.at),
        node: node.to_owned(),
        endpoint: names.of_endpoint(&p.namespace, &p.name),
        source: side(&p.source, 0, p.source_port),
        destination: side(&p.destination, 1, p.destination_port),
        decided_by: p.decider.unwrap_or_default().into(),
        protocol: proto.map_or_else(|| p.protocol.to_string(), |p| p.to_string()),
        icmp: is_icmp.then_some(Icmp {
            r#type: p.icmp_type,
            code: p.icmp_code,
        }),
        interface_in: p.interface_in,
        interface_out: p.interface_out,
        length: p.length,
        lost: p.lost,
    }
}

/// RFC 3339 with microseconds.
fn moment(nanoseconds: u64) -> String {
    let seconds = i64::try_from(nanoseconds / 1_000_000_000).unwrap_or(i64::MAX);
    let whole = Stamp::from_seconds(seconds).to_string();
    let micros = nanoseconds % 1_000_000_000 / 1_000;
    format!("{}.{micros:06}Z", whole.trim_end_matches('Z'))
}

fn text(told: &Drop) -> String {
    let side = |s: &Side| {
        let bare = match s.port {
            Some(port) if s.address.contains(':') => format!("[{}]:{port}", s.address),
            Some(port) => format!("{}:{port}", s.address),
            None => s.address.clone(),
        };
        match &s.name {
            Some(name) => format!("{name} ({bare})"),
            None => bare,
        }
    };
    let who = &told.decided_by;
    let place = match who.place() {
        place if place.is_empty() => String::new(),
        place => format!(" {place}"),
    };
    let tier = if who.tier.is_empty() || who.what == "endOfTier" {
        String::new()
    } else {
        format!(" (tier {})", who.tier)
    };
    let endpoint = if told.endpoint.is_empty() {
        String::new()
    } else {
        format!(" at {}", told.endpoint)
    };
    let icmp = told
        .icmp
        .as_ref()
        .map(|i| format!(" type {} code {}", i.r#type, i.code))
        .unwrap_or_default();
    let lost = if told.lost > 0 {
        format!(" [{} before it were not told]", told.lost)
    } else {
        String::new()
    };
    format!(
        "{} {}{endpoint}: {}{icmp} {} -> {}, denied by {}{place}{tier}{lost}",
        told.at,
        told.node,
        told.protocol,
        side(&told.source),
        side(&told.destination),
        who.title(),
    )
}
