use std::{collections::BTreeMap, net::IpAddr, path::PathBuf};

use caracal_api::{IpamHandleSpec, Kind, Object, ResourceKey};
use caracal_ipam::Ipam;
use caracal_ipam_plan::Fix;
use caracal_store::{Store, StoreError};

use super::{
    Release, address, cluster, engine, failed,
    report::{File, Handle, VERSION},
};
use crate::{failure::Failure, session::Session};

pub(super) async fn release(session: &mut Session, args: &Release) -> Result<(), Failure> {
    if let Some(text) = &args.ip {
        let addr = address(text)?;
        let ipam = engine(session)?;
        if !ipam
            .release_address(addr, None, None)
            .await
            .map_err(|e| failed(&e))?
        {
            return Err(Failure::Objects(format!("IP address {addr} is not assigned")));
        }
        return session.print(&format!("Successfully released IP address {addr}\n"));
    }
    let reports = read(&args.from_report)?;
    may_use(session, args, &reports).await?;
    let (addresses, handles) = common(&reports);
    let ipam = engine(session)?;
    release_addresses(session, &ipam, &addresses).await?;
    release_handles(session, &ipam, &handles).await?;
    session.print("You may now unlock the data store.\n")
}

fn read(paths: &[PathBuf]) -> Result<Vec<(String, File)>, Failure> {
    let one = |path: &PathBuf| {
        let name = path.display().to_string();
        let text = std::fs::read(path).map_err(|e| Failure::Input(format!("{name}: {e}")))?;
        let file = serde_json::from_slice(&text)
            .map_err(|e| Failure::Input(format!("{name} is no report of `ipam check -o FILE`: {e}")))?;
        Ok((name, file))
    };
    paths.iter().map(one).collect()
}

/// The reports are of this cluster and this version, one is new, and nobody assigns addresses meanwhile.
async fn may_use(session: &mut Session, args: &Release, reports: &[(String, File)]) -> Result<(), Failure> {
    let now = cluster(session.raw_store()?.as_ref()).await?;
    let refuse = |text: String| Err(Failure::Usage(text));
    for (name, r) in reports {
        if r.cluster_guid != now.spec.cluster_guid {
            return refuse(format!(
                "{name} is of another cluster (GUID {:?}, this one is {:?}); nothing was released",
                r.cluster_guid, now.spec.cluster_guid
            ));
        }
        if r.version != VERSION {
            let text = format!(
                "{name} was made by version {} of calicoctl, this is {VERSION}",
                r.version
            );
            if !args.force {
                return refuse(format!("{text}; make it anew, or use --force"));
            }
            session
                .io
                .complain(&format!("WARNING: {text}; ignored because of --force"));
        }
    }
    let revision = now.metadata.resource_version.unwrap_or_default();
    if !reports.iter().any(|(_, r)| r.cluster_info_revision == revision) {
        return refuse(
            "the reports are all stale: make a new one while the data store is locked (calicoctl datastore migrate lock)"
                .to_owned(),
        );
    }
    if now.spec.datastore_ready != Some(false) {
        if !args.force {
            return refuse(
                "the data store is not locked: lock it (calicoctl datastore migrate lock), or use --force"
                    .to_owned(),
            );
        }
        session
            .io
            .complain("WARNING: the data store is not locked; ignored because of --force");
    }
    Ok(())
}

type Wanted = (IpAddr, Option<String>, Option<u64>);

/// What is leaked in all reports, unchanged.
fn common(reports: &[(String, File)]) -> (Vec<Wanted>, Vec<Handle>) {
    let mut addresses: BTreeMap<Wanted, usize> = BTreeMap::new();
    let mut handles: BTreeMap<(String, String), (Handle, usize)> = BTreeMap::new();
    for (_, r) in reports {
        for a in r.allocations.values().flatten().filter(|a| !a.in_use) {
            let Ok(addr) = a.ip.parse() else { continue };
            let handle = (!a.handle.is_empty()).then(|| a.handle.clone());
            *addresses.entry((addr, handle, a.sequence_number)).or_default() += 1;
        }
        for h in &r.leaked_handles {
            let key = (h.id.clone(), h.revision.clone());
            handles.entry(key).or_insert((h.clone(), 0)).1 += 1;
        }
    }
    let all = reports.len();
    (
        addresses
            .into_iter()
            .filter(|(_, n)| *n == all)
            .map(|(a, _)| a)
            .collect(),
        handles
            .into_values()
            .filter(|(_, n)| *n == all)
            .map(|(h, _)| h)
            .collect(),
    )
}

async fn release_addresses(session: &mut Session, ipam: &Ipam, wanted: &[Wanted]) -> Result<(), Failure> {
    if wanted.is_empty() {
        return session.print("Report didn't contain any leaked IPs to clean up.\n");
    }
    session.print(&format!("Releasing {} old IPs...\n", wanted.len()))?;
    let done = ipam.release_addresses(wanted).await.map_err(|e| failed(&e))?;
    session.print(&format!("Released {} IPs successfully\n", done.released.len()))?;
    if !done.free.is_empty() {
        session.print(&format!(
            "{} addresses marked as leaked in the report had already been cleaned up.\n",
            done.free.len()
        ))?;
    }
    if !done.not_those.is_empty() {
        session.print(&format!(
            "{} addresses were left alone: somebody else has them by now.\n",
            done.not_those.len()
        ))?;
    }
    Ok(())
}

async fn release_handles(session: &mut Session, ipam: &Ipam, handles: &[Handle]) -> Result<(), Failure> {
    if handles.is_empty() {
        return session.print("Report didn't contain any handles to clean up.\n");
    }
    session.print(&format!("Deleting {} handles...\n", handles.len()))?;
    let store = session.raw_store()?;
    let (mut released, mut skipped) = (0, 0);
    let mut errors = Vec::new();
    for h in handles {
        match delete_handle(store.as_ref(), ipam, h).await {
            Ok(true) => released += 1,
            Ok(false) => skipped += 1,
            Err(e) => errors.push(format!("deleting handle {} failed: {e}", h.id)),
        }
    }
    session.print(&format!(
        "Released {released} handles; {skipped} skipped; {} errors.\n",
        errors.len()
    ))?;
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::Objects(errors.join("\n")))
    }
}

/// Deletes a handle unless it is gone or was changed since the report.
async fn delete_handle(store: &dyn Store, ipam: &Ipam, h: &Handle) -> Result<bool, Failure> {
    let key = ResourceKey::global(Kind::IpamHandle, &h.id);
    let stored = match store.get(&key).await {
        Ok(r) => Object::<IpamHandleSpec>::try_from(r).unwrap_or_default(),
        Err(StoreError::NotFound(_)) => return Ok(false),
        Err(e) => return Err(e.into()),
    };
    if stored.metadata.resource_version.as_deref() != Some(h.revision.as_str()) {
        return Ok(false);
    }
    for block in stored.spec.block.keys().filter_map(|c| c.parse().ok()) {
        let handle = h.id.clone();
        ipam.repair(&Fix::Count { handle, block })
            .await
            .map_err(|e| failed(&e))?;
    }
    ipam.repair(&Fix::FinishDeletion(key))
        .await
        .map_err(|e| failed(&e))?;
    Ok(true)
}
