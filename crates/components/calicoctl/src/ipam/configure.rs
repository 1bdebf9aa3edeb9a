use caracal_api::{IpamConfigurationSpec, Kind, Object, ResourceKey};
use caracal_store::{Store, StoreError};

use super::Configure;
use crate::{failure::Failure, session::Session};

pub(super) async fn configure(session: &mut Session, args: &Configure) -> Result<(), Failure> {
    let strict = args.strictaffinity.as_deref().map(boolean).transpose()?;
    let blocks = number(
        "--max-blocks-per-host",
        args.max_blocks_per_host.as_deref(),
        i32::MAX,
    )?;
    let cooldown = number("--ip-cooldown-seconds", args.ip_cooldown_seconds.as_deref(), 1200)?;
    let persistence = args.kubevirt_ip_persistence.as_deref();
    if let Some(p) = persistence.filter(|p| !matches!(*p, "Enabled" | "Disabled")) {
        return Err(Failure::Usage(format!(
            "--kubevirt-ip-persistence={p}: it is Enabled or Disabled"
        )));
    }
    let mut said = String::new();
    let store = session.store()?;
    change(store.as_ref(), |c| {
        said.clear();
        let mut say = |what: &str, value: String| said += &format!("Successfully set {what} to: {value}\n");
        if let Some(s) = strict {
            c.strict_affinity = s;
            say("StrictAffinity", s.to_string());
        }
        if let Some(n) = blocks {
            c.max_blocks_per_host = n;
            say("MaxBlocksPerHost", n.to_string());
        }
        if let Some(p) = persistence {
            c.kube_virt_vm_address_persistence = Some(p.to_owned());
            say("KubeVirtVMAddressPersistence", p.to_owned());
        }
        if let Some(n) = cooldown {
            c.ip_cooldown_seconds = Some(n);
            say("IPCooldownSeconds", n.to_string());
        }
    })
    .await?;
    if said.is_empty() {
        return Err(Failure::Usage(
            "at least one of --strictaffinity, --max-blocks-per-host, --kubevirt-ip-persistence and \
             --ip-cooldown-seconds must be given"
                .to_owned(),
        ));
    }
    session.print(&said)
}

fn boolean(text: &str) -> Result<bool, Failure> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Failure::Usage(format!(
            "--strictaffinity={text}: it is true or false"
        ))),
    }
}

fn number(option: &str, text: Option<&str>, max: i32) -> Result<Option<i32>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let n = text.parse::<i32>().ok().filter(|n| (0..=max).contains(n));
    let bad = || Failure::Usage(format!("{option}={text}: it is a number from 0 to {max}"));
    n.map(Some).ok_or_else(bad)
}

/// Changes the one configuration object, or makes it.
async fn change(
    store: &dyn Store,
    mut change: impl FnMut(&mut IpamConfigurationSpec),
) -> Result<(), Failure> {
    const TRIES: usize = 10;
    let key = ResourceKey::global(Kind::IpamConfiguration, "default");
    for _ in 0..TRIES {
        let stored = match store.get(&key).await {
            Ok(r) => Some(Object::<IpamConfigurationSpec>::try_from(r).unwrap_or_default()),
            Err(StoreError::NotFound(_)) => None,
            Err(e) => return Err(e.into()),
        };
        let exists = stored.is_some();
        let mut wanted = stored.unwrap_or_else(|| Object::new("default", IpamConfigurationSpec::default()));
        let before = wanted.spec.clone();
        change(&mut wanted.spec);
        if wanted.spec.max_blocks_per_host > 0 && !wanted.spec.strict_affinity {
            return Err(Failure::Usage(
                "maxBlocksPerHost can only be limited with strictAffinity: add --strictaffinity=true"
                    .to_owned(),
            ));
        }
        if wanted.spec == before && exists {
            return Ok(());
        }
        let written = if exists {
            store.update(wanted.into()).await
        } else {
            store.create(wanted.into()).await
        };
        match written {
            Ok(_) => return Ok(()),
            Err(StoreError::Conflict { .. } | StoreError::AlreadyExists(_) | StoreError::NotFound(_)) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(Failure::Objects(format!(
        "{key}: other writers were faster {TRIES} times; try again"
    )))
}
