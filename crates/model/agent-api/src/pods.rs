//! What both sides of the plugins' socket share: where it is, and how messages are told apart.
//!
//! A plugin lives for some milliseconds and asks the agent once. What gRPC keeps for many calls at a time would cost both
//! sides more than what is asked for; a length before each message is all that one call needs.

use std::io::{Error, ErrorKind, Read};

use prost::Message;

use crate::v1::{PodCall, pod_call::Ask};

/// The version of the calls that this code speaks.
pub const VERSION: u32 = 1;

/// The largest message, in bytes.
pub const LARGEST: usize = 1 << 20;

/// Where plugins are heard, beside the agent's socket.
#[must_use]
pub fn socket(agent: &str) -> String {
    match agent.strip_suffix("agent.sock") {
        Some(before) => format!("{before}pods.sock"),
        None => format!("{agent}.pods"),
    }
}

/// A call of this version.
#[must_use]
pub fn call(ask: Ask) -> PodCall {
    PodCall {
        version: VERSION,
        ask: Some(ask),
    }
}

/// A message with its length before it.
///
/// # Errors
/// When it is larger than the other side takes.
pub fn frame(message: &impl Message) -> Result<Vec<u8>, Error> {
    let length = message.encoded_len();
    let said = u32::try_from(length).ok().filter(|_| length <= LARGEST);
    let said = said.ok_or_else(|| too_large(length))?;
    let mut bytes = Vec::with_capacity(length + 4);
    bytes.extend(said.to_be_bytes());
    message
        .encode(&mut bytes)
        .expect("a vector grows, so there is room for all of it");
    Ok(bytes)
}

/// Reads the next message; none when the other side has ended.
///
/// # Errors
/// When reading fails or ends too early, and when what comes is too large or no such message.
pub fn read<M: Message + Default>(from: &mut impl Read) -> Result<Option<M>, Error> {
    let mut length = Vec::with_capacity(4);
    from.by_ref().take(4).read_to_end(&mut length)?;
    let length: [u8; 4] = match length.len() {
        0 => return Ok(None),
        _ => length.try_into().map_err(|_| ErrorKind::UnexpectedEof)?,
    };
    let length = u32::from_be_bytes(length);
    if length as usize > LARGEST {
        return Err(too_large(length));
    }
    // It grows with what comes, whatever the length says.
    let mut bytes = Vec::new();
    from.by_ref().take(length.into()).read_to_end(&mut bytes)?;
    if bytes.len() < length as usize {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let message = M::decode(bytes.as_slice()).map_err(|e| Error::new(ErrorKind::InvalidData, e))?;
    Ok(Some(message))
}

fn too_large(length: impl std::fmt::Display) -> Error {
    let why = format!("a message of {length} bytes, more than {LARGEST}");
    Error::new(ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::AssignReply;

    fn reply(letters: usize) -> AssignReply {
        AssignReply {
            address: "a".repeat(letters),
        }
    }

    fn from(bytes: &[u8]) -> Result<Option<AssignReply>, ErrorKind> {
        read(&mut { bytes }).map_err(|e| e.kind())
    }

    #[test]
    fn messages_come_back_one_after_the_other() {
        let mut bytes = frame(&reply(300)).unwrap();
        bytes.extend(frame(&reply(0)).unwrap());
        let mut rest = bytes.as_slice();
        for letters in [300, 0] {
            assert_eq!(
                read::<AssignReply>(&mut rest).unwrap(),
                Some(reply(letters)),
                "{letters}"
            );
        }
        assert_eq!(read::<AssignReply>(&mut rest).unwrap(), None);
        // A byte for the field and three for its length: the largest that goes.
        let largest = reply(LARGEST - 4);
        assert_eq!(from(&frame(&largest).unwrap()), Ok(Some(largest)));
        let error = frame(&reply(LARGEST - 3)).unwrap_err().to_string();
        assert!(error.contains("1048577 bytes, more than 1048576"), "{error}");
    }

    #[test]
    fn what_is_cut_off_too_large_or_nonsense_is_an_error() {
        let whole = frame(&reply(5)).unwrap();
        for end in 1..whole.len() {
            assert_eq!(from(&whole[..end]), Err(ErrorKind::UnexpectedEof), "{end}");
        }
        for odd in [&b"\xff\xff\xff\xff"[..], b"\0\x10\0\x01", b"\0\0\0\x02\x0a\x07"] {
            assert_eq!(from(odd), Err(ErrorKind::InvalidData), "{odd:?}");
        }
    }

    #[test]
    fn the_socket_is_beside_the_agents() {
        assert_eq!(socket(crate::DEFAULT_SOCKET), "/run/calico/pods.sock");
        assert_eq!(socket("/x/y.sock"), "/x/y.sock.pods");
    }
}
