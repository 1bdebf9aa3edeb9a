use std::fmt;

use crate::attr::{AttrWriter, Attrs};

/// Length of a netlink header.
pub(crate) const HEADER: usize = 16;

/// The next multiple of four.
#[must_use]
pub const fn align4(n: usize) -> usize {
    (n + 3) & !3
}

/// Flags of a message.
pub mod flags {
    /// It asks for something.
    pub const REQUEST: u16 = 0x1;
    /// It is one of several that make one answer.
    pub const MULTI: u16 = 0x2;
    /// It wants an acknowledgement.
    pub const ACK: u16 = 0x4;
    /// It wants its effect told to the sender as well.
    pub const ECHO: u16 = 0x8;
    /// The answer was interrupted by a change.
    pub const DUMP_INTR: u16 = 0x10;
    /// It asks for all.
    pub const DUMP: u16 = 0x300;
    /// Replace what exists.
    pub const REPLACE: u16 = 0x100;
    /// Fail if it exists.
    pub const EXCL: u16 = 0x200;
    /// Create it if it does not exist.
    pub const CREATE: u16 = 0x400;
    /// Add to the end.
    pub const APPEND: u16 = 0x800;
    /// Of an error: the message it is about was cut to its header.
    pub(crate) const CAPPED: u16 = 0x100;
    /// Of an error: attributes follow.
    pub(crate) const ACK_TLVS: u16 = 0x200;
}

/// Types of messages that every protocol has.
pub mod kind {
    /// Nothing.
    pub const NOOP: u16 = 1;
    /// An error or an acknowledgement.
    pub const ERROR: u16 = 2;
    /// The end of an answer in several messages.
    pub const DONE: u16 = 3;
    /// Messages were lost.
    pub const OVERRUN: u16 = 4;
}

/// The kernel's refusal of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The error number, positive.
    pub errno: i32,
    /// Sequence number of the request.
    pub seq: u32,
    /// The kernel's own words.
    pub text: Option<String>,
    /// Where in the request the offending attribute begins, in bytes.
    pub offset: Option<u32>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", std::io::Error::from_raw_os_error(self.errno))?;
        self.text.as_ref().map_or(Ok(()), |text| write!(f, ": {text}"))
    }
}

impl std::error::Error for Refusal {}

/// One message that was read.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its type.
    pub kind: u16,
    /// Its flags.
    pub flags: u16,
    /// Sequence number of the request it answers, or of the request that caused it.
    pub seq: u32,
    /// Port of the socket whose request it answers or was caused by; 0 for the kernel itself.
    pub port: u32,
    /// What follows the header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes behind a fixed part of `fixed` bytes.
    #[must_use]
    pub fn attrs(&self, fixed: usize) -> Attrs<'a> {
        Attrs::new(self.payload.get(align4(fixed)..).unwrap_or(&[]))
    }

    /// For an error message: `Ok` for an acknowledgement, else the refusal. `None` for every other message.
    #[must_use]
    pub fn verdict(&self) -> Option<Result<(), Refusal>> {
        if self.kind != kind::ERROR {
            return None;
        }
        let errno = self
            .payload
            .get(..4)
            .and_then(|b| b.try_into().ok())
            .map(i32::from_ne_bytes);
        let errno = match errno {
            Some(0) => return Some(Ok(())),
            Some(n) => n.saturating_neg(),
            None => libc::EBADMSG,
        };
        let attrs = (self.flags & flags::ACK_TLVS != 0)
            .then(|| self.error_attrs())
            .flatten();
        Some(Err(Refusal {
            errno,
            seq: self.seq,
            text: attrs
                .and_then(|a| a.find(1))
                .and_then(|a| a.as_str())
                .map(str::to_owned),
            offset: attrs.and_then(|a| a.find(2)).and_then(|a| a.as_u32()),
        }))
    }

    fn error_attrs(&self) -> Option<Attrs<'a>> {
        let quoted: [u8; 4] = self.payload.get(4..8)?.try_into().ok()?;
        let quoted = if self.flags & flags::CAPPED != 0 {
            HEADER
        } else {
            align4(usize::try_from(u32::from_ne_bytes(quoted)).ok()?)
        };
        Some(Attrs::new(self.payload.get(4 + quoted..)?))
    }
}

/// Reads messages one after the other; ends at the first that does not fit its frame.
#[derive(Debug, Clone, Copy)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// The messages in these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let head = self.rest.get(..HEADER)?;
        let u32_at = |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let u16_at = |at: usize| u16::from_ne_bytes([head[at], head[at + 1]]);
        let len = usize::try_from(u32_at(0)).ok()?;
        let payload = self.rest.get(HEADER..len)?;
        self.rest = self.rest.get(align4(len)..).unwrap_or(&[]);
        Some(Message {
            kind: u16_at(4),
            flags: u16_at(6),
            seq: u32_at(8),
            port: u32_at(12),
            payload,
        })
    }
}

/// Appends one message to a buffer; its length is set when the writer is dropped.
#[derive(Debug)]
pub struct MessageWriter<'a> {
    buf: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> MessageWriter<'a> {
    /// Begins a message behind what `buf` holds.
    pub fn new(buf: &'a mut Vec<u8>, kind: u16, flags: u16, seq: u32) -> Self {
        buf.resize(align4(buf.len()), 0);
        let start = buf.len();
        buf.extend_from_slice(&[0; 4]);
        buf.extend_from_slice(&kind.to_ne_bytes());
        buf.extend_from_slice(&flags.to_ne_bytes());
        buf.extend_from_slice(&seq.to_ne_bytes());
        buf.extend_from_slice(&[0; 4]);
        Self { buf, start }
    }

    /// Appends the fixed part that follows the header.
    pub fn fixed(&mut self, bytes: &[u8]) -> &mut Self {
        self.buf.extend_from_slice(bytes);
        self.buf.resize(align4(self.buf.len()), 0);
        self
    }

    /// Appends attributes.
    pub fn attrs(&mut self) -> AttrWriter<'_> {
        AttrWriter::new(self.buf)
    }
}

impl Drop for MessageWriter<'_> {
    fn drop(&mut self) {
        let len = u32::try_from(self.buf.len() - self.start).unwrap_or(u32::MAX);
        self.buf[self.start..self.start + 4].copy_from_slice(&len.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_follow_one_another() {
        let mut buf = Vec::new();
        MessageWriter::new(&mut buf, 20, flags::REQUEST, 1)
            .fixed(&[1, 2, 3])
            .attrs()
            .u8(1, 9);
        MessageWriter::new(&mut buf, 21, 0, 2);
        let all: Vec<_> = Messages::new(&buf).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].kind, all[0].flags, all[0].seq), (20, 1, 1));
        assert_eq!(all[0].attrs(3).find(1).and_then(|a| a.as_u8()), Some(9));
        assert_eq!((all[1].kind, all[1].seq, all[1].payload.len()), (21, 2, 0));
        assert_eq!(
            Messages::new(&buf[..buf.len() - 1]).count(),
            1,
            "the cut one is not handed out"
        );
    }

    fn error(flags: u16, errno: i32, quoted: usize, text: &str) -> Vec<u8> {
        let mut buf = Vec::new();
        let mut m = MessageWriter::new(&mut buf, kind::ERROR, flags, 5);
        m.fixed(&errno.to_ne_bytes());
        m.fixed(&u32::try_from(quoted).expect("small").to_ne_bytes());
        m.fixed(&vec![0; quoted - 4]);
        m.attrs().str(1, text).u32(2, 40);
        drop(m);
        buf
    }

    #[test]
    fn refusals_carry_the_kernels_words() {
        for (flags, quoted) in [(flags::ACK_TLVS | flags::CAPPED, 16), (flags::ACK_TLVS, 36)] {
            let bytes = error(flags, -libc::ENOENT, quoted, "no such chain");
            let refusal = Messages::new(&bytes).next().and_then(|m| m.verdict());
            let refusal = refusal.expect("an error message").expect_err("a refusal");
            assert_eq!(
                refusal,
                Refusal {
                    errno: libc::ENOENT,
                    seq: 5,
                    text: Some("no such chain".into()),
                    offset: Some(40)
                }
            );
            assert!(refusal.to_string().ends_with(": no such chain"), "{refusal}");
        }
        let ok = error(0, 0, 16, "");
        assert_eq!(Messages::new(&ok).next().and_then(|m| m.verdict()), Some(Ok(())));
    }
}
