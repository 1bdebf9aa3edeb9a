//! `version`.

use std::time::Duration;

use caracal_api::{Kind, Resource, ResourceKey};

use crate::{cli::Version, failure::Failure, session::Session};

/// Prints the client's version, and what the cluster says of itself.
pub(crate) async fn version(session: &mut Session, args: &Version) -> Result<(), Failure> {
    let poll = match &args.poll {
        Some(text) => Some(duration(text)?).filter(|d| !d.is_zero()),
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

/// A time as Go writes it: `1s`, `10m`, `2h`, `1h30m`, `500ms`; `0` is none.
fn duration(text: &str) -> Result<Duration, Failure> {
    let bad = || {
        Failure::Usage(format!(
            "--poll={text}: a time is a number with ms, s, m or h, for example 1s, 10m or 2h"
        ))
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        seconds += number
            * match &rest[..unit] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3_600.0,
                _ => return Err(bad()),
            };
        rest = &rest[unit..];
    }
    if text.is_empty() {
        return Err(bad());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_writes_them() {
        let ms = |t: &str| duration(t).unwrap().as_millis();
        assert_eq!(
            (ms("1s"), ms("500ms"), ms("1h30m"), ms("0")),
            (1_000, 500, 5_400_000, 0)
        );
        for bad in ["", "1", "s", "1x", "-1s", "1s2", "9e99h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
