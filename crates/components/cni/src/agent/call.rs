//! One call of the agent: a connection for each, in this thread.

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use caracal_agent_api::{
    pods,
    v1::{PodAnswer, Refused, pod_answer::Answer, pod_call::Ask, refused::Code},
};
use socket2::{Domain, SockAddr, Socket, Type};

/// Why there is no answer.
#[derive(Debug)]
pub(crate) struct Unanswered {
    pub(crate) why: String,
    /// Whether the agent speaks another version: then it never answers.
    pub(crate) foreign: bool,
}

/// What the agent answers to one call.
#[derive(Debug)]
pub(super) struct Answers(UnixStream);

/// Sends a request. What comes back is read when it is asked for.
pub(super) fn ask(socket: &str, ask: Ask, deadline: Instant) -> Result<Answers, Unanswered> {
    let bytes = pods::frame(&pods::call(ask)).map_err(|e| format!("the request: {e}"))?;
    let sent = connect(socket, deadline).and_then(|mut stream| {
        stream.write_all(&bytes)?;
        Ok(Answers(stream))
    });
    sent.map_err(|e| format!("the agent cannot be reached: {e}").into())
}

fn connect(path: &str, deadline: Instant) -> std::io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Of an agent that hangs, the queue of those who wait may be full.
    socket.set_write_timeout(left(deadline))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(UnixStream::from(std::os::fd::OwnedFd::from(socket)))
}

/// Never nothing, which would mean for ever.
fn left(deadline: Instant) -> Option<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    Some(left.max(Duration::from_millis(1)))
}

impl Answers {
    /// The next answer; none when the agent has ended the call without one.
    pub(super) fn next(&mut self, deadline: Instant) -> Result<Option<Answer>, Unanswered> {
        let stream = &self.0;
        let read = pods::read::<PodAnswer>(&mut Until { stream, deadline });
        let answer = read.map_err(|e| match e.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => "the agent did not answer".to_owned(),
            _ => format!("the connection to the agent: {e}"),
        })?;
        match answer.map(|a| a.answer) {
            None => Ok(None),
            Some(None) => Err("an answer of a kind that is not known here".to_owned().into()),
            Some(Some(Answer::Refused(refused))) => Err(refused.into()),
            Some(answer) => Ok(answer),
        }
    }
}

/// Reads until a moment, however the bytes come.
struct Until<'a> {
    stream: &'a UnixStream,
    deadline: Instant,
}

impl Read for Until<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        if Instant::now() >= self.deadline {
            return Err(ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(left(self.deadline))?;
        self.stream.read(bytes)
    }
}

impl From<String> for Unanswered {
    fn from(why: String) -> Self {
        let foreign = false;
        Self { why, foreign }
    }
}

impl From<Refused> for Unanswered {
    fn from(refused: Refused) -> Self {
        Self {
            foreign: refused.code() == Code::Version,
            why: refused.message,
        }
    }
}
