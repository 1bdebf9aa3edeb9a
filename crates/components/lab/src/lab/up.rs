//! `lab up`.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use caracal_api::{FelixConfigurationSpec, Object};
use caracal_convert::{Namespace, ServiceAccount};
use caracal_store::{Store, ensure};
use caracal_sys::NetNs;

use super::parallel::{self, block_on};
use super::progress::Progress;
use super::state::{Datastore, Lab, Node, Phase, Process, Settings, base};
use super::{apply, manifests, node, pods, services};
use crate::cluster::node::Encap;
use crate::cluster::{fabric, mountpoints};

/// Brings a lab up, or finishes or repairs one that is there.
pub(super) fn up(name: &str, settings: &Settings, files: &[PathBuf]) -> anyhow::Result<i32> {
    let started = Instant::now();
    // What cannot be read is said before anything is made.
    let documents = manifests::read(files)?;
    settings.encap.check()?;
    let mut lab = open(name, settings)?;
    let progress = Progress::new();
    make(&mut lab, &progress)?;
    if !documents.is_empty() {
        progress.step("applying manifests");
        apply::apply_documents(&mut lab, &documents, &progress)?;
    }
    lab.state.phase = Phase::Up;
    lab.save()?;
    drop(progress);
    println!(
        "lab {name:?} is up: {}; {:.1} s",
        describe(&lab),
        started.elapsed().as_secs_f64()
    );
    Ok(0)
}

fn describe(lab: &Lab) -> String {
    let s = &lab.state.settings;
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    format!(
        "{}, {}, {}, {}{}",
        count(lab.state.nodes.len(), "node"),
        count(lab.state.pods.len(), "pod"),
        match s.datastore {
            Datastore::Embedded => "embedded store",
            Datastore::Etcd => "etcd",
        },
        match s.encap {
            Encap::Vxlan => "VXLAN",
            Encap::Ipip => "IP-in-IP",
            Encap::None => "no encapsulation",
        },
        if s.dual_stack { ", dual stack" } else { "" }
    )
}

fn open(name: &str, settings: &Settings) -> anyhow::Result<Lab> {
    match Lab::find(name)? {
        None => {
            mountpoints::prepare(&base())?;
            Lab::create(name, settings.clone())
        }
        Some(lab) if lab.state.phase == Phase::Ending => {
            bail!("'lab down' was interrupted: run it again before 'lab up'")
        }
        Some(lab) if lab.state.settings != *settings => bail!(
            "it is there already with other settings ({}); give the same, or run 'lab down' first",
            lab.state.settings.flags()
        ),
        Some(lab) => {
            mountpoints::prepare(&base())?;
            Ok(lab)
        }
    }
}

/// Makes what is missing, in an order in which everything finds what it needs.
fn make(lab: &mut Lab, progress: &Progress) -> anyhow::Result<()> {
    progress.step("connecting nodes");
    let fabric = fabric::ensure_netns(&lab.fabric_netns())?;
    fabric::ensure(&fabric).context("the fabric")?;
    let connected = parallel::map(&lab.state.nodes, |node| {
        let netns = fabric::ensure_netns(&lab.site(node).netns)?;
        fabric::ensure_node(&fabric, &netns, node.index).with_context(|| node.name.clone())
    });
    parallel::all(connected)?;
    progress.step("starting the datastore");
    let store_process = ensure_datastore(lab, &fabric)?;
    let log = lab.log("datastore");
    let datastore = lab.datastore();
    block_on(async move { datastore.wait(store_process.id(), &log).await })?;
    progress.step("preparing nodes");
    prepare(lab)?;
    progress.step("starting agents");
    start_agents(lab)?;
    let waiting: Vec<String> = lab.state.pods.keys().cloned().collect();
    progress.step(format!("starting {} pods", waiting.len()));
    pods::ensure(lab, &waiting)?;
    services::reconcile(lab)
}

fn ensure_datastore(lab: &mut Lab, fabric: &NetNs) -> anyhow::Result<Process> {
    if let Some(running) = lab.state.datastore.filter(|p| p.is_alive()) {
        return Ok(running);
    }
    // An interrupted attempt may have started one that nobody wrote down, and it holds the files.
    crate::cluster::process::end(&caracal_sys::processes_in(fabric.id())?, true)?;
    let started = lab.datastore().start(fabric, &lab.log("datastore"))?.into();
    lab.state.datastore = Some(started);
    lab.save()?;
    Ok(started)
}

/// The nodes' objects, and what the cluster has before any manifest.
fn prepare(lab: &mut Lab) -> anyhow::Result<()> {
    let waiting: Vec<&Node> = lab.state.nodes.iter().filter(|n| !n.prepared).collect();
    if waiting.is_empty() {
        return Ok(());
    }
    parallel::all(parallel::map(waiting, |node| lab.site(node).prepare(lab.pools())))?;
    block_on(first_objects(
        lab.datastore().connect()?.as_ref(),
        lab.state.settings.encap,
    ))?;
    lab.state.nodes.iter_mut().for_each(|n| n.prepared = true);
    lab.save()
}

async fn first_objects(store: &dyn Store, encap: Encap) -> anyhow::Result<()> {
    let mut namespace = Namespace::default();
    namespace.metadata.name = "default".to_owned();
    for profile in profiles_of(&namespace) {
        ensure(store, profile).await?;
    }
    if encap == Encap::None {
        // No BIRD is here to tell nodes each other's blocks.
        let mut spec = FelixConfigurationSpec::default();
        spec.fields
            .insert("programClusterRoutes".to_owned(), "Enabled".into());
        ensure(store, Object::new("default", spec).into()).await?;
    }
    Ok(())
}

/// What Kubernetes' controllers make of a namespace: its profile, and that of the account every pod has by default.
pub(super) fn profiles_of(namespace: &Namespace) -> [caracal_api::Resource; 2] {
    let mut account = ServiceAccount::default();
    account.metadata.name = "default".to_owned();
    account.metadata.namespace = Some(namespace.metadata.name.clone());
    [
        caracal_convert::namespace(namespace).into(),
        caracal_convert::service_account(&account).into(),
    ]
}

fn start_agents(lab: &mut Lab) -> anyhow::Result<()> {
    let started = parallel::map(&lab.state.nodes, |node| node::spawn(lab, node));
    let mut outcome = Vec::new();
    for (node, started) in lab.state.nodes.iter_mut().zip(started) {
        outcome.push(started.map(|process| node.agent = Some(process)));
    }
    lab.save()?;
    parallel::all(outcome)?;
    parallel::all(parallel::map(&lab.state.nodes, |node| {
        node::await_agent(lab, node)
    }))
    .map(drop)
}
