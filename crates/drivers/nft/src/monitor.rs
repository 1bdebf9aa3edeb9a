//! Who else changes nf_tables, told from notifications alone.

use caracal_net::Family;
use caracal_netlink::{Message, Messages, Protocol, Received, Socket, Wait};
use caracal_rules::ir::{ChainName, CounterName, SetName};

use crate::{
    Error,
    batch::Object,
    numbers::{GROUP, SUBSYSTEM, chain, elem, generation, msg, object, rule, set, table},
};

/// What was noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Noticed {
    /// Somebody else changed an object of a table of this name.
    Foreign {
        family: Family,
        table: String,
        object: Object,
        removed: bool,
    },
    /// Notifications were lost: anything may have changed.
    Lost,
}

/// A listener to nf_tables changes in the namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Monitor {
    pub(crate) socket: Socket,
    /// Port of the socket that makes our own changes.
    own: u32,
    /// Number of the last commit seen.
    generation: Option<u32>,
}

impl Monitor {
    pub(crate) fn open(own: u32, buffer: usize) -> Result<Self, Error> {
        let socket = Socket::open(Protocol::Netfilter).map_err(Error::opening)?;
        socket.set_receive_buffer(buffer).map_err(Error::opening)?;
        socket.join(GROUP).map_err(Error::opening)?;
        Ok(Self {
            socket,
            own,
            generation: None,
        })
    }

    /// Commits up to this one are known of.
    pub(crate) fn start_from(&mut self, generation: u32) {
        self.generation = Some(generation);
    }

    /// Waits for the first notification, takes all there are, and adds what matters.
    pub(crate) fn poll(&mut self, wait: Wait, noticed: &mut Vec<Noticed>) -> Result<(), Error> {
        let mut wait = wait;
        loop {
            let failed = |source| Error::Netlink {
                doing: "listen to nf_tables",
                source,
            };
            let (own, mut last) = (self.own, self.generation);
            match self.socket.recv(wait).map_err(failed)? {
                Received::Nothing => return Ok(()),
                Received::Overrun => {
                    noticed.push(Noticed::Lost);
                    // The numbers of lost commits are unknown; the next one begins the count anew.
                    last = None;
                }
                Received::Bytes(bytes) => {
                    for m in Messages::new(bytes).filter(|m| m.kind >> 8 == SUBSYSTEM) {
                        if m.kind & 0xff == msg::NEW_GEN {
                            last = count(&m, last, noticed);
                        } else if m.port != own {
                            noticed.extend(foreign(&m));
                        }
                    }
                }
            }
            self.generation = last;
            wait = Wait::No;
        }
    }
}

fn count(m: &Message<'_>, last: Option<u32>, noticed: &mut Vec<Noticed>) -> Option<u32> {
    let id = m.attrs(4).find(generation::ID).and_then(|a| a.as_be32())?;
    match last {
        // Numbers wrap; one that is behind was known when the listening began.
        Some(last) if id.wrapping_sub(last).cast_signed() <= 0 => return Some(last),
        Some(last) if id != last.wrapping_add(1) => noticed.push(Noticed::Lost),
        _ => {}
    }
    Some(id)
}

fn foreign(m: &Message<'_>) -> Option<Noticed> {
    let family = match m.payload.first()? {
        2 => Family::V4,
        10 => Family::V6,
        _ => return None,
    };
    let attrs = m.attrs(4);
    let text = |kind| attrs.find(kind).and_then(|a| a.as_str());
    let kind = m.kind & 0xff;
    let (table, object) = match kind {
        msg::NEW_TABLE | msg::DEL_TABLE => {
            let name = text(table::NAME)?;
            (name, Object::Table(name.to_owned()))
        }
        msg::NEW_CHAIN | msg::DEL_CHAIN => (
            text(chain::TABLE)?,
            Object::Chain(ChainName::from(text(chain::NAME)?)),
        ),
        msg::NEW_RULE | msg::DEL_RULE => (
            text(rule::TABLE)?,
            Object::Chain(ChainName::from(text(rule::CHAIN)?)),
        ),
        msg::NEW_SET | msg::DEL_SET => (text(set::TABLE)?, Object::Set(SetName::from(text(set::NAME)?))),
        msg::NEW_ELEM | msg::DEL_ELEM => (
            text(elem::LIST_TABLE)?,
            Object::Elements(SetName::from(text(elem::LIST_SET)?)),
        ),
        msg::NEW_OBJ | msg::DEL_OBJ => (
            text(object::TABLE)?,
            Object::Counter(CounterName::from(text(object::NAME)?)),
        ),
        _ => return None,
    };
    Some(Noticed::Foreign {
        family,
        table: table.to_owned(),
        object,
        removed: kind == msg::DEL_TABLE,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use caracal_netlink::MessageWriter;

    fn commit(id: u32, last: Option<u32>) -> (Option<u32>, Vec<Noticed>) {
        let mut buf = Vec::new();
        let mut m = MessageWriter::new(&mut buf, (SUBSYSTEM << 8) | msg::NEW_GEN, 0, 1);
        m.fixed(&[0; 4]).attrs().be32(generation::ID, id);
        drop(m);
        let mut noticed = Vec::new();
        let message = Messages::new(&buf).next().expect("it was just written");
        (count(&message, last, &mut noticed), noticed)
    }

    #[test]
    fn holes_in_the_generations_are_noticed() {
        assert_eq!(commit(6, Some(5)), (Some(6), vec![]));
        assert_eq!(commit(7, Some(5)), (Some(7), vec![Noticed::Lost]));
        assert_eq!(
            commit(5, Some(5)),
            (Some(5), vec![]),
            "known when the listening began"
        );
        assert_eq!(commit(0, Some(u32::MAX)), (Some(0), vec![]), "numbers wrap");
        assert_eq!(commit(9, None), (Some(9), vec![]), "the count begins anew");
    }
}
