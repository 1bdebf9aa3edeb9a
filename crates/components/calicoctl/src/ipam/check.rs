use std::{collections::BTreeSet, time::Duration};

use caracal_ipam::Ipam;
use caracal_ipam_plan::{Problem, Report, Snapshot, Stamp, confirmed};
use serde_json::json;

use super::{Check, cluster, engine, report, text};
use crate::{failure::Failure, session::Session};

/// How often repairs are followed by another look, for one can uncover another.
const ROUNDS: usize = 5;
/// How long an operation under way gets to end before it is taken for a problem.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// Problems there are: the text was printed.
const PROBLEMS: i32 = 1;
/// It could not be found out.
const UNKNOWN: i32 = 2;

pub(super) async fn check(session: &mut Session, args: &Check) -> Result<(), Failure> {
    match proof(session, args).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::Code(PROBLEMS, String::new())),
        Err(Failure::Closed) => Err(Failure::Closed),
        Err(e) => Err(Failure::Code(UNKNOWN, e.to_string())),
    }
}

async fn proof(session: &mut Session, args: &Check) -> Result<bool, Failure> {
    let ipam = engine(session)?;
    let (snapshot, report) = look(&ipam, args).await?;
    match args.output.as_deref() {
        Some("json") => {}
        Some(path) => {
            let cluster = cluster(session.raw_store()?.as_ref()).await?;
            write(path, &report::file(&cluster, &snapshot, &report))?;
            session.print(&text::render(args, &snapshot, &report))?;
        }
        None => session.print(&text::render(args, &snapshot, &report))?,
    }
    if !args.fix {
        if args.output.as_deref() == Some("json") {
            session.print(&as_json(&report, &[]))?;
        }
        return Ok(report.problems.is_empty());
    }
    if !args.apply {
        return dry_run(session, args, &report);
    }
    let (report, done) = repair(session, &ipam, args, report).await?;
    if args.output.as_deref() == Some("json") {
        session.print(&as_json(&report, &done))?;
    } else {
        session.print(&format!("After repairs: {} problems.\n", report.problems.len()))?;
    }
    Ok(report.problems.is_empty())
}

/// Looks twice when something is wrong that an operation under way could look like.
async fn look(ipam: &Ipam, args: &Check) -> Result<(Snapshot, Report), Failure> {
    let once = || async {
        let snapshot = ipam.load().await.map_err(|e| super::failed(&e))?;
        let report = caracal_ipam_plan::check(&snapshot, now(), args.grace_period.into());
        Ok::<_, Failure>((snapshot, report))
    };
    let (snapshot, first) = once().await?;
    if !first.problems.iter().any(|p| p.kind.passing()) {
        return Ok((snapshot, first));
    }
    tokio::time::sleep(SECOND_LOOK).await;
    let (snapshot, second) = once().await?;
    Ok((snapshot, confirmed(&first, second)))
}

fn now() -> Stamp {
    Stamp::parse(&caracal_store::now()).unwrap_or_default()
}

fn write(path: &str, file: &report::File) -> Result<(), Failure> {
    let bad = |e: String| Failure::Usage(format!("cannot write the report {path}: {e}"));
    let text = serde_json::to_string_pretty(file).map_err(|e| bad(e.to_string()))?;
    std::fs::write(path, text).map_err(|e| bad(e.to_string()))
}

fn chosen<'a>(args: &'a Check, report: &'a Report) -> impl Iterator<Item = &'a Problem> {
    let wanted = |p: &&Problem| args.only.is_empty() || args.only.contains(&p.subject);
    report.problems.iter().filter(wanted)
}

fn dry_run(session: &mut Session, args: &Check, report: &Report) -> Result<bool, Failure> {
    if args.output.as_deref() == Some("json") {
        session.print(&as_json(report, &[]))?;
        return Ok(report.problems.is_empty());
    }
    for p in chosen(args, report) {
        let what = match &p.fix {
            Some(fix) => format!("would repair {}: {}", p.subject, describe(fix)),
            None => format!("cannot repair {}: {}", p.subject, p.repair),
        };
        session.print(&format!("[{}] {what}\n", text::name(p)))?;
    }
    if chosen(args, report).any(|p| p.fixable) {
        session.print("Nothing was changed; add --apply to do it.\n")?;
    }
    Ok(report.problems.is_empty())
}

fn describe(fix: &caracal_ipam_plan::Fix) -> String {
    use caracal_ipam_plan::Fix;
    match fix {
        Fix::Release {
            block,
            addr,
            handle,
            sequence,
        } => format!(
            "give {addr} back in block {block}, if {} still has it under number {sequence}",
            handle.as_deref().unwrap_or("nobody's handle")
        ),
        Fix::Count { handle, block } => format!("put right what handle {handle} counts in block {block}"),
        Fix::MakeHandle { handle, block } => {
            format!("write into handle {handle} what it holds in block {block}")
        }
        Fix::MakeAffinity { holder, block } => format!("write the claim of {holder} on block {block}"),
        Fix::ReleaseAffinity { holder, block } => {
            format!("give the claim of {holder} on block {block} up; addresses in use stay")
        }
        Fix::DeleteBlock(block) => format!("delete the empty block {block}"),
        Fix::Merge { from, into } => {
            format!(
                "move the addresses of block {from} to block {into} and delete {from}; every address keeps its owner"
            )
        }
        Fix::Allocate { addr, owner, .. } => format!("allocate {addr} to handle {}", owner.handle),
        Fix::FinishDeletion(key) => format!("finish the deletion of {key}"),
        Fix::Discard(key) => format!("delete {key}, which cannot be read; what blocks say makes it anew"),
    }
}

/// Repairs, and looks again, until nothing is left that can be repaired.
async fn repair(
    session: &mut Session,
    ipam: &Ipam,
    args: &Check,
    mut report: Report,
) -> Result<(Report, Vec<String>), Failure> {
    let quiet = args.output.as_deref() == Some("json");
    let mut done = Vec::new();
    let mut told: BTreeSet<(String, String)> = BTreeSet::new();
    for _ in 0..ROUNDS {
        let due: Vec<Problem> = chosen(args, &report).filter(|p| p.fixable).cloned().collect();
        let mut progress = false;
        for p in &due {
            let Some(fix) = &p.fix else { continue };
            let line = match ipam.repair(fix).await {
                Ok(()) => {
                    progress = true;
                    format!("[{}] repaired {}: {}", text::name(p), p.subject, describe(fix))
                }
                // Another repair may clear the way for it: it is tried again as long as others succeed.
                Err(_) if !told.insert((text::name(p), p.subject.clone())) => continue,
                Err(e) => format!("[{}] {} was not repaired: {e}", text::name(p), p.subject),
            };
            if !quiet {
                session.print(&format!("{line}\n"))?;
            }
            done.push(line);
        }
        if !progress {
            break;
        }
        report = look(ipam, args).await?.1;
    }
    Ok((report, done))
}

fn as_json(report: &Report, repairs: &[String]) -> String {
    let value = json!({
        "clean": report.problems.is_empty(),
        "problems": report.problems,
        "notes": report.notes,
        "allocations": report.allocations.len(),
        "handles": report.handles,
        "inUse": report.used,
        "repairs": repairs,
    });
    format!("{value:#}\n")
}
