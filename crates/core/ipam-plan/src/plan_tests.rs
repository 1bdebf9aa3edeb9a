use super::*;

/// A store of objects that executes steps: what a real executor does, without revisions.
#[derive(Default, Clone)]
struct World {
    observed: Observed,
}

impl World {
    fn pool(mut self, name: &str, cidr: &str, block_len: u8) -> Self {
        let spec = IpPoolSpec {
            cidr: cidr.into(),
            block_size: Some(block_len),
            ..IpPoolSpec::default()
        };
        self.observed.pools.push(Object::new(name, spec));
        self
    }

    fn run(&mut self, steps: &[Step], handles: &mut BTreeMap<String, Object<IpamHandleSpec>>) {
        for step in steps {
            match step {
                Step::PutAffinity(a) => {
                    self.observed
                        .affinities
                        .retain(|o| o.metadata.name != a.metadata.name);
                    self.observed.affinities.push(a.clone());
                }
                Step::DeleteAffinity(a) => self
                    .observed
                    .affinities
                    .retain(|o| o.metadata.name != a.metadata.name),
                Step::PutBlock(b) => {
                    self.observed
                        .blocks
                        .retain(|o| o.metadata.name != b.metadata.name);
                    self.observed.blocks.push(b.clone());
                }
                Step::DeleteBlock(b) => self
                    .observed
                    .blocks
                    .retain(|o| o.metadata.name != b.metadata.name),
                Step::PutHandle(h) => {
                    handles.insert(h.metadata.name.clone(), h.clone());
                }
                Step::DeleteHandle(h) => {
                    handles.remove(&h.metadata.name);
                }
            }
        }
    }
}

fn request(node: &str, handle: &str) -> AssignRequest {
    AssignRequest {
        node: NodeName::new(node).unwrap(),
        family: Family::V4,
        count: 1,
        owner: Owner {
            handle: handle.into(),
            attributes: BTreeMap::from([("node".into(), node.into())]),
        },
        pools: vec![],
        usage: IpPoolAllowedUse::Workload,
        now: "2026-01-01T00:00:00Z".into(),
    }
}

/// What one node sees: its own affinities; all blocks when it asks.
fn view(world: &World, node: &str, all: bool, handle: Option<Object<IpamHandleSpec>>) -> Observed {
    let mut o = world.observed.clone();
    o.affinities.retain(|a| a.spec.node == node);
    let own: Vec<String> = o.affinities.iter().map(|a| a.spec.cidr.clone()).collect();
    if !all {
        o.blocks.retain(|b| own.contains(&b.spec.cidr));
    }
    o.all_blocks = all;
    o.handle = handle;
    o
}

fn assign(
    world: &mut World,
    handles: &mut BTreeMap<String, Object<IpamHandleSpec>>,
    node: &str,
    h: &str,
) -> Result<IpAddr, PlanError> {
    let req = request(node, h);
    let mut all = false;
    for _ in 0..10 {
        let seen = view(world, node, all, handles.get(h).cloned());
        match plan_assign(&seen, &req)? {
            AssignPlan::Assign { steps, addresses } => {
                world.run(&steps, handles);
                return Ok(addresses[0].addr);
            }
            AssignPlan::Prepare(steps) => world.run(&steps, handles),
            AssignPlan::NeedAllBlocks => all = true,
        }
    }
    panic!("no end in sight");
}

#[test]
fn claims_a_block_then_fills_it_then_claims_another() {
    let mut w = World::default().pool("p", "10.0.0.0/24", 30);
    let mut handles = BTreeMap::new();
    let got: std::collections::BTreeSet<IpAddr> = (0..9)
        .map(|i| assign(&mut w, &mut handles, "n1", &format!("h{i}")).unwrap())
        .collect();
    assert_eq!(got.len(), 9);
    assert_eq!(w.observed.blocks.len(), 3);
    assert!(w.observed.affinities.iter().all(|a| a.spec.state == "confirmed"));
    assert_eq!(handles.len(), 9);
}

#[test]
fn borrows_when_no_block_is_left_unless_strict() {
    let mut w = World::default().pool("p", "10.0.0.0/29", 30);
    let mut handles = BTreeMap::new();
    assign(&mut w, &mut handles, "n1", "a").unwrap();
    assign(&mut w, &mut handles, "n2", "b").unwrap();
    let borrowed = assign(&mut w, &mut handles, "n3", "c").unwrap();
    assert!(
        w.observed
            .blocks
            .iter()
            .any(|b| b.spec.cidr.parse::<Cidr>().unwrap().contains(borrowed))
    );
    w.observed.config.strict_affinity = true;
    let e = assign(&mut w, &mut handles, "n4", "d").unwrap_err().to_string();
    assert!(
        e.contains("strictAffinity") && e.contains("every block is taken"),
        "{e}"
    );
}

#[test]
fn an_exhausted_pool_says_what_was_tried() {
    let mut w = World::default().pool("tiny", "10.0.0.0/31", 31);
    let mut handles = BTreeMap::new();
    assign(&mut w, &mut handles, "n1", "a").unwrap();
    assign(&mut w, &mut handles, "n1", "b").unwrap();
    let e = assign(&mut w, &mut handles, "n1", "c").unwrap_err().to_string();
    assert!(
        e.contains("pool tiny (10.0.0.0/31): every block is taken") && e.contains("borrow"),
        "{e}"
    );
}

#[test]
fn a_claim_cut_off_anywhere_is_finished_later() {
    // The affinity is pending and the block is missing, or there but not confirmed.
    for with_block in [false, true] {
        let mut w = World::default().pool("p", "10.0.0.0/24", 26);
        let cidr: Cidr = "10.0.0.64/26".parse().unwrap();
        let req = request("n1", "h");
        let pending = claim(&w.observed, &req, cidr, "pending");
        let mut handles = BTreeMap::new();
        w.run(&[pending], &mut handles);
        if with_block {
            w.run(
                &[Step::PutBlock(Block::new(cidr, "host:n1", "t").into_object())],
                &mut handles,
            );
        }
        let got = assign(&mut w, &mut handles, "n1", "h").unwrap();
        assert!(cidr.contains(got));
        assert_eq!(w.observed.affinities[0].spec.state, "confirmed");
    }
}

#[test]
fn a_block_that_another_node_got_first_is_given_up() {
    let mut w = World::default().pool("p", "10.0.0.0/24", 26);
    let cidr: Cidr = "10.0.0.64/26".parse().unwrap();
    let mut handles = BTreeMap::new();
    let pending = claim(&w.observed, &request("n1", "h"), cidr, "pending");
    w.run(
        &[
            pending,
            Step::PutBlock(Block::new(cidr, "host:n2", "t").into_object()),
        ],
        &mut handles,
    );
    // n1 sees the block of its affinity.
    let got = assign(&mut w, &mut handles, "n1", "h").unwrap();
    assert!(!cidr.contains(got));
    assert!(
        w.observed
            .affinities
            .iter()
            .all(|a| a.spec.cidr != cidr.to_string())
    );
}

#[test]
fn a_given_address_is_assigned_or_its_holder_named() {
    let mut w = World::default().pool("p", "10.0.0.0/24", 26);
    let mut handles = BTreeMap::new();
    let addr: IpAddr = "10.0.0.77".parse().unwrap();
    let req = request("n1", "h");
    for _ in 0..4 {
        match plan_assign_address(&view(&w, "n1", true, None), &req, addr).unwrap() {
            AssignPlan::Assign { steps, addresses } => {
                w.run(&steps, &mut handles);
                assert_eq!(addresses[0].addr, addr);
                break;
            }
            AssignPlan::Prepare(steps) => w.run(&steps, &mut handles),
            AssignPlan::NeedAllBlocks => panic!("all blocks were given"),
        }
    }
    let e = plan_assign_address(&view(&w, "n1", true, None), &request("n1", "other"), addr).unwrap_err();
    assert!(
        matches!(&e, PlanError::InUse { holder, .. } if holder.contains('h')),
        "{e}"
    );
    let outside = plan_assign_address(&view(&w, "n1", true, None), &req, "192.168.0.1".parse().unwrap());
    assert!(matches!(outside, Err(PlanError::NotInPool(_))));
}

#[test]
fn blocks_of_another_size_are_not_overlapped() {
    let mut w = World::default().pool("p", "10.0.0.0/24", 28);
    let mut handles = BTreeMap::new();
    let old = Block::new("10.0.0.0/25".parse().unwrap(), "host:old", "t").into_object();
    w.run(&[Step::PutBlock(old)], &mut handles);
    w.observed.config.strict_affinity = true;
    for i in 0..8 * 16 {
        assign(&mut w, &mut handles, "n1", &format!("h{i}")).unwrap();
    }
    let cidrs: Vec<Cidr> = w
        .observed
        .blocks
        .iter()
        .map(|b| b.spec.cidr.parse().unwrap())
        .collect();
    for (i, a) in cidrs.iter().enumerate() {
        assert!(cidrs[i + 1..].iter().all(|b| !a.overlaps(b)), "{a} overlaps");
    }
    assert!(assign(&mut w, &mut handles, "n1", "one more").is_err());
}
