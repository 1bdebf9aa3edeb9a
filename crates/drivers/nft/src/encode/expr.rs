//! Single nf_tables expressions. The kernel charges per expression, so there is one function for each.

use caracal_netlink::{AttrWriter, Attrs};
use caracal_rules::ir::Verdict;

use crate::numbers::{LIST_ELEM, REG, REG_VERDICT, REG_WORDS, data, object, rule};

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Eq,
    Ne,
}

impl Op {
    pub(crate) fn from_not(not: bool) -> Self {
        if not { Self::Ne } else { Self::Eq }
    }

    fn number(self) -> u32 {
        match self {
            Self::Eq => 0,
            Self::Ne => 1,
        }
    }
}

/// Where in a packet bytes are read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Header {
    Network,
    Transport,
}

/// Keys of `meta`.
pub(crate) mod meta {
    pub(crate) const MARK: u32 = 3;
    pub(crate) const IIFNAME: u32 = 6;
    pub(crate) const OIFNAME: u32 = 7;
    pub(crate) const L4PROTO: u32 = 16;
    pub(crate) const PKTTYPE: u32 = 19;
}

/// Keys of `ct`.
pub(crate) mod ct {
    pub(crate) const STATE: u32 = 0;
    pub(crate) const STATUS: u32 = 2;
    pub(crate) const MARK: u32 = 3;
    pub(crate) const PROTO_DST: u32 = 12;
    pub(crate) const DST_IP: u32 = 20;
    pub(crate) const DST_IP6: u32 = 22;
}

/// Flags and results of `fib`.
pub(crate) mod fib {
    pub(crate) const SADDR: u32 = 1;
    pub(crate) const DADDR: u32 = 2;
    pub(crate) const MARK: u32 = 4;
    pub(crate) const IIF: u32 = 8;
    pub(crate) const PRESENT: u32 = 32;
    pub(crate) const RESULT_OIF: u32 = 1;
    pub(crate) const RESULT_TYPE: u32 = 3;
    /// Type of a route to an address of this host.
    pub(crate) const LOCAL: u32 = 2;
}

/// What a `nat` expression is told beside registers.
pub(crate) mod nat {
    pub(crate) const SNAT: u32 = 0;
    pub(crate) const DNAT: u32 = 1;
    pub(crate) const F_MAP_IPS: u32 = 1;
    pub(crate) const F_PORTS: u32 = 2;
    pub(crate) const F_FULLY_RANDOM: u32 = 16;
}

/// Writes the expressions of one rule.
#[derive(Debug, Default)]
pub(crate) struct Exprs {
    pub(crate) bytes: Vec<u8>,
}

impl Exprs {
    fn expr(&mut self, name: &str, fill: impl FnOnce(&mut AttrWriter<'_>)) {
        AttrWriter::new(&mut self.bytes).nest(LIST_ELEM, |w| put_expr(w, name, fill));
    }

    pub(crate) fn counter(&mut self) {
        self.expr("counter", |_| {});
    }

    /// Counts in a named counter.
    pub(crate) fn count(&mut self, name: &str) {
        self.expr("objref", |w| {
            w.be32(1, object::COUNTER).str(2, name);
        });
    }

    /// Counts in the counter that a map gives; goes on to the next rule if it gives none.
    pub(crate) fn count_by(&mut self, map: &str, reg: u32) {
        self.expr("objref", |w| {
            w.be32(3, reg).str(4, map);
        });
    }

    pub(crate) fn notrack(&mut self) {
        self.expr("notrack", |_| {});
    }

    pub(crate) fn meta_load(&mut self, key: u32, reg: u32) {
        self.expr("meta", |w| {
            w.be32(2, key).be32(1, reg);
        });
    }

    pub(crate) fn meta_set(&mut self, key: u32, reg: u32) {
        self.expr("meta", |w| {
            w.be32(2, key).be32(3, reg);
        });
    }

    pub(crate) fn ct_load(&mut self, key: u32, original: bool, reg: u32) {
        self.expr("ct", |w| {
            w.be32(2, key).be32(1, reg);
            if original {
                w.u8(3, 0);
            }
        });
    }

    pub(crate) fn ct_set(&mut self, key: u32, reg: u32) {
        self.expr("ct", |w| {
            w.be32(2, key).be32(4, reg);
        });
    }

    pub(crate) fn payload(&mut self, header: Header, offset: u32, len: u32, reg: u32) {
        let base = match header {
            Header::Network => 1,
            Header::Transport => 2,
        };
        self.expr("payload", |w| {
            w.be32(1, reg).be32(2, base).be32(3, offset).be32(4, len);
        });
    }

    /// Writes a register into the packet; `checksum` is where the header's checksum is.
    pub(crate) fn payload_set(
        &mut self,
        header: Header,
        offset: u32,
        len: u32,
        reg: u32,
        checksum: Option<u32>,
    ) {
        let base = match header {
            Header::Network => 1,
            Header::Transport => 2,
        };
        self.expr("payload", |w| {
            w.be32(5, reg).be32(2, base).be32(3, offset).be32(4, len);
            w.be32(6, u32::from(checksum.is_some()))
                .be32(7, checksum.unwrap_or(0))
                .be32(8, 0);
        });
    }

    pub(crate) fn cmp(&mut self, reg: u32, op: Op, value: &[u8]) {
        self.expr("cmp", |w| {
            w.be32(1, reg).be32(2, op.number());
            w.nest(3, |w| {
                w.bytes(data::VALUE, value);
            });
        });
    }

    pub(crate) fn range(&mut self, reg: u32, op: Op, from: &[u8], to: &[u8]) {
        self.expr("range", |w| {
            w.be32(1, reg).be32(2, op.number());
            w.nest(3, |w| {
                w.bytes(data::VALUE, from);
            });
            w.nest(4, |w| {
                w.bytes(data::VALUE, to);
            });
        });
    }

    /// register = (register & mask) ^ xor
    pub(crate) fn bitwise(&mut self, reg: u32, mask: &[u8], xor: &[u8]) {
        let len = u32::try_from(mask.len()).unwrap_or(u32::MAX);
        self.expr("bitwise", |w| {
            w.be32(1, reg).be32(2, reg).be32(3, len);
            w.nest(4, |w| {
                w.bytes(data::VALUE, mask);
            });
            w.nest(5, |w| {
                w.bytes(data::VALUE, xor);
            });
        });
    }

    /// Turns the bytes of a number around on a little-endian host.
    pub(crate) fn network_order(&mut self, reg: u32, size: u32) {
        self.expr("byteorder", |w| {
            w.be32(1, reg).be32(2, reg).be32(3, 1).be32(4, size).be32(5, size);
        });
    }

    pub(crate) fn lookup(&mut self, set: &str, reg: u32, not: bool) {
        self.expr("lookup", |w| {
            w.str(1, set).be32(2, reg);
            if not {
                w.be32(5, 1);
            }
        });
    }

    pub(crate) fn lookup_into(&mut self, set: &str, reg: u32, into: u32) {
        self.expr("lookup", |w| {
            w.str(1, set).be32(2, reg).be32(3, into);
        });
    }

    pub(crate) fn immediate(&mut self, reg: u32, value: &[u8]) {
        self.expr("immediate", |w| {
            w.be32(1, reg).nest(2, |w| {
                w.bytes(data::VALUE, value);
            });
        });
    }

    pub(crate) fn verdict(&mut self, verdict: &Verdict) {
        self.expr("immediate", |w| {
            w.be32(1, REG_VERDICT).nest(2, |w| put_verdict(w, verdict));
        });
    }

    pub(crate) fn fib(&mut self, result: u32, flags: u32, reg: u32) {
        self.expr("fib", |w| {
            w.be32(1, reg).be32(2, result).be32(3, flags);
        });
    }

    pub(crate) fn connlimit_over(&mut self, count: u32) {
        self.expr("connlimit", |w| {
            w.be32(1, count).be32(2, 1);
        });
    }

    pub(crate) fn limit(&mut self, rate: u64, unit: u64, burst: u32, over: bool) {
        self.expr("limit", |w| {
            w.be64(1, rate)
                .be64(2, unit)
                .be32(3, burst)
                .be32(4, 0)
                .be32(5, u32::from(over));
        });
    }

    pub(crate) fn log_to_kernel(&mut self, prefix: &[u8], level: u8) {
        self.expr("log", |w| {
            put_prefix(w, prefix);
            w.be32(5, u32::from(level.min(7)));
        });
    }

    pub(crate) fn log_to_group(&mut self, prefix: &[u8], group: u16, snaplen: u32) {
        self.expr("log", |w| {
            w.be16(1, group);
            put_prefix(w, prefix);
            if snaplen > 0 {
                w.be32(3, snaplen);
            }
        });
    }

    pub(crate) fn reject(&mut self, kind: u32, code: u8) {
        self.expr("reject", |w| {
            w.be32(1, kind).u8(2, code);
        });
    }

    pub(crate) fn masquerade(&mut self, flags: u32, ports: Option<(u32, u32)>) {
        self.expr("masq", |w| {
            if flags != 0 {
                w.be32(1, flags);
            }
            if let Some((min, max)) = ports {
                w.be32(2, min).be32(3, max);
            }
        });
    }

    pub(crate) fn nat(
        &mut self,
        kind: u32,
        af: u8,
        addrs: (u32, u32),
        ports: Option<(u32, u32)>,
        flags: u32,
    ) {
        self.expr("nat", |w| {
            w.be32(1, kind)
                .be32(2, u32::from(af))
                .be32(3, addrs.0)
                .be32(4, addrs.1);
            if let Some((min, max)) = ports {
                w.be32(5, min).be32(6, max);
            }
            w.be32(7, flags);
        });
    }
}

fn put_prefix(w: &mut AttrWriter<'_>, prefix: &[u8]) {
    if prefix.len() > 1 {
        w.bytes(2, prefix);
    }
}

/// Name and attributes of an expression.
pub(crate) fn put_expr(w: &mut AttrWriter<'_>, name: &str, fill: impl FnOnce(&mut AttrWriter<'_>)) {
    w.str(1, name).nest(2, fill);
}

pub(crate) fn put_verdict(w: &mut AttrWriter<'_>, verdict: &Verdict) {
    let code: i32 = match verdict {
        Verdict::Drop => 0,
        Verdict::Accept => 1,
        Verdict::Jump(_) => -3,
        Verdict::Goto(_) => -4,
        Verdict::Return => -5,
    };
    w.nest(data::VERDICT, |w| {
        w.bytes(data::VERDICT_CODE, &code.to_be_bytes());
        if let Some(chain) = verdict.target() {
            w.str(data::VERDICT_CHAIN, chain.as_str());
        }
    });
}

/// Packets and bytes of the first counter among a rule's expressions.
pub(crate) fn counter_of(rule: Attrs<'_>) -> Option<(u64, u64)> {
    let mut list = rule.find(rule::EXPRESSIONS)?.nested();
    let counter = Iterator::find(&mut list, |e| {
        e.nested().find(1).and_then(|n| n.as_str()) == Some("counter")
    })?;
    let attrs = counter.nested().find(2)?.nested();
    Some((attrs.find(2)?.as_be64()?, attrs.find(1)?.as_be64()?))
}

/// The register `words` 32-bit words behind the first.
pub(crate) fn reg(words: usize) -> u32 {
    REG + u32::try_from(words).unwrap_or(u32::MAX - REG)
}

/// Registers that hold an address each without touching the first ones.
pub(crate) fn addr_reg(n: u32) -> u32 {
    REG + n * REG_WORDS
}
