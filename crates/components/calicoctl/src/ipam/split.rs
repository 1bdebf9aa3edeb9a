use caracal_api::{IpPoolSpec, Kind, Object};
use caracal_ipam_plan::split_pool;
use caracal_net::Cidr;
use caracal_store::{ListOptions, Preconditions, Store, StoreError};

use super::{Split, cluster};
use crate::{failure::Failure, session::Session};

/// Splits a pool. When it was cut off, the same command again finishes it: the old pool goes last, and as long as it is
/// there nothing is taken from the new ones.
pub(super) async fn split(session: &mut Session, args: &Split) -> Result<(), Failure> {
    let parts: u64 = args
        .number
        .parse()
        .map_err(|_| Failure::Usage(format!("{:?} is not a number of pools", args.number)))?;
    // Pools that overlap for a while are what the checked store refuses.
    let store = session.raw_store()?;
    if cluster(store.as_ref()).await?.spec.datastore_ready != Some(false) {
        return Err(Failure::Usage(
            "the datastore is not locked: run `calicoctl datastore migrate lock` first".to_owned(),
        ));
    }
    let mut old = find(store.as_ref(), args).await?;
    let children = split_pool(&old, parts).map_err(Failure::Usage)?;
    if !old.spec.disabled {
        old.spec.disabled = true;
        let written = store.update(old.into()).await?;
        old = Object::try_from(written).unwrap_or_default();
    }
    for child in &children {
        match store.create(child.clone().into()).await {
            Ok(_) => {}
            Err(StoreError::AlreadyExists(key)) => {
                let there = Object::<IpPoolSpec>::try_from(store.get(&key).await?).unwrap_or_default();
                if there.spec.cidr != child.spec.cidr {
                    return Err(Failure::Objects(format!(
                        "{key} exists with the range {}, and {} was wanted; delete or rename it, and split again",
                        there.spec.cidr, child.spec.cidr
                    )));
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
    let expect = Preconditions {
        resource_version: old.metadata.resource_version.clone(),
        uid: None,
    };
    store.delete(&old.key(), &expect).await?;
    let mut out = format!(
        "IP Pool {} was successfully split into {parts} smaller pools.\n",
        old.metadata.name
    );
    for c in &children {
        out += &format!("Created {} with CIDR {}.\n", c.metadata.name, c.spec.cidr);
    }
    out += "Now unlock the datastore with `calicoctl datastore migrate unlock`.\n";
    session.print(&out)
}

async fn find(store: &dyn Store, args: &Split) -> Result<Object<IpPoolSpec>, Failure> {
    let wanted = match &args.cidr {
        Some(text) => Some(
            text.parse::<Cidr>()
                .map_err(|e| Failure::Usage(format!("--cidr: {e}")))?,
        ),
        None => None,
    };
    let all = store.list_all(Kind::IpPool, &ListOptions::default()).await?;
    let fits = |p: &Object<IpPoolSpec>| {
        args.name.as_ref().is_none_or(|n| *n == p.metadata.name)
            && wanted.is_none_or(|c| p.spec.cidr.parse() == Ok(c))
    };
    let mut found = all
        .items
        .into_iter()
        .filter_map(|r| Object::<IpPoolSpec>::try_from(r).ok())
        .filter(fits);
    found.next().ok_or_else(|| {
        let what = [("name", args.name.as_deref()), ("CIDR", args.cidr.as_deref())];
        let what: Vec<String> = what
            .iter()
            .filter_map(|(k, v)| v.map(|v| format!("{k} {v}")))
            .collect();
        Failure::Usage(format!("there is no IP pool with {}", what.join(" and ")))
    })
}
