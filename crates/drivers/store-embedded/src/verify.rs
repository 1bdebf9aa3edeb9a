//! Checks that the tables agree with each other, beyond the checksums that opening has compared.

use std::collections::HashSet;

use redb::{ReadableTable, ReadableTableMetadata};

use crate::db::Snapshot;
use crate::error::RequestError;
use crate::record::{Change, Current};
use crate::view::Source;

/// Most problems listed.
const MOST: usize = 100;

/// What is wrong, a line each; empty when all is well.
pub(crate) fn problems(snapshot: &Snapshot) -> Result<Vec<String>, RequestError> {
    let mut found = Vec::new();
    keys(snapshot, &mut found)?;
    log(snapshot, &mut found)?;
    attachments(snapshot, &mut found)?;
    found.truncate(MOST);
    Ok(found)
}

fn keys(snapshot: &Snapshot, found: &mut Vec<String>) -> Result<(), RequestError> {
    let leases = snapshot
        .leases
        .iter()?
        .map(|entry| Ok(entry?.0.value()))
        .collect::<Result<HashSet<_>, redb::StorageError>>()?;
    for entry in snapshot.keys().iter()? {
        let (key, record) = entry?;
        let name = String::from_utf8_lossy(key.value());
        let kv = match Current::decode(key.value(), record.value()) {
            Ok(current) => current.kv,
            Err(error) => {
                found.push(format!("key {name}: {error}"));
                continue;
            }
        };
        if kv.version < 1 || kv.create_revision > kv.mod_revision || kv.mod_revision > snapshot.revision() {
            found.push(format!(
                "key {name}: version {}, created at {}, changed at {}, while the store is at {}",
                kv.version,
                kv.create_revision,
                kv.mod_revision,
                snapshot.revision()
            ));
        }
        if kv.lease != 0 {
            let listed = snapshot.lease_keys.get((kv.lease, key.value()))?.is_some();
            if !listed || !leases.contains(&kv.lease) {
                found.push(format!(
                    "key {name}: belongs to lease {:x}, which does not know it",
                    kv.lease
                ));
            }
        }
    }
    Ok(())
}

fn log(snapshot: &Snapshot, found: &mut Vec<String>) -> Result<(), RequestError> {
    for entry in snapshot.log().iter()? {
        let (place, record) = entry?;
        let (revision, sub) = place.value();
        if revision > snapshot.revision() {
            found.push(format!(
                "log {revision}.{sub}: after the last revision {}",
                snapshot.revision()
            ));
        }
        match Change::decode(revision, record.value()) {
            Ok(change) => {
                let indexed = snapshot
                    .history()
                    .get((change.kv.key.as_ref(), revision, sub))?
                    .map(|put| put.value());
                if indexed != Some(change.put) {
                    found.push(format!("log {revision}.{sub}: not in the index of its key"));
                }
            }
            Err(error) => found.push(format!("log {revision}.{sub}: {error}")),
        }
    }
    let (logged, indexed) = (snapshot.log().len()?, snapshot.history().len()?);
    if logged != indexed {
        found.push(format!("the log has {logged} entries, its index {indexed}"));
    }
    Ok(())
}

fn attachments(snapshot: &Snapshot, found: &mut Vec<String>) -> Result<(), RequestError> {
    for entry in snapshot.lease_keys.iter()? {
        let (place, _) = entry?;
        let (lease, key) = place.value();
        let owner = match snapshot.keys().get(key)? {
            Some(record) => Current::decode(key, record.value()).map_or(0, |current| current.kv.lease),
            None => 0,
        };
        if owner != lease {
            found.push(format!(
                "lease {lease:x}: lists key {}, which is not its",
                String::from_utf8_lossy(key)
            ));
        }
    }
    Ok(())
}
