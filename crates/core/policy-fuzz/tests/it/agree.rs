use caracal_net::Proto;
use caracal_oracle::{FailsafePort, Packet, Reading, Trip, Verdict, Way, travel};
use caracal_policy_fuzz::{Case, Dataplane, Model, Reference, check, desired, shrink};

/// What a variable says; else the usual number, or that of the night.
fn number(variable: &str, usual: u64, nightly: impl FnOnce() -> u64) -> u64 {
    let text = std::env::var(variable).unwrap_or_default();
    let or_else = || match std::env::var_os("CARACAL_NIGHTLY") {
        Some(_) => nightly(),
        None => usual,
    };
    text.parse().unwrap_or_else(|_| or_else())
}

/// Another one each night.
fn tonight() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs() * 10_000
}

#[test]
fn objects_engine_and_tables_agree_on_every_packet() {
    let (seed, cases) = (
        number("FUZZ_SEED", 1, tonight),
        number("FUZZ_CASES", 150, || 2500),
    );
    println!("-- FUZZ_SEED={seed} FUZZ_CASES={cases}");
    let mut verdicts = 0;
    for seed in seed..seed + cases {
        let case = Case::random(seed, 40);
        let (agreed, difference) =
            check(&case, &mut Model::default()).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        verdicts += agreed;
        if difference.is_some() {
            let differs = |c: &Case| check(c, &mut Model::default()).is_ok_and(|(_, d)| d.is_some());
            let small = shrink(&case, 2000, differs);
            let (_, difference) = check(&small, &mut Model::default()).unwrap();
            panic!("seed {seed}\n{}\n{}", small.to_yaml(), difference.unwrap());
        }
    }
    assert_eq!(verdicts as u64, cases * 40);
}

#[test]
fn objects_are_what_the_api_allows() {
    for seed in 1..60 {
        for object in &Case::random(seed, 0).objects {
            let mut problems = caracal_api::validate(object);
            // What the API refuses but dataplanes must bear.
            problems.retain(|p| !p.reason.starts_with("is not of the "));
            assert!(problems.is_empty(), "seed {seed}: {problems:?}\n{object:?}");
        }
    }
}

#[test]
fn a_seed_makes_one_case() {
    assert_eq!(Case::random(7, 20), Case::random(7, 20));
    assert_ne!(Case::random(7, 20).objects, Case::random(8, 20).objects);
}

/// §3.5: what staged policies would do is known beside what is enforced: the verdict after all that is staged was done,
/// with each staged policy in the place of the enforced one of its name.
#[test]
fn the_pending_verdict_is_that_of_staged_policies_enforced() {
    let (seed, cases) = (
        number("FUZZ_SEED", 1, tonight),
        number("FUZZ_CASES", 150, || 2500),
    );
    println!("-- FUZZ_SEED={seed} FUZZ_CASES={cases}");
    let mut different = 0;
    for seed in seed..seed + cases {
        let case = Case::random_staged(seed, 40);
        let (desired, _) = desired(&case);
        let (committed, without) = (case.committed(), case.without_staged());
        let pending = Reference::new(&committed, None);
        let enforced = Reference::new(&without, None);
        for trip in &case.trips {
            let allowed = |reading| travel(&desired, &case.host, reading, trip).verdict == Verdict::Allowed;
            assert_eq!(
                allowed(Reading::Pending),
                pending.allows(trip),
                "seed {seed}: {trip:?}\n{}",
                case.to_yaml()
            );
            assert_eq!(
                allowed(Reading::Enforced),
                enforced.allows(trip),
                "seed {seed}: {trip:?}"
            );
            different += u64::from(allowed(Reading::Pending) != allowed(Reading::Enforced));
        }
    }
    assert!(
        different > cases,
        "only {different} packets would be judged otherwise"
    );
}

/// §3.9: whatever policy says, of any kind, a host's failsafe ports stay open, and those of others to it. With the same
/// objects and no failsafe ports many of them are closed.
#[test]
fn no_policy_closes_a_failsafe_port() {
    let (seed, cases) = (
        number("FUZZ_SEED", 1, tonight),
        number("FUZZ_CASES", 150, || 2500),
    );
    println!("-- FUZZ_SEED={seed} FUZZ_CASES={cases}");
    let peers = ["198.51.100.9", "2001:db8:9::9"].map(|a| a.parse::<std::net::IpAddr>().unwrap());
    let open = |proto, port| FailsafePort {
        proto,
        port,
        net: None,
    };
    let mut closed_else = 0;
    for seed in seed..seed + cases {
        let mut case = Case::random(seed, 0);
        for (name, addresses) in &case.host.interfaces {
            for own in addresses {
                for peer in peers.into_iter().filter(|p| p.is_ipv4() == own.is_ipv4()) {
                    let coming = Packet::with_ports(peer, *own, Proto::TCP, 40_000, 22);
                    let going = Packet::with_ports(*own, peer, Proto::UDP, 40_000, 53);
                    for (packet, way) in [
                        (coming, Way::In { from: name.clone() }),
                        (going, Way::Out { to: name.clone() }),
                    ] {
                        case.trips.push(Trip {
                            packet,
                            original: None,
                            way,
                            spoofed: false,
                        });
                    }
                }
            }
        }
        (case.host.failsafe_in, case.host.failsafe_out) = (Vec::new(), Vec::new());
        let through = Model::default().verdicts(&case).unwrap();
        closed_else += through.iter().filter(|t| !**t).count();
        case.host.failsafe_in = vec![open(Proto::TCP, 22)];
        case.host.failsafe_out = vec![open(Proto::UDP, 53)];
        let through = Model::default().verdicts(&case).unwrap();
        for (trip, through) in case.trips.iter().zip(through) {
            assert!(through, "seed {seed}: {trip:?}\n{}", case.to_yaml());
        }
    }
    assert!(
        closed_else as u64 > cases / 2,
        "only {closed_else} are closed without"
    );
}
