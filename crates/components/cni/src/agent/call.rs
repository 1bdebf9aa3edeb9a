//! One call of the agent: gRPC over HTTP/2 on the agent's socket, a connection for each call, in this thread.
//!
//! A plugin lives for some milliseconds and asks the agent once. What a client for many calls at a time keeps (a runtime,
//! threads, tables of streams and headers) would cost it more than all else that it does.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use prost::Message;
use socket2::{Domain, SockAddr, Socket, Type};

use super::{
    frames::{self, Incoming},
    hpack,
};

/// The largest request. The agent takes so much without being asked for leave; whoever has more does without it.
const LARGEST: usize = 60_000;

/// What the agent answers to one call, message by message.
#[derive(Debug)]
pub(super) struct Answers {
    stream: UnixStream,
    incoming: Incoming,
}

/// Sends a request. What comes back is read when it is asked for.
pub(super) fn ask(
    socket: &str,
    method: &str,
    request: &impl Message,
    deadline: Instant,
) -> Result<Answers, String> {
    let length = request.encoded_len();
    if length > LARGEST {
        return Err(format!("the request has {length} bytes, more than {LARGEST}"));
    }
    let mut bytes = frames::opening(&hpack::request(method));
    frames::message(&mut bytes, &request.encode_to_vec());
    let unreachable = |e| format!("the agent cannot be reached: {e}");
    let mut stream = connect(socket, deadline).map_err(unreachable)?;
    stream.write_all(&bytes).map_err(unreachable)?;
    Ok(Answers {
        stream,
        incoming: Incoming::default(),
    })
}

fn connect(path: &str, deadline: Instant) -> std::io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Of an agent that hangs, the queue of those who wait may be full.
    socket.set_write_timeout(Some(left(deadline)))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(UnixStream::from(std::os::fd::OwnedFd::from(socket)))
}

/// Never nothing, which would mean for ever.
fn left(deadline: Instant) -> Duration {
    deadline
        .saturating_duration_since(Instant::now())
        .max(Duration::from_millis(1))
}

impl Answers {
    /// The next message; none when the agent has ended the call without one.
    pub(super) fn next<M: Message + Default>(&mut self, deadline: Instant) -> Result<Option<M>, String> {
        loop {
            if let Some(message) = self.incoming.message()? {
                let decoded = M::decode(message.as_slice());
                return decoded
                    .map(Some)
                    .map_err(|e| format!("an answer that cannot be read: {e}"));
            }
            if let Some(end) = self.incoming.end() {
                return end.map(|()| None);
            }
            if Instant::now() >= deadline {
                return Err("the agent did not answer".to_owned());
            }
            self.read(deadline).map_err(|e| match e.kind() {
                std::io::ErrorKind::WouldBlock => "the agent did not answer".to_owned(),
                _ => format!("the connection to the agent: {e}"),
            })?;
        }
    }

    fn read(&mut self, deadline: Instant) -> std::io::Result<()> {
        self.stream.set_read_timeout(Some(left(deadline)))?;
        let mut bytes = [0; 2048];
        let got = match self.stream.read(&mut bytes) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        };
        let reply = self.incoming.take(&bytes[..got]);
        if !reply.is_empty() {
            self.stream.write_all(&reply)?;
        }
        Ok(())
    }
}
