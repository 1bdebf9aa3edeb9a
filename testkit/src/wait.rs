use std::net::{Ipv4Addr, TcpListener};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::vm;

/// Calls `attempt` until it succeeds, and panics with its last error once `limit` has passed; in a virtual machine, which
/// is many times slower, four times that.
#[track_caller]
pub fn eventually<T>(limit: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let limit = if vm::inside() { limit * 4 } else { limit };
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) if Instant::now() >= deadline => panic!("not within {limit:?}: {error}"),
            Err(_) => sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// A TCP port on loopback that was free a moment ago, in the calling thread's network namespace.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port can be had");
    listener
        .local_addr()
        .expect("a bound socket has an address")
        .port()
}
