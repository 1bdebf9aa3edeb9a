//! `version`.

use caracal_api::{Kind, Resource, ResourceKey};

use crate::{cli::Version, duration::duration, failure::Failure, session::Session};

/// Prints the client's version, and what the cluster says of itself.
pub(crate) async fn version(session: &mut Session, args: &Version) -> Result<(), Failure> {
    let poll = match &args.poll {
        Some(text) => Some(duration("--poll", text)?).filter(|d| !d.is_zero()),
        None => None,
    };
    session.print(&client())?;
    if args.client {
        return Ok(());
    }
    let mut shown = cluster(session).await?;
    session.print(&shown)?;
    while let Some(pause) = poll {
        tokio::time::sleep(pause).await;
        let now = cluster(session).await?;
        if now != shown {
            session.print(&now)?;
            shown = now;
        }
    }
    Ok(())
}

fn client() -> String {
    let commit = option_env!("CARACAL_COMMIT").filter(|c| !c.is_empty());
    format!(
        "Client Version:    v{}\nGit commit:        {}\n",
        env!("CARGO_PKG_VERSION"),
        commit.unwrap_or("unknown")
    )
}

async fn cluster(session: &mut Session) -> Result<String, Failure> {
    let key = ResourceKey::global(Kind::ClusterInformation, "default");
    let answer = session.store()?.get(&key).await?;
    let Resource::ClusterInformation(info) = answer else {
        return Ok(String::new());
    };
    let known = |text: &str| {
        if text.is_empty() {
            "unknown".to_owned()
        } else {
            text.to_owned()
        }
    };
    Ok(format!(
        "Cluster Version:   {}\nCluster Type:      {}\nCluster GUID:      {}\n",
        known(&info.spec.calico_version),
        known(&info.spec.cluster_type),
        known(&info.spec.cluster_guid)
    ))
}
