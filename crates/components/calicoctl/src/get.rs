//! `get`.

use caracal_api::{Kind, Resource, ResourceKey, TRIAL_KINDS, YamlList, end_trial};
use caracal_store::{ListOptions, Store, StoreError};
use futures::StreamExt;

use crate::{
    cli::Get,
    failure::Failure,
    manifests::{self, Check},
    output::{Column, Format, Found, Surroundings, Table, chosen, columns},
    session::Session,
    target, trial,
};

/// Reads on their way at one time.
const IN_FLIGHT: usize = 64;

/// Shows all objects of a kind, named ones, or those of a file.
pub(crate) async fn get(session: &mut Session, args: &Get) -> Result<(), Failure> {
    let format = Format::parse(&args.output)?;
    let (mut found, errors) = match &args.kind {
        Some(word) => {
            let kind = target::kind(word)?;
            let store = session.store()?;
            if let (Some(sheet), true) = (streamed(kind, args, &format)?, args.names.is_empty()) {
                return stream(session, store.as_ref(), kind, args, sheet).await;
            }
            if args.names.is_empty() {
                list(store.as_ref(), kind, args).await?
            } else if args.all_namespaces && kind.namespaced() {
                return Err(Failure::Usage(
                    "names are of one namespace: give --namespace instead of --all-namespaces".to_owned(),
                ));
            } else {
                let namespace = args.how.namespace.as_deref();
                let names = args.names.iter();
                let keys = names.map(|n| (target::key(kind, namespace, n), None)).collect();
                read(store.as_ref(), keys).await?
            }
        }
        None => {
            let loaded = manifests::load(&mut session.io, &args.filename, &args.how, Check::Name)?;
            let keys = loaded
                .into_iter()
                .map(|l| (l.resource.key(), Some(l.origin.to_string())));
            let keys: Vec<_> = keys.collect();
            read(session.store()?.as_ref(), keys).await?
        }
    };
    let remarks = found.resources.iter().filter_map(remark);
    for remark in remarks.collect::<Vec<_>>() {
        session.io.complain(&remark);
    }
    if args.export {
        found.resources.iter_mut().for_each(strip);
    }
    let shown = show(session, args, &format, &found).await;
    // The program ends here; to free the pieces of ten thousand objects takes longer than to print them.
    std::mem::forget(found);
    shown?;
    refuse(&errors)
}

/// What is to be said of an object beside showing it.
fn remark(resource: &Resource) -> Option<String> {
    let may_be = TRIAL_KINDS.contains(&resource.kind());
    may_be.then(|| trial::remark(resource)).flatten()
}

/// What a list becomes that is made of its objects one after the other.
enum Sheet {
    Table(Table),
    Yaml(YamlList),
}

impl Sheet {
    fn add(&mut self, resource: &Resource) {
        match self {
            Self::Table(table) => table.add(resource, &Surroundings::default()),
            Self::Yaml(list) => list.add(resource),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Table(table) => table.text(),
            Self::Yaml(list) => list.finish(),
        }
    }
}

/// The empty sheet, where a list is made of its objects alone: each object is done with once it is added.
fn streamed(kind: Kind, args: &Get, format: &Format) -> Result<Option<Sheet>, Failure> {
    let columns = match format {
        Format::Columns(_) | Format::Table { .. } => columns_of(kind, args, format)?,
        Format::Yaml => return Ok(Some(Sheet::Yaml(YamlList::new(&format!("{kind}List"))))),
        Format::Json | Format::Template(_) => return Ok(None),
    };
    let alone = kind != Kind::Node || columns.iter().all(|c| c.heading() != "ASN");
    Ok(alone.then(|| Sheet::Table(Table::new(columns))))
}

/// Shows a list page by page.
async fn stream(
    session: &mut Session,
    store: &dyn Store,
    kind: Kind,
    args: &Get,
    mut sheet: Sheet,
) -> Result<(), Failure> {
    let mut options = list_options(kind, args);
    let (mut remarks, mut errors) = (Vec::new(), Vec::new());
    loop {
        let page = store.list(kind, &options).await?;
        for mut resource in page.items {
            remarks.extend(remark(&resource));
            if args.export {
                strip(&mut resource);
            }
            sheet.add(&resource);
        }
        errors.extend(page.malformed.iter().map(ToString::to_string));
        match page.next {
            Some(next) => options.continue_from = Some(next),
            None => break,
        }
    }
    for remark in remarks {
        session.io.complain(&remark);
    }
    session.print(&sheet.text())?;
    refuse(&errors)
}

fn refuse(errors: &[String]) -> Result<(), Failure> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Failure::Objects(manifests::listed(errors)))
}

fn list_options(kind: Kind, args: &Get) -> ListOptions {
    let namespace = args.how.namespace.as_deref().unwrap_or(target::DEFAULT_NAMESPACE);
    ListOptions {
        namespace: (kind.namespaced() && !args.all_namespaces).then(|| namespace.to_owned()),
        labels: args.selector.clone(),
        ..ListOptions::default()
    }
}

async fn list(store: &dyn Store, kind: Kind, args: &Get) -> Result<(Found, Vec<String>), Failure> {
    let page = store.list_all(kind, &list_options(kind, args)).await?;
    let found = Found {
        resources: page.items,
        list_of: Some(kind),
    };
    Ok((found, page.malformed.iter().map(ToString::to_string).collect()))
}

/// Reads named objects, in their order; the errors of those that cannot be read come beside.
async fn read(
    store: &dyn Store,
    keys: Vec<(ResourceKey, Option<String>)>,
) -> Result<(Found, Vec<String>), Failure> {
    let answers: Vec<_> = futures::stream::iter(keys)
        .map(|(key, origin)| async move { (store.get(&key).await, origin) })
        .buffered(IN_FLIGHT)
        .collect()
        .await;
    let mut found = Found {
        resources: Vec::new(),
        list_of: None,
    };
    let mut errors = Vec::new();
    for (answer, origin) in answers {
        match (answer, origin) {
            (Ok(resource), _) => found.resources.push(resource),
            // Without the datastore there is one thing to say, not one for each object.
            (Err(e @ (StoreError::Unavailable(_) | StoreError::Unauthorised(_))), _) => return Err(e.into()),
            (Err(e), Some(origin)) => errors.push(format!("{origin}: {e}")),
            (Err(e), None) => errors.push(e.to_string()),
        }
    }
    Ok((found, errors))
}

/// Takes out what belongs to this cluster only.
fn strip(resource: &mut Resource) {
    let meta = resource.metadata_mut();
    meta.uid = None;
    meta.resource_version = None;
    meta.generation = 0;
    meta.creation_timestamp = None;
    meta.deletion_timestamp = None;
    meta.owner_references.clear();
    end_trial(resource);
    if let Some(bare) = caracal_store::unreadable(&resource.key()) {
        resource.copy_status_from(&bare);
    }
}

fn columns_of(kind: Kind, args: &Get, format: &Format) -> Result<Vec<Column>, Failure> {
    match format {
        Format::Columns(wanted) => chosen(kind, wanted).map_err(Failure::Usage),
        other => Ok(columns(
            kind,
            *other == Format::Table { wide: true },
            args.all_namespaces,
        )),
    }
}

async fn show(session: &mut Session, args: &Get, format: &Format, found: &Found) -> Result<(), Failure> {
    if found.resources.is_empty() && found.list_of.is_none() {
        return Ok(());
    }
    match format {
        Format::Yaml => session.print(&found.yaml()),
        Format::Json => session.print(&found.json()?),
        Format::Template(template) => session.print(&found.rendered(template)?),
        Format::Columns(_) | Format::Table { .. } => {
            let mut parts = Vec::new();
            for (kind, resources) in tables(found) {
                parts.push((columns_of(kind, args, format)?, resources));
            }
            let around = surroundings(session, &parts).await?;
            for (columns, resources) in parts {
                let mut table = Table::new(columns);
                resources.iter().for_each(|r| table.add(r, &around));
                session.print(&table.text())?;
            }
            Ok(())
        }
    }
}

/// A table for each kind, in the order in which the kinds appear.
fn tables(found: &Found) -> Vec<(Kind, Vec<&Resource>)> {
    let mut tables: Vec<(Kind, Vec<&Resource>)> =
        found.list_of.map(|k| (k, Vec::new())).into_iter().collect();
    for resource in &found.resources {
        let kind = resource.kind();
        match tables.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, rows)) => rows.push(resource),
            None => tables.push((kind, vec![resource])),
        }
    }
    tables
}

/// Reads what tables show beside the objects themselves, if they do.
async fn surroundings(
    session: &mut Session,
    parts: &[(Vec<Column>, Vec<&Resource>)],
) -> Result<Surroundings, Failure> {
    let inherits = |r: &&Resource| match r {
        Resource::Node(o) => o.spec.bgp.as_ref().is_some_and(|b| b.as_number.is_none()),
        _ => false,
    };
    let needed = parts.iter().any(|(columns, resources)| {
        columns.iter().any(|c| c.heading() == "ASN") && resources.iter().any(inherits)
    });
    let mut around = Surroundings::default();
    if needed {
        let key = ResourceKey::global(Kind::BgpConfiguration, "default");
        match session.store()?.get(&key).await {
            Ok(Resource::BgpConfiguration(o)) => {
                around.as_number = o.spec.as_number.unwrap_or(around.as_number);
            }
            Ok(_) | Err(StoreError::NotFound(_)) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(around)
}
