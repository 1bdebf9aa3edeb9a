//! What two datastores hold, side by side.

use std::collections::HashMap;

use caracal_api::{Kind, ResourceKey};
use caracal_store::StoreError;
use caracal_wire::{Bytes, KeyValue};

use super::information_place;
use crate::{
    EtcdStore,
    keys::{self, Span},
    list::{Part, after, fetch},
    status::{About, explain},
};

/// Pairs in a page.
const PAGE: i64 = 500;

/// Everything from the first key of the page up to the next page's, without what a transfer leaves alone.
#[derive(Debug)]
pub(super) struct Pairs {
    pub(super) span: Span,
    pub(super) pairs: Vec<KeyValue>,
}

/// Reads a span page by page.
pub(super) struct Pages<'a> {
    store: &'a EtcdStore,
    start: Option<Vec<u8>>,
    end: Vec<u8>,
}

impl<'a> Pages<'a> {
    pub(super) fn new(store: &'a EtcdStore, span: &Span) -> Self {
        Self {
            store,
            start: Some(span.start.clone()),
            end: span.end.clone(),
        }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Pairs>, StoreError> {
        let Some(start) = self.start.take() else {
            return Ok(None);
        };
        let part = Part {
            start: start.clone().into(),
            end: self.end.clone().into(),
            // A locked datastore does not change; one that does is found out when both are compared.
            at: 0,
            limit: PAGE,
        };
        let answer = fetch(self.store, part).await;
        let answer = answer.map_err(|f| explain(&f, About::Report))?;
        let next = answer.kvs.last().filter(|_| answer.more).map(|kv| after(&kv.key));
        self.start.clone_from(&next);
        let mut pairs = answer.kvs;
        let left_alone = information_place();
        pairs.retain(|kv| kv.lease == 0 && kv.key != left_alone);
        Ok(Some(Pairs {
            span: Span {
                start,
                end: next.unwrap_or_else(|| self.end.clone()),
            },
            pairs,
        }))
    }

    pub(super) async fn all(mut self) -> Result<Vec<KeyValue>, StoreError> {
        let mut all = Vec::new();
        while let Some(page) = self.next().await? {
            all.extend(page.pairs);
        }
        Ok(all)
    }
}

/// What makes `there` like `source`.
#[derive(Debug, PartialEq)]
pub(super) struct Changes<'a> {
    pub(super) puts: Vec<&'a KeyValue>,
    pub(super) deletes: Vec<Bytes>,
}

pub(super) fn changes<'a>(source: &'a [KeyValue], there: &[KeyValue]) -> Changes<'a> {
    let mut present: HashMap<&Bytes, &Bytes> = there.iter().map(|kv| (&kv.key, &kv.value)).collect();
    let puts = source
        .iter()
        .filter(|kv| present.remove(&kv.key) != Some(&kv.value))
        .collect();
    let mut deletes: Vec<Bytes> = present.into_keys().cloned().collect();
    deletes.sort();
    Changes { puts, deletes }
}

/// The object that a key is, if it is one.
pub(super) fn object(key: &[u8]) -> Option<ResourceKey> {
    Kind::ALL.iter().find_map(|kind| keys::parse(*kind, key))
}

/// How a key is called in messages.
pub(super) fn name(key: &[u8]) -> String {
    object(key).map_or_else(|| String::from_utf8_lossy(key).into_owned(), |k| k.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            ..KeyValue::default()
        }
    }

    #[test]
    fn only_what_differs_is_written_and_what_is_too_much_deleted() {
        let source = [pair("a", "1"), pair("b", "2"), pair("c", "3")];
        let there = [pair("a", "1"), pair("b", "other"), pair("x", "9")];
        let found = changes(&source, &there);
        assert_eq!(found.puts, [&source[1], &source[2]]);
        assert_eq!(found.deletes, ["x"]);
    }

    #[test]
    fn keys_are_named_as_users_know_them() {
        assert_eq!(name(b"/calico/resources/v3/projectcalico.org/tiers/t"), "Tier(t)");
        assert_eq!(name(b"/calico/bgp/v1/x"), "/calico/bgp/v1/x");
    }
}
