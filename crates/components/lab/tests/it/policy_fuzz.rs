//! `caracal policy-fuzz --dataplane nftables`, as a process: random cases, histories, and each sentence about the meaning
//! of policy, by packets through the kernel.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use caracal_policy_fuzz::Case;
use caracal_testkit::NetNs;
use serde_json::Value;

use crate::sentences;
use crate::world::{Said, machine, program};

/// Where runs keep what is theirs.
const BASE: &str = "/run/caracal-policy-fuzz";

/// Whether this is the long run of the night.
fn nightly() -> bool {
    std::env::var_os("CARACAL_NIGHTLY").is_some()
}

/// The seed: one of its own each night, the same every day, or what is asked for.
fn seed() -> String {
    let given = std::env::var("FUZZ_SEED").ok();
    let seed = given.unwrap_or_else(|| match nightly() {
        true => {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            (now.unwrap().as_secs() * 1000).to_string()
        }
        false => "1".to_owned(),
    });
    println!("-- FUZZ_SEED={seed}");
    seed
}

/// The program with packets through the kernel.
fn kernel(args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .args(["policy-fuzz", "--dataplane", "nftables"])
        .args(args);
    command
}

#[track_caller]
fn nothing_is_left() {
    let namespaces = NetNs::list().unwrap();
    assert!(namespaces.is_empty(), "{namespaces:?}");
    assert!(!Path::new(BASE).exists());
}

/// Runs it to its end; how many packets there were.
fn packets(args: &[&str]) -> u64 {
    let mut command = kernel(&["-o", "json", "--seed", &seed()]);
    let said: Said = command.args(args).output().unwrap().into();
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    let result: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(result["agreed"], true, "{result}");
    nothing_is_left();
    println!("-- {}", said.out);
    result["packets"].as_u64().unwrap()
}

#[test]
fn netns_objects_engine_and_kernel_agree_on_every_packet() {
    machine!(900);
    let (cases, packets_each) = if nightly() { ("420", "250") } else { ("30", "100") };
    let judged = packets(&["--cases", cases, "--packets", packets_each]);
    assert_eq!(
        judged,
        cases.parse::<u64>().unwrap() * packets_each.parse::<u64>().unwrap()
    );
}

#[test]
fn netns_histories_end_as_from_nothing_and_lose_nothing_on_the_way() {
    machine!(900);
    let (cases, steps) = if nightly() { ("30", "15") } else { ("3", "6") };
    let sent = packets(&["--cases", cases, "--packets", "100", "--history", steps, "--kill"]);
    assert!(sent > 1000, "only {sent} packets were sent");
}

/// The program that judges cases, one a line.
struct Judge {
    child: Child,
    cases: Option<ChildStdin>,
    verdicts: BufReader<ChildStdout>,
}

impl Judge {
    fn start() -> Self {
        let mut child = kernel(&["--file", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self {
            cases: child.stdin.take(),
            verdicts: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    fn judge(&mut self, name: &str, case: &Case) -> bool {
        let line = format!("{}\n", serde_json::to_string(case).unwrap());
        self.cases.as_mut().unwrap().write_all(line.as_bytes()).unwrap();
        let mut verdict = String::new();
        self.verdicts.read_line(&mut verdict).unwrap();
        let verdict: Value =
            serde_json::from_str(&verdict).unwrap_or_else(|e| panic!("{name}: {verdict:?}: {e}"));
        if verdict["agreed"] != true {
            let difference = verdict["difference"].as_str().unwrap_or_default();
            panic!("{name}: {difference}\n{}", case.to_yaml());
        }
        verdict["allowed"][0].as_bool().unwrap()
    }

    /// It ends with its input.
    fn end(mut self) {
        drop(self.cases.take());
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn netns_every_sentence_holds_in_the_kernel() {
    machine!(600);
    let mut judge = Judge::start();
    for (name, sentence) in sentences::ALL {
        println!("-- {name}");
        let mut one = |case: &Case| judge.judge(name, case);
        sentence(&mut sentences::World::new(&mut one));
    }
    judge.end();
    nothing_is_left();
}

/// What is said of a difference: its seed, one packet, who says what, and the line for `--file`.
#[track_caller]
fn shown_small(said: &Said, parts: &[&str]) {
    assert_eq!(said.code, Some(1), "{}{}", said.out, said.err);
    for part in [": not all agree", "# for --file: {"].iter().chain(parts) {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    assert_eq!(said.err.matches("# packet").count(), 1, "{}", said.err);
    nothing_is_left();
}

#[test]
fn netns_a_wrong_oracle_is_found_by_packets_and_shown_small_with_its_seed() {
    machine!(300);
    let mut command = kernel(&["--packets", "60", "--cases", "40", "--seed", "1"]);
    let said = command.args(["--mistake", "EndOfTierNever"]).output();
    shown_small(
        &said.unwrap().into(),
        &["kind: ", "# seed ", "the objects say   allowed"],
    );
}

#[test]
fn netns_a_dataplane_that_differs_is_shown_small() {
    machine!(300);
    // Somebody else's firewall lets nothing through: that is a difference, and what is shown of it is small.
    let child = kernel(&["--seed", "3", "--cases", "1", "--packets", "40"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    caracal_testkit::eventually(std::time::Duration::from_secs(60), || {
        let names = NetNs::list().unwrap_or_default();
        let hosts = names
            .iter()
            .filter(|n| n.ends_with("-here") || n.ends_with("-alone"));
        let drop_all = |name: &String| {
            let rules = "table inet wall {
                chain before { type filter hook prerouting priority -300; policy drop; }
                chain from { type filter hook output priority -300; policy drop; }
            }";
            let add = || Command::new("nft").arg(rules).status().is_ok_and(|s| s.success());
            NetNs::named(name).is_ok_and(|netns| netns.run(add).unwrap_or(false))
        };
        match hosts.filter(|n| drop_all(n)).count() {
            2 => Ok(()),
            n => Err(format!("{n} hosts")),
        }
    });
    let said: Said = child.wait_with_output().unwrap().into();
    let parts = ["# seed 3", "seed 3: not all agree", "the dataplane     blocked"];
    shown_small(&said, &parts);
}

#[test]
fn netns_staged_policies_change_no_packet_and_do_later_what_was_foretold() {
    machine!(900);
    let (cases, packets_each) = if nightly() { (120, 200) } else { (8, 60) };
    let (cases_text, packets_text) = (cases.to_string(), packets_each.to_string());
    let judged = packets(&["--staged", "--cases", &cases_text, "--packets", &packets_text]);
    // With them, without them, and with them enforced.
    assert_eq!(judged, 3 * cases * packets_each);
}
