use std::collections::BTreeMap;

use caracal_api::{FieldPath, Problem, QosControls};

use crate::error::problem;

const CALICO: &str = "qos.projectcalico.org/";
const KUBERNETES: &str = "kubernetes.io/";

/// What a burst is when only the bandwidth is given.
const DEFAULT_BURST: i64 = 4 << 30;
/// What a packet burst is when only the rate is given.
const DEFAULT_PACKET_BURST: i64 = 5;

const BANDWIDTH: (i64, i64) = (1_000, 1_000_000_000_000_000);
const PEAKRATE: (i64, i64) = (1_010, 1_010_000_000_000_000);
const MINBURST: (i64, i64) = (1_000, 100_000_000);
const PACKET_RATE: (i64, i64) = (1, 10_000);
const CONNECTIONS: (i64, i64) = (1, u32::MAX as i64);
const ANY: (i64, i64) = (1, i64::MAX);

/// The limits that a pod's annotations ask for; none if they ask for nothing.
pub(crate) fn controls(
    annotations: &BTreeMap<String, String>,
    problems: &mut Vec<Problem>,
) -> Option<QosControls> {
    let mut q = QosControls::default();
    let ingress = direction("ingress", annotations, problems);
    q.ingress_bandwidth = ingress.bandwidth;
    q.ingress_burst = ingress.burst;
    q.ingress_peakrate = ingress.peakrate;
    q.ingress_minburst = ingress.minburst;
    q.ingress_packet_rate = ingress.packet_rate;
    q.ingress_packet_burst = ingress.packet_burst;
    q.ingress_max_connections = ingress.max_connections;
    let egress = direction("egress", annotations, problems);
    q.egress_bandwidth = egress.bandwidth;
    q.egress_burst = egress.burst;
    q.egress_peakrate = egress.peakrate;
    q.egress_minburst = egress.minburst;
    q.egress_packet_rate = egress.packet_rate;
    q.egress_packet_burst = egress.packet_burst;
    q.egress_max_connections = egress.max_connections;
    q.dscp = dscp(annotations, problems);
    (q != QosControls::default()).then_some(q)
}

fn dscp(annotations: &BTreeMap<String, String>, problems: &mut Vec<Problem>) -> Option<serde_json::Value> {
    let key = format!("{CALICO}dscp");
    let text = annotations.get(&key)?;
    let number = caracal_api::dscp(text);
    if number.is_none() {
        let at = FieldPath::of("metadata.annotations").key(&key);
        problems.push(problem(
            &at,
            format!("{text:?} is no DSCP: allowed are 0 to 63 and DF, EF, VA, CS0 to CS7, AF11 to AF43"),
        ));
    }
    number.map(Into::into)
}

#[derive(Default)]
struct Direction {
    bandwidth: Option<i64>,
    burst: Option<i64>,
    peakrate: Option<i64>,
    minburst: Option<i64>,
    packet_rate: Option<i64>,
    packet_burst: Option<i64>,
    max_connections: Option<i64>,
}

fn direction(name: &str, annotations: &BTreeMap<String, String>, problems: &mut Vec<Problem>) -> Direction {
    let mut read = |key: String, (min, max): (i64, i64)| -> Option<i64> {
        let text = annotations.get(&key)?;
        let at = FieldPath::of("metadata.annotations").key(&key);
        match quantity(text) {
            Some(n) if (min..=max).contains(&n) => Some(n),
            Some(n) => {
                problems.push(problem(&at, format!("{n} is out of bounds: {min} to {max}")));
                None
            }
            None => {
                problems.push(problem(
                    &at,
                    format!("{text:?} is no quantity, for example 10M or 1Gi"),
                ));
                None
            }
        }
    };
    let mut own = |what: &str, bounds| read(format!("{CALICO}{name}{what}"), bounds);
    let mut d = Direction {
        bandwidth: own("Bandwidth", BANDWIDTH),
        burst: own("Burst", ANY),
        peakrate: own("Peakrate", PEAKRATE),
        minburst: own("Minburst", MINBURST),
        packet_rate: own("PacketRate", PACKET_RATE),
        packet_burst: own("PacketBurst", PACKET_RATE),
        max_connections: own("MaxConnections", CONNECTIONS),
    };
    // Calico's own annotation wins over the one that Kubernetes documents.
    if !annotations.contains_key(&format!("{CALICO}{name}Bandwidth")) {
        d.bandwidth = read(format!("{KUBERNETES}{name}-bandwidth"), BANDWIDTH);
    }
    let mut drop_alone = |value: &mut Option<i64>, what: &str, needs: &str| {
        if value.take().is_some() {
            let at = FieldPath::of("metadata.annotations").key(&format!("{CALICO}{name}{what}"));
            problems.push(problem(&at, format!("has no meaning without {needs}")));
        }
    };
    match d.bandwidth {
        Some(bandwidth) => {
            d.burst.get_or_insert(DEFAULT_BURST);
            if d.peakrate.is_some_and(|p| p <= bandwidth) {
                drop_alone(&mut d.peakrate, "Peakrate", "a bandwidth below it");
            }
        }
        None => {
            drop_alone(&mut d.burst, "Burst", "a bandwidth");
            drop_alone(&mut d.peakrate, "Peakrate", "a bandwidth");
        }
    }
    match d.packet_rate {
        Some(_) => {
            d.packet_burst.get_or_insert(DEFAULT_PACKET_BURST);
        }
        None => drop_alone(&mut d.packet_burst, "PacketBurst", "a packet rate"),
    }
    d
}

/// A quantity as Kubernetes writes it (`1500`, `1.5k`, `10M`, `1Gi`, `1e3`), rounded up to a whole number.
fn quantity(text: &str) -> Option<i64> {
    /// Digits behind the point that count.
    const SCALE: u32 = 9;
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || fraction.len() > SCALE as usize {
        return None;
    }
    let padded = format!("{whole}{fraction:0<width$}", width = SCALE as usize);
    let scaled: i128 = padded.parse().ok()?;
    let (up, down): (i128, i128) = match suffix {
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "" => (1, 1),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        other => {
            let exponent: i32 = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs().min(30))?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    };
    let unit = 10_i128.pow(SCALE).checked_mul(down)?;
    let value = scaled.checked_mul(up)?.checked_add(unit - 1)? / unit;
    i64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(annotations: &[(&str, &str)]) -> (Option<QosControls>, Vec<String>) {
        let annotations = annotations
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let mut problems = Vec::new();
        let q = controls(&annotations, &mut problems);
        (q, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn quantities() {
        for (text, n) in [
            ("1500", Some(1500)),
            ("1.5k", Some(1500)),
            ("10M", Some(10_000_000)),
            ("1Gi", Some(1 << 30)),
            ("1e3", Some(1000)),
            ("1500m", Some(2)),
            ("0.1", Some(1)),
            (".5k", Some(500)),
            ("2E0", Some(2)),
            ("0", Some(0)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("", None),
            (".", None),
            ("k", None),
            ("1.2.3", None),
            ("1x", None),
            ("-1", None),
            ("100E", None),
            ("1e99", None),
            ("9e30", None),
        ] {
            assert_eq!(quantity(text), n, "{text:?}");
        }
    }

    #[test]
    fn annotations_become_limits() {
        assert_eq!(of(&[("unrelated", "1")]), (None, vec![]));
        let (q, problems) = of(&[
            ("kubernetes.io/ingress-bandwidth", "1M"),
            ("kubernetes.io/egress-bandwidth", "1M"),
            ("qos.projectcalico.org/egressBandwidth", "2M"),
            ("qos.projectcalico.org/egressPeakrate", "3M"),
            ("qos.projectcalico.org/ingressPacketRate", "100"),
            ("qos.projectcalico.org/egressMaxConnections", "7"),
            ("qos.projectcalico.org/dscp", "AF41"),
        ]);
        assert_eq!(problems, [""; 0]);
        let expected = QosControls {
            ingress_bandwidth: Some(1_000_000),
            ingress_burst: Some(4 << 30),
            egress_bandwidth: Some(2_000_000),
            egress_burst: Some(4 << 30),
            egress_peakrate: Some(3_000_000),
            ingress_packet_rate: Some(100),
            ingress_packet_burst: Some(5),
            egress_max_connections: Some(7),
            dscp: Some(34.into()),
            ..QosControls::default()
        };
        assert_eq!(q, Some(expected));
    }

    #[test]
    fn what_is_out_of_bounds_is_named_and_left_out() {
        for (key, value, word) in [
            ("ingressBandwidth", "999", "1000"),
            ("ingressBandwidth", "fast", "quantity"),
            ("ingressBurst", "1M", "without a bandwidth"),
            ("egressPeakrate", "1M", "without a bandwidth"),
            ("egressPacketRate", "10001", "10000"),
            ("egressPacketBurst", "10", "packet rate"),
            ("egressMaxConnections", "0", "4294967295"),
            ("egressMinburst", "1", "1000"),
            ("dscp", "64", "0 to 63"),
            ("dscp", "AF44", "AF43"),
        ] {
            let key = format!("{CALICO}{key}");
            let (q, problems) = of(&[(&key, value)]);
            assert!(
                q.is_none() && problems.len() == 1 && problems[0].contains(word),
                "{key} {value}: {problems:?}"
            );
        }
        let (q, problems) = of(&[
            ("qos.projectcalico.org/ingressBandwidth", "2M"),
            ("qos.projectcalico.org/ingressPeakrate", "1M"),
        ]);
        assert_eq!((q.and_then(|q| q.ingress_peakrate), problems.len()), (None, 1));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,24}|[0-9]{0,40}[.]?[0-9]{0,12}[a-zA-Z]{0,2}[-0-9]{0,12}") {
            let _ = quantity(&text);
        }
    }
}
