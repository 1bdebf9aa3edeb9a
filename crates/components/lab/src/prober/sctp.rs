//! As much of SCTP (RFC 9260) as a probe needs: INIT and INIT ACK.

/// The protocol number.
pub(super) const PROTOCOL: i32 = 132;

const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
/// Common header.
const HEADER: usize = 12;
/// Header of a chunk with the fixed part of INIT and INIT ACK.
const CHUNK: usize = 20;
/// The parameter that an INIT ACK must have (section 3.3.3), its header of four bytes included.
const COOKIE: [u8; 8] = [0, 7, 0, 8, b'p', b'r', b'o', b'b'];

/// An INIT or INIT ACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) source: u16,
    pub(super) destination: u16,
    /// The tag that the receiver chose; 0 in an INIT.
    pub(super) verification: u32,
    /// The tag that the sender chose.
    pub(super) initiate: u32,
    pub(super) ack: bool,
}

impl Packet {
    pub(super) fn init(source: u16, destination: u16, initiate: u32) -> Self {
        Self {
            source,
            destination,
            verification: 0,
            initiate,
            ack: false,
        }
    }

    /// The answer to an INIT.
    pub(super) fn answer(&self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            verification: self.initiate,
            // Any value but 0 will do: the association ends here.
            initiate: !self.initiate | 1,
            ack: true,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let cookie: &[u8] = if self.ack { &COOKIE } else { &[] };
        // At most 28.
        let length = u16::try_from(CHUNK + cookie.len()).unwrap_or(u16::MAX);
        let mut out = Vec::with_capacity(HEADER + CHUNK + cookie.len());
        out.extend(self.source.to_be_bytes());
        out.extend(self.destination.to_be_bytes());
        out.extend(self.verification.to_be_bytes());
        out.extend([0; 4]);
        out.extend([if self.ack { INIT_ACK } else { INIT }, 0]);
        out.extend(length.to_be_bytes());
        out.extend(self.initiate.to_be_bytes());
        // Receiver window, outbound and inbound streams, first sequence number.
        out.extend(65_535_u32.to_be_bytes());
        out.extend([0, 1, 0, 1]);
        out.extend(self.initiate.to_be_bytes());
        out.extend(cookie);
        let sum = crc32c(&out).to_le_bytes();
        out[8..12].copy_from_slice(&sum);
        out
    }

    /// Reads a packet; none if it is anything else, or damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER + CHUNK {
            return None;
        }
        let mut zeroed = bytes.to_vec();
        zeroed[8..12].fill(0);
        if crc32c(&zeroed).to_le_bytes() != bytes[8..12] {
            return None;
        }
        let short = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let long = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let ack = match bytes[HEADER] {
            INIT => false,
            INIT_ACK => true,
            _ => return None,
        };
        Some(Self {
            source: short(0),
            destination: short(2),
            verification: long(4),
            initiate: long(HEADER + 4),
            ack,
        })
    }
}

/// What follows the IPv4 header that raw sockets deliver.
pub(super) fn after_ipv4_header(bytes: &[u8]) -> Option<&[u8]> {
    let words = usize::from(bytes.first()? & 0x0f);
    bytes.get(words * 4..)
}

/// CRC32c, bit by bit: probes are few and short.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c() {
        // The check value of the CRC's definition.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn packets_round_trip_and_damage_is_seen() {
        let init = Packet::init(40_000, 80, 7);
        let bytes = init.encode();
        assert_eq!(Packet::decode(&bytes), Some(init));
        let ack = init.answer();
        assert_eq!((ack.source, ack.destination, ack.verification), (80, 40_000, 7));
        assert_eq!(Packet::decode(&ack.encode()), Some(ack));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(Packet::decode(&bad), None, "byte {at}");
            assert_eq!(Packet::decode(&bytes[..at]), None);
        }
    }

    #[test]
    fn the_ip_header_may_have_options() {
        assert_eq!(after_ipv4_header(&[]), None);
        let mut packet = vec![0x46; 24];
        packet.push(9);
        assert_eq!(after_ipv4_header(&packet), Some(&[9_u8][..]));
    }
}
