//! How a version of a key is written in the database's tables.
//!
//! `keys` holds the present: key → [`Current`]. `log` holds changes: (revision, sub) → [`Change`].
//! Numbers are little endian; order never depends on these bytes, only on the tables' keys.

use caracal_wire::{Bytes, Event, EventType, KeyValue};

/// A record's bytes are not what this version wrote.
#[derive(Debug, thiserror::Error)]
#[error("record of {table} is cut short or of an unknown kind ({len} bytes); the database is damaged")]
pub struct BadRecord {
    table: &'static str,
    len: usize,
}

/// The present version of a key, and its place in the revision it was written at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) kv: KeyValue,
    pub(crate) sub: u32,
}

const CURRENT_HEAD: usize = 36;

impl Current {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let kv = &self.kv;
        let mut out = Vec::with_capacity(CURRENT_HEAD + kv.value.len());
        for number in [kv.create_revision, kv.mod_revision, kv.version, kv.lease] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.sub.to_le_bytes());
        out.extend_from_slice(&kv.value);
        out
    }

    pub(crate) fn decode(key: &[u8], bytes: &[u8]) -> Result<Self, BadRecord> {
        let mut fields = Fields {
            table: "keys",
            all: bytes.len(),
            rest: bytes,
        };
        let (create_revision, mod_revision) = (fields.number()?, fields.number()?);
        let (version, lease) = (fields.number()?, fields.number()?);
        let sub = fields.word()?;
        let kv = KeyValue {
            key: Bytes::copy_from_slice(key),
            create_revision,
            mod_revision,
            version,
            value: Bytes::copy_from_slice(fields.rest),
            lease,
        };
        Ok(Self { kv, sub })
    }

    /// Only the revision of the last change, for scans that need no more.
    pub(crate) fn modified(bytes: &[u8]) -> Result<i64, BadRecord> {
        let mut fields = Fields {
            table: "keys",
            all: bytes.len(),
            rest: bytes,
        };
        fields.number()?;
        fields.number()
    }
}

/// One entry of the log: a put with the whole version, or a delete with the key alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) put: bool,
    pub(crate) kv: KeyValue,
}

impl Change {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let kv = &self.kv;
        let mut out = Vec::with_capacity(29 + kv.key.len() + kv.value.len());
        out.push(u8::from(self.put));
        for number in [kv.create_revision, kv.version, kv.lease] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        // Keys come in requests of at most 1.5 MiB.
        out.extend_from_slice(&u32::try_from(kv.key.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend_from_slice(&kv.key);
        out.extend_from_slice(&kv.value);
        out
    }

    pub(crate) fn decode(revision: i64, bytes: &[u8]) -> Result<Self, BadRecord> {
        let (put, key, mut fields) = Self::head(bytes)?;
        let (create_revision, version, lease) = (fields.number()?, fields.number()?, fields.number()?);
        let value = bytes.get(29 + key.len()..).unwrap_or_default();
        let kv = KeyValue {
            key: Bytes::copy_from_slice(key),
            create_revision,
            mod_revision: revision,
            version,
            value: Bytes::copy_from_slice(value),
            lease,
        };
        Ok(Self { put, kv })
    }

    /// Kind and key of an entry, without copying.
    pub(crate) fn peek(bytes: &[u8]) -> Result<(bool, &[u8]), BadRecord> {
        Self::head(bytes).map(|(put, key, _)| (put, key))
    }

    fn head(bytes: &[u8]) -> Result<(bool, &[u8], Fields<'_>), BadRecord> {
        let bad = || BadRecord {
            table: "log",
            len: bytes.len(),
        };
        let put = match bytes.first() {
            Some(0) => false,
            Some(1) => true,
            _ => return Err(bad()),
        };
        let numbers = Fields {
            table: "log",
            all: bytes.len(),
            rest: bytes.get(1..25).ok_or_else(bad)?,
        };
        let mut tail = Fields {
            table: "log",
            all: bytes.len(),
            rest: &bytes[25..],
        };
        let len = tail.word()? as usize;
        let key = tail.rest.get(..len).ok_or_else(bad)?;
        Ok((put, key, numbers))
    }

    /// What a watcher is told.
    pub(crate) fn into_event(self, prev_kv: Option<KeyValue>) -> Event {
        let kind = if self.put {
            EventType::Put
        } else {
            EventType::Delete
        };
        Event {
            r#type: kind.into(),
            kv: Some(self.kv),
            prev_kv,
        }
    }
}

/// Reads fixed fields off the front of a record.
struct Fields<'a> {
    table: &'static str,
    all: usize,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], BadRecord> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(BadRecord {
            table: self.table,
            len: self.all,
        })?;
        self.rest = rest;
        Ok(*head)
    }

    fn number(&mut self) -> Result<i64, BadRecord> {
        self.take().map(i64::from_le_bytes)
    }

    fn word(&mut self) -> Result<u32, BadRecord> {
        self.take().map(u32::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kv() -> KeyValue {
        KeyValue {
            key: Bytes::from_static(b"/calico/a"),
            create_revision: 4,
            mod_revision: 9,
            version: 3,
            value: Bytes::from_static(b"{}"),
            lease: 77,
        }
    }

    #[test]
    fn a_current_version_survives() {
        let current = Current { kv: kv(), sub: 5 };
        let bytes = current.encode();
        assert_eq!(Current::decode(b"/calico/a", &bytes).unwrap(), current);
        assert_eq!(Current::modified(&bytes).unwrap(), 9);
    }

    #[test]
    fn a_change_survives() {
        let change = Change { put: true, kv: kv() };
        let bytes = change.encode();
        assert_eq!(Change::decode(9, &bytes).unwrap(), change);
        assert_eq!(Change::peek(&bytes).unwrap(), (true, b"/calico/a".as_ref()));
    }

    #[test]
    fn every_cut_is_an_error_not_a_panic() {
        let current = Current { kv: kv(), sub: 5 }.encode();
        for cut in 0..CURRENT_HEAD {
            assert!(Current::decode(b"k", &current[..cut]).is_err());
        }
        let change = Change { put: true, kv: kv() }.encode();
        for cut in 0..29 + 9 {
            assert!(Change::decode(1, &change[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Change::decode(1, &[7; 64]).is_err());
    }
}
