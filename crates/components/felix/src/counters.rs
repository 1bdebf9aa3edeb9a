//! What each rule has decided: the kernel's counters under the names of policies.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use caracal_agent_api::v1::{self, ListCountersReply, ListCountersRequest, RuleCounter, decider};
use caracal_net::Family;
use caracal_nft::Reader;
use caracal_rules::{Counted, What, ir::CounterName};
use tokio::sync::oneshot;

use crate::agent::{Order, Orders};

/// Packets and bytes.
type Count = (u64, u64);

/// What was told of a counter, so that it never goes back: others may reset it, and a table that takes the place of
/// another one lacks what was counted while it was written.
#[derive(Debug, Default, Clone, Copy)]
struct Told {
    last: Count,
    before: Count,
}

impl Told {
    fn next(&mut self, now: Count) -> Count {
        let fell = |last: u64, now: u64| last.saturating_sub(now);
        self.before.0 += fell(self.last.0, now.0);
        self.before.1 += fell(self.last.1, now.1);
        self.last = now;
        (now.0 + self.before.0, now.1 + self.before.1)
    }
}

/// What the kernel said.
#[derive(Debug, Default)]
struct Reading {
    counts: BTreeMap<CounterName, Count>,
    since: u64,
}

/// A counter with its value; `None` when no packet can get to what it counts.
type Row = (Counted, Option<Count>);

/// The way to the counters.
#[derive(Debug, Clone)]
pub(crate) struct Counters {
    orders: Orders,
    told: Arc<Mutex<BTreeMap<(Family, CounterName), Told>>>,
}

impl Counters {
    pub(crate) fn new(orders: Orders) -> Self {
        Self {
            orders,
            told: Arc::default(),
        }
    }

    /// Reads all counters, and since when they count.
    async fn read(&self) -> Result<(Vec<Row>, u64), String> {
        let (reply, answer) = oneshot::channel();
        let ending = || "the agent is ending".to_owned();
        self.orders
            .send(Order::Counted(reply))
            .await
            .map_err(|_| ending())?;
        let counting = answer.await.map_err(|_| ending())?;
        let told = Arc::clone(&self.told);
        // Not the dataplane's thread: a change does not wait for readers.
        let work = move || rows(counting.counted(), kernel(&told)?);
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|e| e.to_string())?
    }

    /// The answer to a request of the agent API.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub(crate) async fn list(&self, wish: &ListCountersRequest) -> Result<ListCountersReply, String> {
        let (mut rows, since) = self.read().await?;
        // As they stand in their policies: the names of counters say nothing of that.
        rows.sort_by(|(a, _), (b, _)| (&a.what, !a.ingress, a.action).cmp(&(&b.what, !b.ingress, b.action)));
        let counters = rows.into_iter().filter_map(|(counted, count)| {
            let decider = decider(&counted);
            let (packets, bytes) = count.unwrap_or_default();
            let fits = (!wish.never_hit || packets == 0)
                && (wish.namespace.is_empty() || wish.namespace == decider.namespace)
                && (wish.name.is_empty() || wish.name == decider.name);
            fits.then_some(RuleCounter {
                decider: Some(decider),
                packets,
                bytes,
                never_hit: packets == 0,
                shadowed: count.is_none(),
            })
        });
        Ok(ListCountersReply {
            counters: counters.collect(),
            since,
        })
    }

    /// Prometheus' text: what has been hit at least once.
    pub(crate) async fn text(&self) -> String {
        match self.read().await {
            Ok((rows, _)) => figures(&rows),
            Err(e) => {
                tracing::debug!("reading counters: {e}");
                String::new()
            }
        }
    }
}

fn kernel(told: &Mutex<BTreeMap<(Family, CounterName), Told>>) -> Result<Reading, String> {
    let mut reader = Reader::open().map_err(|e| e.to_string())?;
    let mut reading = Reading::default();
    // Plain data: a panic elsewhere leaves nothing half done that matters.
    let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
    for family in Family::BOTH {
        let Some(table) = reader.table(family).map_err(|e| e.to_string())? else {
            continue;
        };
        let counts = reader.counters(family, &table).map_err(|e| e.to_string())?;
        let since = reader.since(family, &table).map_err(|e| e.to_string())?;
        reading.since = reading.since.max(since.unwrap_or_default());
        let there: BTreeSet<&CounterName> = counts.iter().map(|(name, _)| name).collect();
        told.retain(|(f, name), _| *f != family || there.contains(name));
        for (name, count) in &counts {
            // What was never hit needs no memory.
            let count = if *count == (0, 0) && !told.contains_key(&(family, name.clone())) {
                *count
            } else {
                told.entry((family, name.clone())).or_default().next(*count)
            };
            let sum = reading.counts.entry(name.clone()).or_default();
            *sum = (sum.0 + count.0, sum.1 + count.1);
        }
    }
    Ok(reading)
}

/// Who decides, in the words of the agent API.
pub(crate) fn decider(counted: &Counted) -> v1::Decider {
    let mut d = v1::Decider {
        direction: if counted.ingress { "ingress" } else { "egress" }.into(),
        action: counted.word().into(),
        missing: counted.missing,
        ..v1::Decider::default()
    };
    let what = match &counted.what {
        What::Policy { tier, id, rule } => {
            d.kind = id.kind.as_str().into();
            d.namespace = id.namespace.to_string();
            d.name = id.name.to_string();
            d.tier = tier.to_string();
            d.rule = rule.unwrap_or_default();
            decider::What::Policy
        }
        What::Profile { name, rule } => {
            d.name = name.to_string();
            d.rule = rule.unwrap_or_default();
            decider::What::Profile
        }
        What::Tier(tier) => {
            d.name = tier.to_string();
            d.tier = tier.to_string();
            decider::What::Tier
        }
        What::NoProfile => decider::What::NoProfile,
        What::Wall(name) => {
            d.name.clone_from(name);
            decider::What::Wall
        }
    };
    d.set_what(what);
    d
}

/// What is counted with what the kernel says; the walls' counters say themselves what they are.
fn rows(counted: &[Counted], reading: Reading) -> Result<(Vec<Row>, u64), String> {
    let known: BTreeSet<&CounterName> = counted.iter().map(|c| &c.counter).collect();
    let walls = reading.counts.keys().filter(|name| !known.contains(name));
    let walls: Vec<Counted> = walls.filter_map(Counted::wall).collect();
    let rows = counted.iter().cloned().chain(walls).map(|c| {
        let count = reading.counts.get(&c.counter).copied();
        (c, count)
    });
    Ok((rows.collect(), reading.since))
}

/// A label's value.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// The names and labels that users of Calico's commercial editions know.
fn figures(rows: &[Row]) -> String {
    let mut by_rule = [String::new(), String::new()];
    let mut denied = [String::new(), String::new()];
    let mut put = |counted: &Counted, count: Count| {
        let d = decider(counted);
        let (tier, policy) = match &counted.what {
            What::Policy { .. } => (d.tier.clone(), d.name.clone()),
            What::Profile { .. } => ("__PROFILE__".into(), d.name.clone()),
            What::Tier(_) => (d.tier.clone(), "__END_OF_TIER__".into()),
            What::NoProfile => ("__PROFILE__".into(), "__NO_MATCH__".into()),
            What::Wall(name) => ("__NODE__".into(), name.clone()),
        };
        let side = if counted.ingress { "inbound" } else { "outbound" };
        let labels = format!(
            "action=\"{}\",kind=\"{}\",namespace=\"{}\",policy=\"{}\",rule_direction=\"{}\",rule_index=\"{}\",tier=\"{}\",\
             traffic_direction=\"{side}\"",
            d.action,
            d.kind,
            escaped(&d.namespace),
            escaped(&policy),
            d.direction,
            d.rule,
            escaped(&tier),
        );
        for (text, value) in by_rule.iter_mut().zip([count.0, count.1]) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{{{labels}}} {value}");
        }
        if counted.action == caracal_api::Action::Deny {
            let slash = if d.namespace.is_empty() { "" } else { "/" };
            let name = format!("{tier}|{}{slash}{policy}|{}|deny", d.namespace, d.rule);
            let labels = format!("direction=\"{}\",policy=\"{}\"", d.direction, escaped(&name));
            for (text, value) in denied.iter_mut().zip([count.0, count.1]) {
                let _ = writeln!(text, "{{{labels}}} {value}");
            }
        }
    };
    for (counted, count) in rows {
        if let Some(count) = count.filter(|c| c.0 > 0) {
            put(counted, count);
        }
    }
    let of = |name: &str, help: &str, lines: &str| {
        let head = format!("# HELP {name} {help}\n# TYPE {name} counter\n");
        lines.lines().fold(head, |text, line| text + name + line + "\n")
    };
    [
        of(
            "cnx_policy_rule_packets",
            "Packets that a rule decided; first packets of connections",
            &by_rule[0],
        ),
        of("cnx_policy_rule_bytes", "Bytes of these packets", &by_rule[1]),
        of("calico_denied_packets", "Packets that policy denied", &denied[0]),
        of("calico_denied_bytes", "Bytes of these packets", &denied[1]),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use caracal_api::Action;
    use caracal_ids::{PolicyId, PolicyKind, TierName};

    use super::*;

    #[test]
    fn a_counter_never_goes_back() {
        let mut told = Told::default();
        assert_eq!(told.next((5, 500)), (5, 500));
        assert_eq!(told.next((7, 700)), (7, 700));
        assert_eq!(told.next((6, 600)), (7, 700), "a table that lacks a packet");
        assert_eq!(told.next((8, 800)), (9, 900));
        assert_eq!(told.next((0, 0)), (9, 900), "reset by someone");
        assert_eq!(told.next((1, 100)), (10, 1000));
    }

    #[test]
    fn figures_are_under_the_known_names() {
        let counted = Counted {
            counter: "np/shop/web.in.3.deny".into(),
            what: What::Policy {
                tier: TierName::new("default").unwrap(),
                id: PolicyId::namespaced(PolicyKind::NetworkPolicy, "shop", "web"),
                rule: Some(3),
            },
            ingress: true,
            action: Action::Deny,
            missing: false,
        };
        let text = figures(&[
            (counted.clone(), Some((2, 120))),
            (counted.clone(), Some((0, 0))),
            (counted, None),
        ]);
        let lines: Vec<&str> = text.lines().filter(|l| !l.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                "cnx_policy_rule_packets{action=\"deny\",kind=\"NetworkPolicy\",namespace=\"shop\",policy=\"web\",\
                 rule_direction=\"ingress\",rule_index=\"3\",tier=\"default\",traffic_direction=\"inbound\"} 2",
                "cnx_policy_rule_bytes{action=\"deny\",kind=\"NetworkPolicy\",namespace=\"shop\",policy=\"web\",\
                 rule_direction=\"ingress\",rule_index=\"3\",tier=\"default\",traffic_direction=\"inbound\"} 120",
                "calico_denied_packets{direction=\"ingress\",policy=\"default|shop/web|3|deny\"} 2",
                "calico_denied_bytes{direction=\"ingress\",policy=\"default|shop/web|3|deny\"} 120",
            ]
        );
    }
}
