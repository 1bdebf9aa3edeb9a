use caracal_netlink::{Message, Messages, Protocol, Received, Refusal, Request, Socket, Wait, flags};

use crate::{
    Error,
    batch::Batch,
    numbers::{SUBSYSTEM, generation, msg, rule},
};

/// Room for answers: an error or an echo per message of a batch.
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;
/// What a socket can send without being asked to make room.
const SEND_BUFFER: usize = 512 * 1024;

/// Why a batch did not become the kernel's state.
#[derive(Debug)]
pub enum TxError {
    /// The kernel refused it; nothing of it was done.
    Refused(Vec<Refusal>),
    /// It is not known what happened.
    Failed(Error),
}

/// The handle that the kernel gave to a new rule, with the sequence number of its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo {
    /// Sequence number of the message that made the rule.
    pub seq: u32,
    /// The rule's handle.
    pub handle: u64,
}

/// A way to the kernel's nf_tables.
pub trait NftTx {
    /// Makes the kernel take a batch, all or nothing.
    ///
    /// # Errors
    /// See [`TxError`].
    fn commit(&mut self, batch: &mut Batch) -> Result<Vec<Echo>, TxError>;

    /// Reads all objects that a request asks for.
    ///
    /// # Errors
    /// When the kernel refuses, or when changes interrupt every try.
    fn dump<T>(
        &mut self,
        request: &Request,
        parse: impl FnMut(Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, caracal_netlink::Error>;

    /// Reads one object.
    ///
    /// # Errors
    /// `ENOENT` when there is none.
    fn get(&mut self, request: &Request, each: impl FnMut(Message<'_>))
    -> Result<(), caracal_netlink::Error>;

    /// By what notifications of our own changes are told from those of others.
    fn port(&self) -> u32;
}

/// The netlink socket of the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct NetlinkTx {
    socket: Socket,
    send_buffer: usize,
}

impl NetlinkTx {
    /// Opens the way to the current network namespace's nf_tables.
    ///
    /// # Errors
    /// When there is no netfilter netlink, or no right to it.
    pub fn open() -> Result<Self, Error> {
        let socket = Socket::open(Protocol::Netfilter).map_err(Error::opening)?;
        socket
            .set_receive_buffer(RECEIVE_BUFFER)
            .map_err(Error::opening)?;
        socket.set_send_buffer(SEND_BUFFER).map_err(Error::opening)?;
        Ok(Self {
            socket,
            send_buffer: SEND_BUFFER,
        })
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), caracal_netlink::Error> {
        // The kernel keeps a little of the buffer for itself, and doubles what it is asked for.
        if bytes.len() > self.send_buffer {
            self.socket.set_send_buffer(bytes.len())?;
            self.send_buffer = bytes.len();
        }
        while self.socket.recv(Wait::No)? != Received::Nothing {}
        self.socket.send(bytes)
    }
}

impl NftTx for NetlinkTx {
    fn commit(&mut self, batch: &mut Batch) -> Result<Vec<Echo>, TxError> {
        let failed = |source| {
            TxError::Failed(Error::Netlink {
                doing: "change nf_tables",
                source,
            })
        };
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let bytes = batch.finish();
        self.send(bytes).map_err(failed)?;
        let (mut refusals, mut echoes, mut taken, mut lost) = (Vec::new(), Vec::new(), false, false);
        // Everything is in the buffer when the send returns.
        loop {
            let bytes = match self.socket.recv(Wait::No).map_err(failed)? {
                Received::Bytes(bytes) => bytes,
                Received::Overrun => {
                    lost = true;
                    continue;
                }
                Received::Nothing => break,
            };
            for message in Messages::new(bytes) {
                match message.verdict() {
                    Some(Ok(())) => taken = true,
                    Some(Err(refusal)) => refusals.push(refusal),
                    None if message.kind == (SUBSYSTEM << 8) | msg::NEW_RULE => {
                        let handle = message.attrs(4).find(rule::HANDLE).and_then(|a| a.as_be64());
                        echoes.extend(handle.map(|handle| Echo {
                            seq: message.seq,
                            handle,
                        }));
                    }
                    None => {}
                }
            }
        }
        if !refusals.is_empty() {
            return Err(TxError::Refused(refusals));
        }
        if taken && !lost {
            return Ok(echoes);
        }
        Err(failed(if lost {
            caracal_netlink::Error::Overrun
        } else {
            caracal_netlink::Error::Malformed("a batch was neither taken nor refused")
        }))
    }

    fn dump<T>(
        &mut self,
        request: &Request,
        parse: impl FnMut(Message<'_>) -> Option<T>,
    ) -> Result<Vec<T>, caracal_netlink::Error> {
        self.socket.dump(request, parse)
    }

    fn get(
        &mut self,
        request: &Request,
        each: impl FnMut(Message<'_>),
    ) -> Result<(), caracal_netlink::Error> {
        self.socket.request_each(request, each)
    }

    fn port(&self) -> u32 {
        self.socket.port()
    }
}

/// The number of the last commit of anyone in the network namespace.
pub(crate) fn generation(tx: &mut impl NftTx) -> Result<u32, Error> {
    let request = Request::new((SUBSYSTEM << 8) | msg::GET_GEN, flags::REQUEST, &[0; 4]);
    let mut id = None;
    tx.get(&request, |m| {
        id = m.attrs(4).find(generation::ID).and_then(|a| a.as_be32()).or(id)
    })
    .map_err(|source| Error::Netlink {
        doing: "read the generation",
        source,
    })?;
    id.ok_or(Error::Netlink {
        doing: "read the generation",
        source: caracal_netlink::Error::Malformed("it has no number"),
    })
}
