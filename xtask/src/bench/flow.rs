//! Connections between two pods of the node: how long a byte there and back takes, how many are made in a second.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use super::{Bench, harness, world::NETNS};

/// Set for the programs inside the pods: `serve ADDRESS` or `ask ADDRESS`.
pub(super) const INSIDE: &str = "CARACAL_BENCH_FLOW";

/// Rounds of one connection.
const ROUNDS: usize = 20_000;
/// How long connections are made.
const TIME: Duration = Duration::from_secs(5);

/// What the program does inside a pod.
pub(super) fn play(role: &str) -> Result<()> {
    let (role, address) = role.split_once(' ').context("a role and an address")?;
    let address: SocketAddr = address.parse()?;
    match role {
        "serve" => serve(address),
        "ask" => ask(address),
        _ => bail!("no such role: {role}"),
    }
}

fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        stream.set_nodelay(true)?;
        let mut byte = [0];
        // It ends when the other side ends it.
        while matches!(stream.read(&mut byte), Ok(1)) && stream.write_all(&byte).is_ok() {}
    }
    Ok(())
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn ask(address: SocketAddr) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    let mut stream = loop {
        match connect(address) {
            Ok(stream) => break stream,
            Err(e) if Instant::now() > end => return Err(e.context("the other pod does not answer")),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let mut byte = [1];
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        times.push(start.elapsed());
    }
    drop(stream);
    times.sort_unstable();
    let start = Instant::now();
    let mut made = 0_u32;
    while start.elapsed() < TIME {
        let mut stream = connect(address)?;
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        // A reset leaves no port behind that waits.
        reset_at_end(&stream)?;
        made += 1;
    }
    let rate = f64::from(made) / start.elapsed().as_secs_f64();
    println!("p50 {} rate {rate}", times[ROUNDS / 2].as_secs_f64() * 1e6);
    Ok(())
}

/// Makes the end of a connection a reset.
fn reset_at_end(stream: &TcpStream) -> Result<()> {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
    Ok(())
}

/// A pod's program; it ends with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn inside(pod: &str, role: &str) -> Result<Command> {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{pod}"))
        .arg("--")
        .arg(std::env::current_exe().context("finding this program")?)
        .arg("bench")
        .env(INSIDE, role);
    Ok(command)
}

/// From the first pod to the second, at a port that its last policy opens; median in microseconds, connections a second.
pub(super) fn measure(bench: &Bench, policies: u32) -> Result<Vec<Vec<f64>>> {
    let script = format!(
        "for n in 0 1; do
           ip netns add {NETNS}-pod$n
           ip -n {NETNS}-pods link set p0000000$n netns {NETNS}-pod$n
           ip -n {NETNS}-pod$n link set lo up
           ip -n {NETNS}-pod$n link set p0000000$n up
           ip -n {NETNS}-pod$n address add 10.65.0.$n/32 dev p0000000$n
           ip -n {NETNS}-pod$n route add 169.254.1.1 dev p0000000$n
           ip -n {NETNS}-pod$n route add default via 169.254.1.1 dev p0000000$n
           mac=$(ip -n {NETNS} -o link show cali0000000$n | sed 's/.*ether \\([^ ]*\\).*/\\1/')
           ip -n {NETNS}-pod$n neighbour add 169.254.1.1 lladdr $mac dev p0000000$n
         done"
    );
    let mut make = Command::new("sh");
    make.args(["-ec", &script]);
    harness::output(make, Duration::from_secs(20))?;
    let outcome = both(bench, policies);
    for n in 0..2 {
        let mut remove = Command::new("ip");
        remove.args(["netns", "delete", &format!("{NETNS}-pod{n}")]);
        harness::output(remove, Duration::from_secs(20))?;
    }
    outcome
}

fn both(bench: &Bench, policies: u32) -> Result<Vec<Vec<f64>>> {
    // The last policy of the pod with app=a1 opens eleven ports from this one on.
    let port = if policies == 0 {
        8000
    } else {
        1024 + (policies - 99) % 20_000 + 5
    };
    let address = format!("10.65.0.1:{port}");
    let mut columns = vec![Vec::new(); 2];
    let mut serve = inside(&format!("{NETNS}-pod1"), &format!("serve {address}"))?;
    let _server = Server(
        serve
            .stdin(Stdio::null())
            .spawn()
            .context("starting the server")?,
    );
    for run in 0..bench.options.runs {
        bench.step(&format!("flows: {policies} policies, run {}", run + 1));
        let text = harness::output(
            inside(&format!("{NETNS}-pod0"), &format!("ask {address}"))?,
            Duration::from_secs(60),
        )?;
        let words: Vec<&str> = text.split_whitespace().collect();
        ensure!(words.len() >= 4 && words[0] == "p50", "{text}");
        columns[0].push(words[1].parse()?);
        columns[1].push(words[3].parse()?);
    }
    Ok(columns)
}
