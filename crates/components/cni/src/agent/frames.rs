//! The frames of HTTP/2 (RFC 9113) that one call needs, and gRPC's messages in them. Pure.

use super::hpack;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// The only call's stream.
const STREAM: u32 = 1;

const HEADER: usize = 9;
/// The largest frame that either side takes, as nobody says otherwise.
const LARGEST: usize = 16_384;
/// After so much the sender is told that it may go on.
const WINDOW: usize = 16_384;

/// The largest answer: far more than the agent has to say.
const LARGEST_ANSWER: usize = 1 << 20;

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// What a connection and its only call begin with.
pub(super) fn opening(headers: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(2048);
    out.extend_from_slice(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    // No table of headers that were said before, and nothing pushed.
    let settings = [0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0];
    frame(&mut out, SETTINGS, 0, 0, &settings);
    frame(&mut out, HEADERS, END_HEADERS, STREAM, headers);
    out
}

/// Appends the only message of a call.
pub(super) fn message(out: &mut Vec<u8>, message: &[u8]) {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    // Not compressed.
    let mut data = vec![0];
    data.extend_from_slice(&length.to_be_bytes());
    data.extend_from_slice(message);
    let last = data.chunks(LARGEST).count() - 1;
    for (number, chunk) in data.chunks(LARGEST).enumerate() {
        let flags = if number == last { END_STREAM } else { 0 };
        frame(out, DATA, flags, STREAM, chunk);
    }
}

/// What has come.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// Frames that are not whole yet.
    raw: Vec<u8>,
    /// Headers that are not whole yet, and the flags of their first frame.
    block: Option<(Vec<u8>, u8)>,
    /// Messages that are not taken yet.
    data: Vec<u8>,
    /// How much came since the sender was told that it may go on.
    unsaid: usize,
    end: Option<Result<(), String>>,
}

impl Incoming {
    /// Takes bytes; what is to be sent in answer.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.raw.extend_from_slice(bytes);
        let mut reply = Vec::new();
        let raw = std::mem::take(&mut self.raw);
        let mut rest = raw.as_slice();
        while self.end.is_none()
            && let Some((header, behind)) = rest.split_at_checked(HEADER)
        {
            let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            if length > LARGEST || self.data.len() > LARGEST_ANSWER {
                self.fail("the agent says more than is asked for");
                break;
            }
            let Some((payload, next)) = behind.split_at_checked(length) else {
                break;
            };
            let stream = u32::from_be_bytes([header[5] & 0x7f, header[6], header[7], header[8]]);
            self.one(header[3], header[4], stream, payload, &mut reply);
            rest = next;
        }
        self.raw = rest.to_vec();
        reply
    }

    fn fail(&mut self, why: impl ToString) {
        self.end.get_or_insert(Err(why.to_string()));
    }

    fn one(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8], reply: &mut Vec<u8>) {
        match kind {
            SETTINGS if flags & ACK == 0 => frame(reply, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => frame(reply, PING, ACK, 0, payload),
            // What was begun before is still done.
            GO_AWAY if word(payload) < STREAM => self.fail("the agent is about to end"),
            DATA if stream == STREAM => self.data(flags, payload, reply),
            HEADERS if stream == STREAM => {
                let skip = if flags & PRIORITY == 0 { 0 } else { 5 };
                let block = unpadded(flags, payload).and_then(|p| p.get(skip..));
                match block {
                    None => self.fail("malformed headers"),
                    Some(block) => self.block = Some((block.to_vec(), flags)),
                }
                self.headers_end(flags);
            }
            CONTINUATION if stream == STREAM => {
                if let Some((block, _)) = self.block.as_mut().filter(|b| b.0.len() <= LARGEST) {
                    block.extend_from_slice(payload);
                }
                self.headers_end(flags);
            }
            RESET if stream == STREAM => {
                self.fail(format!("the agent broke off, error {} of HTTP/2", word(payload)));
            }
            _ => {}
        }
    }

    fn data(&mut self, flags: u8, payload: &[u8], reply: &mut Vec<u8>) {
        match unpadded(flags, payload) {
            None => self.fail("malformed data"),
            Some(data) => self.data.extend_from_slice(data),
        }
        self.unsaid += payload.len();
        if self.unsaid >= WINDOW {
            let more = u32::try_from(self.unsaid).unwrap_or_default().to_be_bytes();
            frame(reply, WINDOW_UPDATE, 0, 0, &more);
            frame(reply, WINDOW_UPDATE, 0, STREAM, &more);
            self.unsaid = 0;
        }
        if flags & END_STREAM != 0 {
            self.fail("the agent ended without a verdict");
        }
    }

    fn headers_end(&mut self, flags: u8) {
        if flags & END_HEADERS == 0 {
            return;
        }
        let Some((block, first)) = self.block.take() else {
            return;
        };
        match hpack::verdict(&block) {
            Err(why) => self.fail(why),
            Ok(Some(verdict)) => self.end = Some(verdict),
            Ok(None) if first & END_STREAM != 0 => self.fail("the agent ended without a verdict"),
            Ok(None) => {}
        }
    }

    /// The next message, if it is whole.
    pub(super) fn message(&mut self) -> Result<Option<Vec<u8>>, String> {
        let Some((header, rest)) = self.data.split_at_checked(5) else {
            return Ok(None);
        };
        if header[0] != 0 {
            return Err("the agent compresses its answer, which was not asked for".to_owned());
        }
        let length = usize::try_from(word(&header[1..])).unwrap_or(usize::MAX);
        let Some(message) = rest.get(..length).map(<[u8]>::to_vec) else {
            return Ok(None);
        };
        self.data.drain(..5 + length);
        Ok(Some(message))
    }

    /// How the call ended, if it has: well, or why not.
    pub(super) fn end(&self) -> Option<Result<(), String>> {
        self.end.clone()
    }
}

/// The first four bytes, as far as they are there.
fn word(bytes: &[u8]) -> u32 {
    let mut word = [0; 4];
    for (to, from) in word.iter_mut().zip(bytes) {
        *to = *from;
    }
    u32::from_be_bytes(word) & 0x7fff_ffff
}

fn unpadded(flags: u8, payload: &[u8]) -> Option<&[u8]> {
    if flags & PADDED == 0 {
        return Some(payload);
    }
    let (padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub((*padding).into())?)
}
