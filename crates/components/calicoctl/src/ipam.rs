//! `ipam check|show|release|configure|split`.

mod check;
mod configure;
mod release;
mod report;
mod show;
mod split;
mod table;
mod text;

use std::{net::IpAddr, path::PathBuf};

use caracal_api::{ClusterInformationSpec, Kind, Object, ResourceKey};
use caracal_ipam::{Ipam, IpamError};
use caracal_store::{Store, StoreError};
use clap::{Args, Subcommand};

use crate::{failure::Failure, session::Session};

#[derive(Debug, Subcommand)]
pub(crate) enum IpamCommand {
    /// Proves from the datastore that every address is free or has exactly one owner, or says where not
    ///
    /// The exit code is 0 when all is right, 1 when there are problems, and 2 when that could not be found out.
    Check(Check),
    /// Shows an address, or how full pools and blocks are
    Show(Show),
    /// Gives addresses back that an endpoint has lost
    Release(Release),
    /// Changes how addresses are assigned
    Configure(Configure),
    /// Splits a pool into smaller ones of equal size
    Split(Split),
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// Print all addresses
    #[arg(long)]
    show_all_ips: bool,
    /// Print addresses that are leaked or not allocated properly
    #[arg(long)]
    show_problem_ips: bool,
    /// "json" prints the result as JSON; anything else is a file that gets Calico's report, for release --from-report
    #[arg(short, long, value_name = "json|FILE")]
    output: Option<String>,
    /// Taken and ignored: the datastore alone is asked
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Show what would repair each problem
    #[arg(long)]
    fix: bool,
    /// With --fix: do it
    #[arg(long, requires = "fix")]
    apply: bool,
    /// With --fix: only problems of this address, block, handle or object; may be given several times
    #[arg(long, requires = "fix", value_name = "SUBJECT")]
    only: Vec<String>,
    /// How many seconds an address may be allocated before somebody must use it
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    grace_period: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Show who has this address
    #[arg(long, value_name = "IP", conflicts_with_all = ["show_blocks", "show_borrowed", "show_configuration"])]
    ip: Option<String>,
    /// Show blocks as well as pools
    #[arg(long)]
    show_blocks: bool,
    /// Show addresses that nodes borrow from blocks of others
    #[arg(long)]
    show_borrowed: bool,
    /// Show how addresses are assigned
    #[arg(long)]
    show_configuration: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Release {
    /// The address
    #[arg(
        long,
        value_name = "IP",
        required_unless_present = "from_report",
        conflicts_with = "from_report"
    )]
    ip: Option<String>,
    /// Give back what is leaked in all of these reports of check; one of them must be new
    #[arg(long, value_name = "REPORT")]
    from_report: Vec<PathBuf>,
    /// Although the datastore is not locked, or the report is of another version
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Configure {
    /// true: nodes take addresses of their own blocks only
    #[arg(long, value_name = "true|false")]
    strictaffinity: Option<String>,
    /// The most blocks a node may have; 0 means 20
    #[arg(long, value_name = "NUMBER")]
    max_blocks_per_host: Option<String>,
    /// Enabled or Disabled: virtual machines keep their addresses
    #[arg(long, value_name = "Enabled|Disabled")]
    kubevirt_ip_persistence: Option<String>,
    /// How many seconds an address rests after its release, 0 to 1200
    #[arg(long, value_name = "SECONDS")]
    ip_cooldown_seconds: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Split {
    /// Into how many pools: a power of 2
    number: String,
    /// The range of the pool
    #[arg(long, value_name = "CIDR", required_unless_present = "name")]
    cidr: Option<String>,
    /// The name of the pool
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Runs one of the commands.
pub(crate) async fn ipam(session: &mut Session, command: &IpamCommand) -> Result<(), Failure> {
    match command {
        IpamCommand::Check(args) => check::check(session, args).await,
        IpamCommand::Show(args) => show::show(session, args).await,
        IpamCommand::Release(args) => release::release(session, args).await,
        IpamCommand::Configure(args) => configure::configure(session, args).await,
        IpamCommand::Split(args) => split::split(session, args).await,
    }
}

fn engine(session: &mut Session) -> Result<Ipam, Failure> {
    Ok(Ipam::new(session.raw_store()?))
}

fn failed(e: &IpamError) -> Failure {
    Failure::Objects(e.to_string())
}

fn address(text: &str) -> Result<IpAddr, Failure> {
    text.parse()
        .map_err(|_| Failure::Usage(format!("--ip: {text:?} is not an IPv4 or IPv6 address")))
}

/// What the cluster is, and the revision that says so; empty where nobody wrote it.
async fn cluster(store: &dyn Store) -> Result<Object<ClusterInformationSpec>, StoreError> {
    match store
        .get(&ResourceKey::global(Kind::ClusterInformation, "default"))
        .await
    {
        Ok(r) => Ok(Object::try_from(r).unwrap_or_default()),
        Err(StoreError::NotFound(_)) => Ok(Object::default()),
        Err(e) => Err(e),
    }
}
