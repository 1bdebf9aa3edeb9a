use std::fmt;

use caracal_net::Family;
use caracal_netlink::{MessageWriter, flags};
use caracal_rules::ir::{BaseChain, ChainName, CounterName, SetDef, SetName};

use crate::{
    encode::{EncodedRule, WireElement, af, begin, put_chain, put_set, table_userdata},
    numbers::{BATCH_BEGIN, BATCH_END, SUBSYSTEM, elem, msg, object, rule, table},
};

/// Elements of one message stay below this, for an attribute cannot be longer than 64 KiB.
const ELEMENTS_MAX: usize = 48 * 1024;

/// What a message of a batch is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A table.
    Table(String),
    /// A chain as a whole.
    Chain(ChainName),
    /// A rule, by its place in the wanted chain.
    Rule(ChainName, usize),
    /// A set or map as a whole.
    Set(SetName),
    /// Elements of a set or map.
    Elements(SetName),
    /// A counter.
    Counter(CounterName),
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Table(name) => write!(f, "table {name}"),
            Self::Chain(name) => write!(f, "chain {name}"),
            Self::Rule(chain, place) => write!(f, "rule {} of chain {chain}", place + 1),
            Self::Set(name) => write!(f, "set {name}"),
            Self::Elements(name) => write!(f, "elements of set {name}"),
            Self::Counter(name) => write!(f, "counter {name}"),
        }
    }
}

/// Where a rule goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Behind all rules of the chain.
    End,
    /// Before the rule with this handle.
    Before(u64),
    /// Instead of the rule with this handle.
    Instead(u64),
}

/// Messages that the kernel takes or refuses as a whole.
#[derive(Debug)]
pub struct Batch {
    buf: Vec<u8>,
    last: usize,
    seq: u32,
    objects: Vec<(Family, Object)>,
    set_id: u32,
}

/// The table a message is for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct At<'a> {
    pub(crate) family: Family,
    pub(crate) table: &'a str,
}

impl Default for Batch {
    fn default() -> Self {
        let mut batch = Self {
            buf: Vec::new(),
            last: 0,
            seq: 0,
            objects: Vec::new(),
            set_id: 0,
        };
        batch.frame(BATCH_BEGIN, flags::REQUEST);
        batch
    }
}

impl Batch {
    fn frame(&mut self, kind: u16, flags: u16) {
        let [high, low] = SUBSYSTEM.to_be_bytes();
        MessageWriter::new(&mut self.buf, kind, flags, self.seq).fixed(&[0, 0, high, low]);
    }

    fn next(&mut self, at: At<'_>, kind: u16, flags: u16, object: Object) -> MessageWriter<'_> {
        self.seq += 1;
        self.objects.push((at.family, object));
        self.last = self.buf.len();
        begin(
            &mut self.buf,
            kind,
            flags::REQUEST | flags,
            self.seq,
            af(at.family),
        )
    }

    /// The sequence number of the last message.
    pub(crate) fn seq(&self) -> u32 {
        self.seq
    }

    /// How many messages there are, without the frame.
    #[must_use]
    pub fn messages(&self) -> usize {
        self.objects.len()
    }

    /// How long the batch is, in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// What each message is about: the first one has sequence number 1.
    #[must_use]
    pub fn objects(&self) -> &[(Family, Object)] {
        &self.objects
    }

    /// The bytes to send. Only the last message asks for an acknowledgement: errors come anyway, one per message.
    #[must_use]
    pub fn finish(&mut self) -> &[u8] {
        if !self.objects.is_empty() {
            let at = self.last + 6;
            let flags = u16::from_ne_bytes([self.buf[at], self.buf[at + 1]]) | flags::ACK;
            self.buf[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
        }
        self.seq += 1;
        self.frame(BATCH_END, flags::REQUEST);
        &self.buf
    }

    pub(crate) fn put_table(&mut self, at: At<'_>, layout: u32, since: u64) {
        let object = Object::Table(at.table.into());
        let mut m = self.next(at, msg::NEW_TABLE, flags::CREATE | flags::EXCL, object);
        m.attrs()
            .str(table::NAME, at.table)
            .bytes(table::USERDATA, &table_userdata(layout, since));
    }

    pub(crate) fn del_table(&mut self, at: At<'_>) {
        let mut m = self.next(at, msg::DEL_TABLE, 0, Object::Table(at.table.into()));
        m.attrs().str(table::NAME, at.table);
    }

    /// The same for a family by its number, which need be none of ours.
    pub(crate) fn del_table_of(&mut self, af: u8, table: &str) {
        self.seq += 1;
        self.objects.push((Family::V4, Object::Table(table.into())));
        self.last = self.buf.len();
        let mut m = begin(&mut self.buf, msg::DEL_TABLE, flags::REQUEST, self.seq, af);
        m.attrs().str(table::NAME, table);
    }

    pub(crate) fn put_chain(&mut self, at: At<'_>, name: &ChainName, base: Option<&BaseChain>) {
        let mut m = self.next(at, msg::NEW_CHAIN, flags::CREATE, Object::Chain(name.clone()));
        put_chain(&mut m, at.table, name.as_str(), base);
    }

    pub(crate) fn del_chain(&mut self, at: At<'_>, name: &ChainName) {
        let mut m = self.next(at, msg::DEL_CHAIN, 0, Object::Chain(name.clone()));
        put_chain(&mut m, at.table, name.as_str(), None);
    }

    pub(crate) fn put_rule(
        &mut self,
        at: At<'_>,
        chain: &ChainName,
        index: usize,
        encoded: &EncodedRule,
        place: Place,
        echo: bool,
    ) {
        let how = match place {
            Place::End => flags::CREATE | flags::APPEND,
            Place::Before(_) => flags::CREATE,
            Place::Instead(_) => flags::REPLACE,
        };
        let echo = if echo { flags::ECHO } else { 0 };
        let mut m = self.next(at, msg::NEW_RULE, how | echo, Object::Rule(chain.clone(), index));
        let mut w = m.attrs();
        w.str(rule::TABLE, at.table).str(rule::CHAIN, chain.as_str());
        match place {
            Place::End => {}
            Place::Before(handle) => {
                w.be64(rule::POSITION, handle);
            }
            Place::Instead(handle) => {
                w.be64(rule::HANDLE, handle);
            }
        }
        w.nest(rule::EXPRESSIONS, |w| {
            w.raw(&encoded.exprs);
        });
        w.bytes(rule::USERDATA, &encoded.userdata);
    }

    pub(crate) fn del_rule(&mut self, at: At<'_>, chain: &ChainName, handle: u64) {
        let mut m = self.next(at, msg::DEL_RULE, 0, Object::Chain(chain.clone()));
        m.attrs()
            .str(rule::TABLE, at.table)
            .str(rule::CHAIN, chain.as_str())
            .be64(rule::HANDLE, handle);
    }

    pub(crate) fn flush_chain(&mut self, at: At<'_>, chain: &ChainName) {
        let mut m = self.next(at, msg::DEL_RULE, 0, Object::Chain(chain.clone()));
        m.attrs()
            .str(rule::TABLE, at.table)
            .str(rule::CHAIN, chain.as_str());
    }

    pub(crate) fn put_set(&mut self, at: At<'_>, name: &SetName, def: &SetDef) {
        self.set_id += 1;
        let id = self.set_id;
        let mut m = self.next(
            at,
            msg::NEW_SET,
            flags::CREATE | flags::EXCL,
            Object::Set(name.clone()),
        );
        put_set(&mut m, at.table, name.as_str(), def, id, at.family);
    }

    pub(crate) fn del_set(&mut self, at: At<'_>, name: &SetName) {
        let mut m = self.next(at, msg::DEL_SET, 0, Object::Set(name.clone()));
        m.attrs()
            .str(elem::LIST_TABLE, at.table)
            .str(elem::LIST_SET, name.as_str());
    }

    /// Makes a counter that begins with so many packets and bytes.
    pub(crate) fn put_counter(&mut self, at: At<'_>, name: &CounterName, (packets, bytes): (u64, u64)) {
        let about = Object::Counter(name.clone());
        let mut m = self.next(at, msg::NEW_OBJ, flags::CREATE | flags::EXCL, about);
        let mut w = m.attrs();
        w.str(object::TABLE, at.table)
            .str(object::NAME, name.as_str())
            .be32(object::TYPE, object::COUNTER);
        w.nest(object::DATA, |w| {
            w.be64(object::BYTES, bytes).be64(object::PACKETS, packets);
        });
    }

    pub(crate) fn del_counter(&mut self, at: At<'_>, name: &CounterName) {
        let mut m = self.next(at, msg::DEL_OBJ, 0, Object::Counter(name.clone()));
        m.attrs()
            .str(object::TABLE, at.table)
            .str(object::NAME, name.as_str())
            .be32(object::TYPE, object::COUNTER);
    }

    pub(crate) fn put_elements(&mut self, at: At<'_>, set: &SetName, elements: &[WireElement]) {
        self.elements(at, msg::NEW_ELEM, set, elements);
    }

    pub(crate) fn del_elements(&mut self, at: At<'_>, set: &SetName, elements: &[WireElement]) {
        self.elements(at, msg::DEL_ELEM, set, elements);
    }

    fn elements(&mut self, at: At<'_>, kind: u16, set: &SetName, mut rest: &[WireElement]) {
        let whole = kind == msg::NEW_ELEM;
        let flags = if whole { flags::CREATE } else { 0 };
        while !rest.is_empty() {
            let mut size = 0;
            let fit = rest.iter().take_while(|e| {
                size += e.size();
                size <= ELEMENTS_MAX
            });
            let (now, later) = rest.split_at(fit.count().max(1));
            let mut m = self.next(at, kind, flags, Object::Elements(set.clone()));
            let mut w = m.attrs();
            w.str(elem::LIST_TABLE, at.table)
                .str(elem::LIST_SET, set.as_str());
            w.nest(elem::LIST_ELEMENTS, |w| now.iter().for_each(|e| e.put(w, whole)));
            drop(m);
            rest = later;
        }
    }
}
