use std::time::Duration;

use crate::{
    Error,
    message::{Message, MessageWriter, Messages, flags, kind},
    socket::{Received, Socket, Wait},
};

/// The kernel answers while the request is being sent; a wait this long means that something is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a dump that a change interrupted is tried.
const DUMP_TRIES: u32 = 8;

/// A request: a type, flags, and what follows the header.
#[derive(Debug, Clone)]
pub struct Request {
    /// Type of the message.
    pub kind: u16,
    /// Flags beside the ones that every request has.
    pub flags: u16,
    /// Fixed part and attributes.
    pub body: Vec<u8>,
}

impl Request {
    /// A request with this fixed part and no attributes yet.
    #[must_use]
    pub fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut body = fixed.to_vec();
        body.resize(crate::align4(body.len()), 0);
        Self { kind, flags, body }
    }

    /// Appends attributes.
    pub fn attrs(&mut self) -> crate::AttrWriter<'_> {
        crate::AttrWriter::new(&mut self.body)
    }
}

impl Socket {
    fn post(&mut self, request: &Request, more: u16) -> Result<u32, Error> {
        self.drop_stale()?;
        let seq = self.next_seq();
        let mut bytes = Vec::with_capacity(request.body.len() + 16);
        MessageWriter::new(
            &mut bytes,
            request.kind,
            request.flags | flags::REQUEST | more,
            seq,
        )
        .fixed(&request.body);
        self.send(&bytes)?;
        Ok(seq)
    }

    /// Answers to a request that was given up must not be taken for answers to the next one.
    fn drop_stale(&mut self) -> Result<(), Error> {
        while self.recv(Wait::No)? != Received::Nothing {}
        Ok(())
    }

    /// Sends a request and waits for its acknowledgement. Not for sockets that joined a group.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel says no, others when no answer can be had.
    pub fn request(&mut self, request: &Request) -> Result<(), Error> {
        self.request_each(request, |_| {})
    }

    /// The same, and hands out every message that comes before the acknowledgement (the answer to a "get", or the
    /// echo of a change).
    ///
    /// # Errors
    /// As [`Socket::request`].
    pub fn request_each(
        &mut self,
        request: &Request,
        mut each: impl FnMut(Message<'_>),
    ) -> Result<(), Error> {
        let seq = self.post(request, flags::ACK)?;
        loop {
            let bytes = match self.recv(Wait::For(PATIENCE))? {
                Received::Bytes(bytes) => bytes,
                Received::Overrun => return Err(Error::Overrun),
                Received::Nothing => return Err(Error::Timeout(PATIENCE)),
            };
            for message in Messages::new(bytes).filter(|m| m.seq == seq) {
                match message.verdict() {
                    Some(verdict) => return Ok(verdict?),
                    None => each(message),
                }
            }
        }
    }

    /// Reads all objects that a request asks for, each as `parse` makes it (`None` leaves one out). A read that a
    /// change interrupted is begun again, a few times.
    ///
    /// # Errors
    /// [`Error::Refused`] when the kernel says no, [`Error::Interrupted`] when there is no quiet moment.
    pub fn dump<T>(
        &mut self,
        request: &Request,
        mut parse: impl FnMut(Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..DUMP_TRIES {
            let mut all = Vec::new();
            if self.dump_once(request, |m| all.extend(parse(m)))? {
                return Ok(all);
            }
        }
        Err(Error::Interrupted { tries: DUMP_TRIES })
    }

    /// One try of a dump; false when a change interrupted it.
    ///
    /// # Errors
    /// As [`Socket::dump`].
    pub fn dump_once(&mut self, request: &Request, mut each: impl FnMut(Message<'_>)) -> Result<bool, Error> {
        let seq = self.post(request, flags::DUMP)?;
        let mut whole = true;
        loop {
            let bytes = match self.recv(Wait::For(PATIENCE))? {
                Received::Bytes(bytes) => bytes,
                Received::Overrun => return Err(Error::Overrun),
                Received::Nothing => return Err(Error::Timeout(PATIENCE)),
            };
            for message in Messages::new(bytes).filter(|m| m.seq == seq) {
                whole &= message.flags & flags::DUMP_INTR == 0;
                match message.kind {
                    kind::DONE => return done(&message).map(|()| whole),
                    kind::ERROR => {
                        return message
                            .verdict()
                            .unwrap_or(Ok(()))
                            .map(|()| whole)
                            .map_err(Error::from);
                    }
                    kind::OVERRUN => return Err(Error::Overrun),
                    kind::NOOP => {}
                    _ => each(message),
                }
            }
        }
    }
}

/// A dump may fail in its middle: the last message then carries the error number.
fn done(message: &Message<'_>) -> Result<(), Error> {
    let errno = message
        .payload
        .get(..4)
        .and_then(|b| b.try_into().ok())
        .map_or(0, i32::from_ne_bytes);
    if errno >= 0 {
        return Ok(());
    }
    let text = crate::Attrs::new(&message.payload[4..])
        .find(1)
        .and_then(|a| a.as_str())
        .map(str::to_owned);
    Err(Error::Refused(crate::Refusal {
        errno: errno.saturating_neg(),
        seq: message.seq,
        text,
        offset: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Protocol;

    const GET_LINK: u16 = 18;
    const DEL_LINK: u16 = 17;

    #[test]
    fn every_namespace_has_a_loopback_link() {
        let mut socket = Socket::open(Protocol::Route).expect("a route socket");
        let names = socket
            .dump(&Request::new(GET_LINK, 0, &[0; 16]), |m| {
                m.attrs(16).find(3).and_then(|a| a.as_str()).map(str::to_owned)
            })
            .expect("a list of links");
        assert!(names.iter().any(|n| n == "lo"), "{names:?}");
    }

    #[test]
    fn a_refusal_names_its_error() {
        let mut socket = Socket::open(Protocol::Route).expect("a route socket");
        let mut request = Request::new(DEL_LINK, 0, &[0; 16]);
        request.attrs().str(3, "no-such-link");
        let error = socket.request(&request).expect_err("there is no such link");
        let known = [libc::ENODEV, libc::EPERM];
        assert!(error.errno().is_some_and(|e| known.contains(&e)), "{error}");
    }

    #[test]
    fn nothing_comes_unasked() {
        let mut socket = Socket::open(Protocol::Route).expect("a route socket");
        assert!(matches!(socket.recv(Wait::No), Ok(Received::Nothing)));
        assert!(matches!(
            socket.recv(Wait::For(Duration::from_millis(2))),
            Ok(Received::Nothing)
        ));
    }
}
