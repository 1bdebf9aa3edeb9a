use std::collections::HashMap;
use std::time::Duration;

use caracal_netlink::{MessageWriter, Messages, Protocol, Received, Refusal, Socket, Wait, flags};
use caracal_sys::NetNs;
use netlink_packet_core::{NetlinkSerializable, ParseableParametrized};
use netlink_packet_route::RouteNetlinkMessage;

use crate::LinkError;

/// A wait this long for the kernel means that something is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests sent in one piece. The kernel queues an answer for each that fails before we read the first.
const BATCH: usize = 256;

/// Room for the answers to a batch of failures, each charged by the kernel at more than a kilobyte.
const RECEIVE_BUFFER: usize = 4 << 20;

/// One rtnetlink request.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is asked.
    pub message: RouteNetlinkMessage,
    /// Flags of the message beside those every request has (`caracal_netlink::flags`).
    pub flags: u16,
}

impl Request {
    fn body(&self) -> Vec<u8> {
        let mut body = vec![0; self.message.buffer_len()];
        self.message.serialize(&mut body);
        body
    }

    fn raw(&self) -> caracal_netlink::Request {
        caracal_netlink::Request {
            kind: self.message.message_type(),
            flags: self.flags,
            body: self.body(),
        }
    }
}

/// Requests to the kernel's network configuration, in the namespace in which it was opened.
#[derive(Debug)]
pub struct Rtnl {
    socket: Socket,
    /// Whether the socket has room for the answers to a batch.
    roomy: bool,
}

fn socket_error(action: &'static str) -> impl Fn(caracal_netlink::Error) -> LinkError {
    move |source| LinkError::Socket { action, source }
}

/// Decodes a message; one that cannot be understood is passed over, for it is not ours.
pub(crate) fn decode(message: &caracal_netlink::Message<'_>) -> Option<RouteNetlinkMessage> {
    RouteNetlinkMessage::parse_with_param(message.payload, message.kind)
        .inspect_err(|error| {
            tracing::warn!(kind = message.kind, %error, "a message of the kernel is not understood");
        })
        .ok()
}

impl Rtnl {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self, LinkError> {
        let socket = Socket::open(Protocol::Route).map_err(socket_error("open a route socket"))?;
        Ok(Self { socket, roomy: false })
    }

    /// Opens a socket in another network namespace.
    pub fn open_in(netns: &NetNs) -> Result<Self, LinkError> {
        netns.visit(Self::open)?
    }

    /// The socket's address: events that its requests cause carry it.
    pub fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Sends a request and waits for the kernel's verdict. `object` names what it is about, for the error.
    pub fn request(
        &mut self,
        action: &'static str,
        object: impl FnOnce() -> String,
        request: Request,
    ) -> Result<(), LinkError> {
        self.socket
            .request(&request.raw())
            .map_err(|e| failed(action, object, e))
    }

    pub(crate) fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// The same for a message that is encoded already.
    pub(crate) fn raw(
        &mut self,
        action: &'static str,
        object: impl FnOnce() -> String,
        request: &caracal_netlink::Request,
    ) -> Result<(), LinkError> {
        self.socket
            .request(request)
            .map_err(|e| failed(action, object, e))
    }

    /// Asks for all objects of a sort with a message that is encoded already.
    pub(crate) fn raw_dump<T>(
        &mut self,
        action: &'static str,
        request: &caracal_netlink::Request,
        pick: impl FnMut(caracal_netlink::Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, LinkError> {
        self.socket.dump(request, pick).map_err(socket_error(action))
    }

    /// Asks for one object and returns the answer's messages.
    pub fn query(
        &mut self,
        action: &'static str,
        object: impl FnOnce() -> String,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, LinkError> {
        let mut found = Vec::new();
        let request = Request { message, flags: 0 };
        self.socket
            .request_each(&request.raw(), |message| found.extend(decode(&message)))
            .map_err(|e| failed(action, object, e))?;
        Ok(found)
    }

    /// Asks for all objects of a sort and returns those that `pick` makes something of.
    pub fn dump<T>(
        &mut self,
        action: &'static str,
        message: RouteNetlinkMessage,
        mut pick: impl FnMut(RouteNetlinkMessage) -> Option<T>,
    ) -> Result<Vec<T>, LinkError> {
        let request = Request { message, flags: 0 };
        self.socket
            .dump(&request.raw(), |message| decode(&message).and_then(&mut pick))
            .map_err(socket_error(action))
    }

    /// Sends many requests with few system calls; one verdict for each, in order. A request that fails does
    /// not stop the others. An error means that the verdicts are unknown.
    pub fn batch(&mut self, requests: &[Request]) -> Result<Vec<Result<(), Refusal>>, LinkError> {
        if !self.roomy {
            self.socket
                .set_receive_buffer(RECEIVE_BUFFER)
                .map_err(socket_error("enlarge the receive buffer"))?;
            self.roomy = true;
        }
        let mut verdicts = Vec::with_capacity(requests.len());
        for chunk in requests.chunks(BATCH) {
            self.send_chunk(chunk, &mut verdicts)
                .map_err(socket_error("change many objects"))?;
        }
        Ok(verdicts)
    }

    /// Only the last request asks for an answer: the kernel answers failures unasked, and in order.
    fn send_chunk(
        &mut self,
        chunk: &[Request],
        verdicts: &mut Vec<Result<(), Refusal>>,
    ) -> Result<(), caracal_netlink::Error> {
        // What was left behind by a request that was given up is not ours.
        while self.socket.recv(Wait::No)? != Received::Nothing {}
        let mut bytes = Vec::with_capacity(chunk.len() * 128);
        let mut place = HashMap::with_capacity(chunk.len());
        let mut last = 0;
        for (number, request) in chunk.iter().enumerate() {
            last = self.socket.next_seq();
            place.insert(last, verdicts.len());
            verdicts.push(Ok(()));
            let mut bits = (request.flags & !flags::ACK) | flags::REQUEST;
            if number + 1 == chunk.len() {
                bits |= flags::ACK;
            }
            MessageWriter::new(&mut bytes, request.message.message_type(), bits, last).fixed(&request.body());
        }
        self.socket.send(&bytes)?;
        loop {
            let answers = match self.socket.recv(Wait::For(PATIENCE))? {
                Received::Bytes(answers) => answers,
                Received::Overrun => return Err(caracal_netlink::Error::Overrun),
                Received::Nothing => return Err(caracal_netlink::Error::Timeout(PATIENCE)),
            };
            for message in Messages::new(answers) {
                let (Some(verdict), Some(place)) = (message.verdict(), place.get(&message.seq)) else {
                    continue;
                };
                verdicts[*place] = verdict;
                if message.seq == last {
                    return Ok(());
                }
            }
        }
    }
}

pub(crate) fn failed(
    action: &'static str,
    object: impl FnOnce() -> String,
    error: caracal_netlink::Error,
) -> LinkError {
    match error {
        caracal_netlink::Error::Refused(refusal) => LinkError::Refused {
            action,
            object: object(),
            refusal,
        },
        source => LinkError::Socket { action, source },
    }
}
