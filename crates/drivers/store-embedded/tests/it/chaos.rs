//! Many clients and watches on a server that is killed again and again: everything they were told is written down.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use caracal_history::{
    Answer, Call, Compare, Field, History, Item, Op, Outcome, Proof, Span, Step, Txn, Watch,
};
use caracal_wire::etcdserverpb::watch_client::WatchClient;
use caracal_wire::etcdserverpb::watch_request::RequestUnion;
use caracal_wire::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use crate::dice::Dice;
use crate::speak;

/// Longest time in which anything has to happen that the test waits for.
const BOUND: Duration = Duration::from_secs(180);
/// How long a client waits for the answer of a server after the next one has come up.
const LONG_DEAD: Duration = Duration::from_secs(20);
/// Most calls that may be given up so: it takes a coincidence.
const MOST_LOST: usize = 3;
/// Revisions that watches may be behind before clients wait for them, so that no compaction overtakes them.
const BEHIND: i64 = 1500;

/// A server that can be killed.
pub(crate) trait Victim {
    /// Starts it on a socket that does not exist yet; it takes connections afterwards.
    fn start(&mut self, socket: &Path) -> impl Future<Output = ()>;
    /// Kills it; nothing it was asked for happens any more afterwards.
    fn kill(&mut self) -> impl Future<Output = ()>;
}

/// The size of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) seed: u64,
    pub(crate) operations: usize,
    pub(crate) kills: usize,
    pub(crate) clients: usize,
    /// What the server keeps when it compacts itself.
    pub(crate) keeps: i64,
}

/// A server's life.
#[derive(Clone)]
struct Life {
    number: usize,
    channel: Channel,
}

struct Shared {
    seed: u64,
    clock: AtomicU64,
    /// Made and not wasted on a dead server.
    operations: AtomicUsize,
    calls: Mutex<Vec<(usize, Call)>>,
    watches: Mutex<Vec<Watch>>,
    /// The highest revision that anybody was told of, and those that the watches have come to.
    known: AtomicI64,
    seen: [AtomicI64; 2],
    over: AtomicBool,
    /// Calls that were given up.
    lost: AtomicUsize,
    life: watch::Sender<Option<Life>>,
}

impl Shared {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, SeqCst)
    }

    /// What both watches have seen.
    fn seen(&self) -> i64 {
        self.seen[0].load(SeqCst).min(self.seen[1].load(SeqCst))
    }

    /// How far everybody is, for who waits in vain.
    fn stand(&self) -> String {
        format!(
            "CARACAL_SEED={}, life {:?}, {} operations, revision {} known, {:?} seen",
            self.seed,
            self.life.borrow().as_ref().map(|life| life.number),
            self.operations.load(SeqCst),
            self.known.load(SeqCst),
            self.seen,
        )
    }

    /// Waits for something that has to happen.
    async fn within<T>(&self, what: impl fmt::Debug, happens: impl Future<Output = T>) -> T {
        match tokio::time::timeout(BOUND, happens).await {
            Ok(happened) => happened,
            Err(_) => panic!("not in time: {what:?}; {}", self.stand()),
        }
    }

    /// The server, once there is one in another life than that.
    async fn life(&self, after: Option<usize>) -> Life {
        let mut lives = self.life.subscribe();
        let other = |life: &Option<Life>| life.as_ref().is_some_and(|l| Some(l.number) != after);
        let found = self.within("a server", lives.wait_for(other)).await;
        let life = found.expect("the sender lives");
        life.clone().expect("it is some")
    }

    /// The server to go on with after one that gave no answer: it is dead, or its disk failed, and then it is asked
    /// again soon.
    async fn again(&self, life: Life) -> Life {
        let soon = Duration::from_millis(20);
        let other = self.life(Some(life.number));
        match tokio::time::timeout(soon, other).await {
            Ok(other) => other,
            Err(_) if self.life.borrow().is_none() => self.life(Some(life.number)).await,
            Err(_) => life,
        }
    }

    /// Ends when a server is long dead. The client library may lose a request that it is handed in the very moment in
    /// which it finds the connection at its end; as any client of the product does, this one gives up then.
    async fn buried(&self, life: &Life) {
        let mut lives = self.life.subscribe();
        let other = |other: &Option<Life>| other.as_ref().is_some_and(|o| o.number != life.number);
        let found = lives.wait_for(other).await.map(drop);
        found.expect("the sender lives");
        tokio::time::sleep(LONG_DEAD).await;
    }

    /// Makes a call in a life and writes it down.
    async fn call(&self, life: &Life, op: Op) -> Call {
        let (what, invoked) = (format!("{op:?}"), self.tick());
        let asked = speak::call(life.channel.clone(), op.clone(), || self.tick());
        let call = tokio::select! {
            biased;
            call = self.within(&what, asked) => call,
            () = self.buried(life) => {
                eprintln!("a server died in life {} without an answer to {what}", life.number);
                self.lost.fetch_add(1, SeqCst);
                let (returned, outcome) = (self.tick(), Outcome::Unknown);
                Call { invoked, returned, op, outcome }
            }
        };
        if let Outcome::Done(revision, _) = call.outcome {
            self.known.fetch_max(revision, SeqCst);
        }
        let mut calls = self.calls.lock().unwrap();
        calls.push((life.number, call.clone()));
        call
    }
}

/// Runs it all and lets the checker judge.
pub(crate) async fn run(victim: &mut impl Victim, size: Size) -> Proof {
    let sockets = tempfile::tempdir().unwrap();
    let shared = Arc::new(Shared {
        seed: size.seed,
        clock: AtomicU64::new(1),
        operations: AtomicUsize::new(0),
        calls: Mutex::default(),
        watches: Mutex::default(),
        known: AtomicI64::new(1),
        seen: [AtomicI64::new(1), AtomicI64::new(1)],
        over: AtomicBool::new(false),
        lost: AtomicUsize::new(0),
        life: watch::Sender::new(None),
    });
    let some = Some(Span::between("b", "f"));
    let mut watches = vec![
        tokio::spawn(follow(shared.clone(), "all".into(), None)),
        tokio::spawn(follow(shared.clone(), "some".into(), some)),
    ];
    watches.push(tokio::spawn(late(shared.clone(), Dice::new(size.seed ^ 0x77))));
    let mut clients: Vec<_> = (0..size.clients)
        .map(|number| {
            let dice = Dice::new(size.seed.wrapping_mul(1000) + number as u64);
            tokio::spawn(client(shared.clone(), number, dice, size.operations))
        })
        .collect();
    let mut dice = Dice::new(size.seed);
    let mut dead = HashMap::new();
    for life in 0..=size.kills {
        start(victim, sockets.path(), life, &shared).await;
        if life == size.kills {
            for client in clients.drain(..) {
                client.await.unwrap();
            }
            finish(&shared, watches.drain(..)).await;
        } else {
            // Anywhere among the operations, on the average so that they are over with the last kill.
            let left = size.operations.saturating_sub(shared.operations.load(SeqCst));
            let some = dice.below(2 * left / (size.kills - life) + 1) * 9 / 10;
            let until = shared.operations.load(SeqCst) + some;
            let deadline = Instant::now() + BOUND;
            while shared.operations.load(SeqCst) < until.min(size.operations) {
                assert!(Instant::now() < deadline, "operations go on");
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            shared.life.send_replace(None);
        }
        victim.kill().await;
        dead.insert(life, shared.tick());
    }
    let lost = shared.lost.load(SeqCst);
    assert!(
        lost <= MOST_LOST,
        "{lost} calls had no answer; {}",
        shared.stand()
    );
    judge(&shared, &dead, size)
}

async fn start(victim: &mut impl Victim, sockets: &Path, number: usize, shared: &Shared) {
    // A socket of its own, so that nothing that was sent to one life comes to another.
    let socket = sockets.join(format!("{number}.sock"));
    victim.start(&socket).await;
    let channel = crate::api::connect(&socket).await;
    shared.life.send_replace(Some(Life { number, channel }));
}

fn judge(shared: &Shared, dead: &HashMap<usize, u64>, size: Size) -> Proof {
    let calls = std::mem::take(&mut *shared.calls.lock().unwrap());
    let with_fate = |(life, mut call): (usize, Call)| {
        if call.outcome == Outcome::Unknown {
            call.returned = dead[&life];
        }
        call
    };
    let reads_nothing =
        |call: &Call| call.outcome == Outcome::Unknown && matches!(call.op, Op::Step(Step::Range(..)));
    let history = History {
        calls: calls
            .into_iter()
            .map(with_fate)
            .filter(|call| !reads_nothing(call))
            .collect(),
        watches: std::mem::take(&mut *shared.watches.lock().unwrap()),
        keeps: Some(size.keeps),
    };
    let proof = caracal_history::check(&history).unwrap_or_else(|faults| {
        let text: Vec<String> = faults
            .iter()
            .take(5)
            .map(|fault| format!("{fault:.1000}"))
            .collect();
        panic!(
            "{size:?}: {} violations, among them:\n{}",
            faults.len(),
            text.join("\n")
        )
    });
    eprintln!("{size:?}: {proof:?}, {} watches", history.watches.len());
    proof
}

/// Ends the watches when they have seen everything.
async fn finish(shared: &Arc<Shared>, watches: impl Iterator<Item = tokio::task::JoinHandle<()>>) {
    // All of it once more, at rest. The disk may fail here, too.
    let mut life = shared.life(None).await;
    let read = async {
        loop {
            let all = Op::Step(Step::Range(Span::between("a", "z"), 0));
            match shared.call(&life, all).await.outcome {
                Outcome::Unknown => life = shared.again(life.clone()).await,
                outcome => break outcome,
            }
        }
    };
    let end = shared.within("a read at rest", read).await;
    assert!(matches!(end, Outcome::Done(..)), "{end:?}");
    shared.over.store(true, SeqCst);
    for watch in watches {
        shared.within("a watch sees everything", watch).await.unwrap();
    }
}

/// One client: random operations one after another, until enough are made.
async fn client(shared: Arc<Shared>, number: usize, mut dice: Dice, enough: usize) {
    let mut mind = Mind::new(number);
    let mut life = shared.life(None).await;
    while shared.operations.fetch_add(1, SeqCst) < enough {
        let room = async {
            while shared.known.load(SeqCst) - shared.seen() > BEHIND {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        shared.within("watches come closer", room).await;
        let op = mind.next(&mut dice, &shared);
        let call = shared.call(&life, op).await;
        if call.outcome == Outcome::Unknown {
            life = shared.again(life).await;
        }
        mind.learn(&call);
    }
}

/// What a client remembers, to ask sensible questions.
struct Mind {
    number: usize,
    made: usize,
    /// Last change of keys as far as it knows.
    modified: BTreeMap<String, i64>,
    leases: Vec<i64>,
}

/// Keys: a few that all fight for and more that are used now and then.
fn key(dice: &mut Dice) -> String {
    let hot = ["a", "b", "c", "d", "e", "f", "g", "h"];
    if dice.one_in(3) {
        hot[dice.below(hot.len())].to_owned()
    } else {
        format!("{}{:02}", hot[dice.below(hot.len())], dice.below(16))
    }
}

impl Mind {
    fn new(number: usize) -> Self {
        Self {
            number,
            made: 0,
            modified: BTreeMap::new(),
            leases: Vec::new(),
        }
    }

    fn put(&mut self, key: String, dice: &mut Dice) -> Step {
        self.made += 1;
        let mut value = format!("{}.{}.", self.number, self.made);
        if dice.one_in(8) {
            value.push_str(&"x".repeat(dice.below(3000)));
        }
        let lease = match self.leases.len() {
            n if n > 0 && dice.one_in(5) => self.leases[dice.below(n)],
            _ => 0,
        };
        Step::Put { key, value, lease }
    }

    fn next(&mut self, dice: &mut Dice, shared: &Shared) -> Op {
        match dice.below(100) {
            0..38 => Op::Step(self.put(key(dice), dice)),
            38..60 => Op::Txn(self.txn(dice)),
            60..68 => Op::Step(Step::Delete(Span::one(key(dice)))),
            68..70 => {
                let from = key(dice);
                let to = format!("{from}9");
                Op::Step(Step::Delete(Span::between(from, to)))
            }
            70..80 => Op::Step(Step::Range(Span::one(key(dice)), 0)),
            80..88 => Op::Step(Step::Range(Span::between("c", "e"), 0)),
            88..92 => {
                let back = dice.below(400) as i64;
                let at = (shared.known.load(SeqCst) - back).max(2);
                // Before the first write there is no revision 2.
                let at = if at > shared.known.load(SeqCst) { 0 } else { at };
                Op::Step(Step::Range(Span::between("a", "c"), at))
            }
            92..95 => {
                self.made += 1;
                Op::Grant {
                    lease: (self.number as i64 + 1) * 10_000_000 + self.made as i64,
                    short: dice.one_in(2),
                }
            }
            95..98 if !self.leases.is_empty() => Op::Revoke {
                lease: self.leases.swap_remove(dice.below(self.leases.len())),
            },
            98 if dice.one_in(4) => Op::Compact {
                revision: (shared.seen() - dice.below(300) as i64).max(1),
            },
            _ => Op::Step(Step::Range(Span::one(key(dice)), 0)),
        }
    }

    /// Changes several keys if one or two are as they were when last seen, else reads them.
    fn txn(&mut self, dice: &mut Dice) -> Txn {
        let mut keys: Vec<String> = (0..2 + dice.below(3)).map(|_| key(dice)).collect();
        keys.sort();
        keys.dedup();
        let condition = |key: &String| {
            let modified = self.modified.get(key).copied().unwrap_or(0);
            Compare {
                key: key.clone(),
                field: if modified == 0 {
                    Field::Created(0)
                } else {
                    Field::Modified(modified)
                },
            }
        };
        let compares = keys.iter().take(dice.below(3)).map(condition).collect();
        let read = |key: &String| Step::Range(Span::one(key.clone()), 0);
        let failure = keys.iter().map(read).collect();
        let success = keys
            .iter()
            .map(|key| match dice.below(8) {
                0 => Step::Delete(Span::one(key.clone())),
                1 => read(key),
                _ => self.put(key.clone(), dice),
            })
            .collect();
        Txn {
            compares,
            success,
            failure,
        }
    }

    fn learn(&mut self, call: &Call) {
        let Outcome::Done(revision, answer) = &call.outcome else {
            if let Op::Step(Step::Put { lease, .. }) = &call.op {
                // It may have run out.
                self.leases.retain(|known| known != lease);
            }
            return;
        };
        match (&call.op, answer) {
            (Op::Grant { lease, .. }, _) => self.leases.push(*lease),
            (Op::Step(step), answer) => self.learn_step(step, answer, *revision),
            (Op::Txn(txn), Answer::Txn(succeeded, answers)) => {
                let steps = if *succeeded { &txn.success } else { &txn.failure };
                for (step, answer) in steps.iter().zip(answers) {
                    self.learn_step(step, answer, *revision);
                }
            }
            _ => {}
        }
        if self.leases.len() > 4 {
            self.leases.remove(0);
        }
    }

    fn learn_step(&mut self, step: &Step, answer: &Answer, revision: i64) {
        match (step, answer) {
            (Step::Put { key, .. }, _) => drop(self.modified.insert(key.clone(), revision)),
            (Step::Delete(span), _) => drop(self.modified.remove(&span.from)),
            (Step::Range(_, 0), Answer::Found(found)) => {
                for (key, version) in found {
                    self.modified.insert(key.clone(), version.modified);
                }
            }
            _ => {}
        }
    }
}

struct Stream {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
}

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(union),
    }
}

impl Stream {
    async fn open(channel: Channel, span: Option<&Span>, from: i64) -> Option<Self> {
        let (requests, outgoing) = mpsc::channel(4);
        let (key, end) = match span {
            Some(span) => (span.from.clone(), span.to.clone().unwrap_or_default()),
            None => ("\0".to_owned(), "\0".to_owned()),
        };
        let create = WatchCreateRequest {
            key: key.into(),
            range_end: end.into(),
            start_revision: from,
            prev_kv: true,
            ..Default::default()
        };
        requests
            .send(request(RequestUnion::CreateRequest(create)))
            .await
            .ok()?;
        let responses = WatchClient::new(channel)
            .watch(ReceiverStream::new(outgoing))
            .await
            .ok()?;
        Some(Self {
            requests,
            responses: responses.into_inner(),
        })
    }

    async fn ask_progress(&self) {
        // When it cannot be sent the stream has ended, which shows at once.
        let _ = self
            .requests
            .send(request(RequestUnion::ProgressRequest(WatchProgressRequest {})))
            .await;
    }

    /// The next response; none when the stream is over.
    async fn next(&mut self) -> Option<WatchResponse> {
        self.responses.message().await.ok().flatten()
    }
}

/// Adds what a response says; the revision up to which all was shown.
fn add(items: &mut Vec<Item>, response: &WatchResponse) -> Option<i64> {
    if response.canceled {
        items.push(Item::Compacted(response.compact_revision));
        return None;
    }
    items.extend(response.events.iter().map(speak::item));
    if let Some(event) = response.events.last() {
        return event.kv.as_ref().map(|kv| kv.mod_revision);
    }
    let told = response.watch_id == -1 && !response.created;
    let revision = response
        .header
        .as_ref()
        .filter(|_| told)
        .map(|header| header.revision)?;
    items.push(Item::Progress(revision));
    Some(revision)
}

/// A watch from the first revision to the last, resumed in every life where it was.
async fn follow(shared: Arc<Shared>, name: String, span: Option<Span>) {
    let mut items = Vec::new();
    let mut seen = 1;
    let mut life = shared.life(None).await;
    'lives: loop {
        items.push(Item::Start(seen + 1));
        if let Some(mut stream) = Stream::open(life.channel.clone(), span.as_ref(), seen + 1).await {
            let mut pause = tokio::time::interval(Duration::from_millis(100));
            loop {
                tokio::select! {
                    response = stream.next() => {
                        let Some(response) = response else { break };
                        if let Some(upto) = add(&mut items, &response) {
                            seen = seen.max(upto);
                        }
                        shared.seen[usize::from(span.is_some())].fetch_max(seen, SeqCst);
                    }
                    _ = pause.tick() => {
                        if shared.over.load(SeqCst) && seen >= shared.known.load(SeqCst) {
                            break 'lives;
                        }
                        stream.ask_progress().await;
                    }
                }
            }
        }
        life = shared.again(life).await;
    }
    shared.watches.lock().unwrap().push(Watch { name, span, items });
}

/// Watches that come late and leave early: they begin somewhere in the past.
async fn late(shared: Arc<Shared>, mut dice: Dice) {
    let mut number = 0;
    while !shared.over.load(SeqCst) {
        let life = shared.life(None).await;
        let until = shared.known.load(SeqCst);
        let from = (until - dice.below(800) as i64).max(2);
        let span = dice.one_in(2).then(|| Span::between("a", "c"));
        let mut items = vec![Item::Start(from)];
        if let Some(mut stream) = Stream::open(life.channel.clone(), span.as_ref(), from).await {
            stream.ask_progress().await;
            let reading = async {
                while let Some(response) = stream.next().await {
                    match add(&mut items, &response) {
                        Some(upto) if upto >= until => break,
                        None if response.canceled => break,
                        _ => {}
                    }
                }
            };
            // One whose revision never comes ends with the server; the last server stays until this is over.
            let _ = tokio::time::timeout(Duration::from_secs(2), reading).await;
        }
        number += 1;
        let name = format!("late {number}");
        shared.watches.lock().unwrap().push(Watch { name, span, items });
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
