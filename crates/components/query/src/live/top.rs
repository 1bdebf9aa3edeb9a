//! `caracal top`.

use std::collections::HashMap;
use std::time::Duration;

use caracal_agent_api::v1::ListCountersRequest;
use caracal_api::Stamp;
use serde::Serialize;

use super::cli::{Format, Top};
use super::decider::Who;
use crate::Io;
use crate::agent::{Agent, refused};
use crate::failure::Failure;

/// What the agents counted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    nodes: Vec<Since>,
    rules: Vec<Line>,
    /// Rules that were left out of the list.
    more: usize,
    /// With `--watch`: nodes whose agents did not answer this time, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unanswered: Vec<Unanswered>,
}

#[derive(Debug, Serialize)]
struct Unanswered {
    node: String,
    why: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Since {
    node: String,
    /// Since when is counted.
    since: String,
}

/// A rule on a node.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    node: String,
    #[serde(flatten)]
    who: Who,
    packets: u64,
    bytes: u64,
    never_hit: bool,
    /// No packet gets to it on this node: rules before it match all that it matches.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    shadowed: bool,
    /// With `--watch`: since the look before.
    #[serde(skip_serializing_if = "Option::is_none")]
    new_packets: Option<u64>,
}

/// What a rule is, whatever was counted.
type Identity = (String, String, String);

impl Line {
    fn identity(&self) -> Identity {
        (self.node.clone(), self.who.title(), self.who.place())
    }

    /// The busiest comes first; of two that are alike, the name decides.
    fn rank(&self) -> (std::cmp::Reverse<(u64, u64)>, Identity) {
        let new = self.new_packets.unwrap_or(0);
        (std::cmp::Reverse((new, self.packets)), self.identity())
    }
}

/// Prints what was counted, once or again and again.
pub(super) async fn top(args: &Top, io: &mut Io) -> Result<(), Failure> {
    if args.watch == Some(0) {
        return Err(Failure::input("--watch 0: a look takes a second at least"));
    }
    let mut agents = super::agents(&args.agents).await?;
    let mut before: Option<HashMap<Identity, u64>> = None;
    let mut looks = 0;
    loop {
        // Who answered once is waited for.
        let mut answer = ask(&mut agents, args, looks > 0).await?;
        if args.watch.is_some() {
            let mut now: HashMap<Identity, u64> =
                answer.rules.iter().map(|l| (l.identity(), l.packets)).collect();
            let away = |node: &str| answer.unanswered.iter().any(|u| u.node == node);
            let kept = before.iter().flatten().filter(|((node, ..), _)| away(node));
            now.extend(kept.map(|(k, n)| (k.clone(), *n)));
            if let Some(before) = before.replace(now) {
                for line in &mut answer.rules {
                    let was = before.get(&line.identity()).copied().unwrap_or(0);
                    // A table that was made anew begins at 0.
                    line.new_packets = Some(line.packets.checked_sub(was).unwrap_or(line.packets));
                }
            }
        }
        answer.rules.sort_by_cached_key(Line::rank);
        if args.limit > 0 && answer.rules.len() > args.limit {
            answer.more = answer.rules.len() - args.limit;
            answer.rules.truncate(args.limit);
        }
        print(&answer, args, io)?;
        looks += 1;
        match args.watch {
            Some(seconds) if args.count.is_none_or(|n| looks < n) => {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            }
            _ => return Ok(()),
        }
    }
}

async fn ask(agents: &mut [Agent], args: &Top, patient: bool) -> Result<Answer, Failure> {
    let mut answer = Answer {
        nodes: Vec::new(),
        rules: Vec::new(),
        more: 0,
        unanswered: Vec::new(),
    };
    for agent in agents {
        let request = ListCountersRequest {
            never_hit: args.never_hit,
            namespace: args.namespace.clone(),
            name: args.name.clone(),
        };
        let reply = agent.client.list_counters(request).await;
        let reply = match reply {
            Ok(reply) => reply.into_inner(),
            Err(status) if patient && status.code() != tonic::Code::Unimplemented => {
                answer.unanswered.push(Unanswered {
                    node: agent.node.clone(),
                    why: refused(&agent.node, &status).to_string(),
                });
                continue;
            }
            Err(status) => return Err(refused(&agent.node, &status)),
        };
        let since = Stamp::from_seconds(i64::try_from(reply.since).unwrap_or(i64::MAX));
        answer.nodes.push(Since {
            node: agent.node.clone(),
            since: since.to_string(),
        });
        answer.rules.extend(reply.counters.into_iter().map(|c| Line {
            node: agent.node.clone(),
            who: c.decider.unwrap_or_default().into(),
            packets: c.packets,
            bytes: c.bytes,
            never_hit: c.never_hit,
            shadowed: c.shadowed,
            new_packets: None,
        }));
    }
    Ok(answer)
}

fn print(answer: &Answer, args: &Top, io: &mut Io) -> Result<(), Failure> {
    let text = match args.output {
        // One document a line, so that a program can read while more come.
        Format::Json if args.watch.is_some() => {
            serde_json::to_string(answer).map_err(std::io::Error::from)? + "\n"
        }
        Format::Json => serde_json::to_string_pretty(answer).map_err(std::io::Error::from)? + "\n",
        Format::Yaml if args.watch.is_some() => format!("---\n{}", caracal_api::value_to_yaml(answer)),
        Format::Yaml => caracal_api::value_to_yaml(answer),
        Format::Table => table(answer, args),
    };
    Ok(io.print(&text)?)
}

fn table(answer: &Answer, args: &Top) -> String {
    let several = answer.nodes.len() + answer.unanswered.len() > 1;
    let mut heading = vec!["PACKETS", "BYTES", "ACTION", "RULE", "TIER", "OF"];
    if args.watch.is_some() {
        heading.insert(0, "NEW");
    }
    if several {
        heading.insert(0, "NODE");
    }
    let mut rows = vec![heading.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for line in &answer.rules {
        let mut of = line.who.title();
        if line.shadowed {
            of += " (shadowed)";
        }
        let mut row = vec![
            line.packets.to_string(),
            line.bytes.to_string(),
            line.who.action.clone(),
            line.who.place(),
            line.who.tier.clone(),
            of,
        ];
        if args.watch.is_some() {
            row.insert(0, line.new_packets.map(|n| n.to_string()).unwrap_or_default());
        }
        if several {
            row.insert(0, line.node.clone());
        }
        rows.push(row);
    }
    let mut text = aligned(&rows);
    let since = answer.nodes.iter().map(|n| format!("{}: {}", n.node, n.since));
    text += &format!("counted since {}\n", since.collect::<Vec<_>>().join(", "));
    for away in &answer.unanswered {
        text += &format!("not among these, and asked again: {}\n", away.why);
    }
    if answer.more > 0 {
        text += &format!("{} more rules (--limit 0 shows all)\n", answer.more);
    }
    text
}

fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|c| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text += cells.join("  ").trim_end();
        text.push('\n');
    }
    text
}
