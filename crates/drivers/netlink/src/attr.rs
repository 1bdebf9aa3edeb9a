use crate::message::align4;

const HEADER: usize = 4;
const NESTED: u16 = 1 << 15;
/// Everything but the two flag bits (nested, network byte order).
const TYPE_MASK: u16 = 0x3fff;

/// Appends attributes to a message.
///
/// An attribute cannot be longer than 65 535 bytes. One that grows longer gets that length in its header, and the
/// kernel refuses the message as malformed: callers that write long lists split them.
#[derive(Debug)]
pub struct AttrWriter<'a> {
    buf: &'a mut Vec<u8>,
}

impl<'a> AttrWriter<'a> {
    /// Writes behind what `buf` holds; its length must be a multiple of four.
    pub fn new(buf: &'a mut Vec<u8>) -> Self {
        Self { buf }
    }

    /// An attribute with these bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.attr(kind, |buf| buf.extend_from_slice(value))
    }

    /// A string with the zero byte behind it.
    pub fn str(&mut self, kind: u16, value: &str) -> &mut Self {
        self.attr(kind, |buf| {
            buf.extend_from_slice(value.as_bytes());
            buf.push(0);
        })
    }

    /// One byte.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// Two bytes in the host's order.
    pub fn u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Four bytes in the host's order.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// Two bytes in network order.
    pub fn be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Four bytes in network order.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Eight bytes in network order.
    pub fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// An attribute without a value.
    pub fn flag(&mut self, kind: u16) -> &mut Self {
        self.bytes(kind, &[])
    }

    /// An attribute that holds attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut AttrWriter<'_>)) -> &mut Self {
        self.attr(kind | NESTED, |buf| fill(&mut AttrWriter { buf }))
    }

    /// Attributes that were written before, as they are.
    pub fn raw(&mut self, attributes: &[u8]) -> &mut Self {
        self.buf.extend_from_slice(attributes);
        self.pad();
        self
    }

    fn attr(&mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let start = self.buf.len();
        self.buf.extend_from_slice(&[0; HEADER]);
        fill(self.buf);
        let len = u16::try_from(self.buf.len() - start).unwrap_or(u16::MAX);
        self.buf[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self.buf[start + 2..start + 4].copy_from_slice(&kind.to_ne_bytes());
        self.pad();
        self
    }

    fn pad(&mut self) {
        self.buf.resize(align4(self.buf.len()), 0);
    }
}

/// One attribute that was read.
#[derive(Debug, Clone, Copy)]
pub struct Attr<'a> {
    /// Its type, without flag bits.
    pub kind: u16,
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> Attr<'a> {
    fn array<const N: usize>(&self) -> Option<[u8; N]> {
        self.value.get(..N)?.try_into().ok()
    }

    /// The value as one byte.
    #[must_use]
    pub fn as_u8(&self) -> Option<u8> {
        self.value.first().copied()
    }

    /// The value as two bytes in the host's order.
    #[must_use]
    pub fn as_u16(&self) -> Option<u16> {
        self.array().map(u16::from_ne_bytes)
    }

    /// The value as four bytes in the host's order.
    #[must_use]
    pub fn as_u32(&self) -> Option<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    /// The value as two bytes in network order.
    #[must_use]
    pub fn as_be16(&self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// The value as four bytes in network order.
    #[must_use]
    pub fn as_be32(&self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// The value as eight bytes in network order.
    #[must_use]
    pub fn as_be64(&self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// The value as text, up to the first zero byte.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        let end = self
            .value
            .iter()
            .position(|b| *b == 0)
            .unwrap_or(self.value.len());
        std::str::from_utf8(&self.value[..end]).ok()
    }

    /// The attributes inside.
    #[must_use]
    pub fn nested(&self) -> Attrs<'a> {
        Attrs::new(self.value)
    }
}

/// Reads attributes one after the other; ends at the first that does not fit its frame.
#[derive(Debug, Clone, Copy)]
pub struct Attrs<'a> {
    rest: &'a [u8],
}

impl<'a> Attrs<'a> {
    /// The attributes in these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The first attribute of a type.
    #[must_use]
    pub fn find(self, kind: u16) -> Option<Attr<'a>> {
        let mut all = self;
        Iterator::find(&mut all, |a| a.kind == kind)
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = Attr<'a>;

    fn next(&mut self) -> Option<Attr<'a>> {
        let head: [u8; HEADER] = self.rest.get(..HEADER)?.try_into().ok()?;
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let kind = u16::from_ne_bytes([head[2], head[3]]) & TYPE_MASK;
        let value = self.rest.get(HEADER..len)?;
        self.rest = self.rest.get(align4(len)..).unwrap_or(&[]);
        Some(Attr { kind, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut buf = Vec::new();
        AttrWriter::new(&mut buf).u8(1, 7).nest(2, |w| {
            w.str(3, "cali1").be32(4, 9).flag(5);
        });
        let top = Attrs::new(&buf);
        assert_eq!(top.find(1).and_then(|a| a.as_u8()), Some(7));
        let inner = top.find(2).expect("the nest was written").nested();
        assert_eq!(inner.map(|a| a.kind).collect::<Vec<_>>(), [3, 4, 5]);
        assert_eq!(inner.find(3).and_then(|a| a.as_str()), Some("cali1"));
        assert_eq!(inner.find(4).and_then(|a| a.as_be32()), Some(9));
        assert_eq!(buf.len() % 4, 0);
    }

    #[test]
    fn broken_frames_end_the_reading() {
        assert_eq!(
            Attrs::new(&[3, 0, 1, 0]).count(),
            0,
            "shorter than its own header"
        );
        assert_eq!(
            Attrs::new(&[9, 0, 1, 0, 5]).count(),
            0,
            "longer than what there is"
        );
        assert_eq!(Attrs::new(&[5, 0]).count(), 0);
    }

    #[test]
    fn too_long_a_nest_is_marked_by_the_longest_length() {
        let mut buf = Vec::new();
        AttrWriter::new(&mut buf).bytes(1, &[0; 70_000]);
        assert_eq!(buf[..2], u16::MAX.to_ne_bytes());
    }
}
