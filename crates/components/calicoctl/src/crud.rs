//! `create`, `apply`, `replace` and `delete`.

mod execute;
mod report;

use caracal_api::{Kind, Origin, ResourceKey};
use caracal_store::{Preconditions, Store};

pub(crate) use self::execute::bring;
pub(crate) use self::execute::{Item, Work};
use crate::{
    cli::{Delete, Input},
    failure::Failure,
    manifests::{self, Check, Loaded},
    session::Session,
    target,
};

/// What is done with each object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Create {
        skip_exists: bool,
    },
    Apply,
    /// As `Apply`, to be confirmed within so many seconds.
    Try {
        seconds: i64,
    },
    /// Ends such a trial; what is written is what the object says.
    Confirm,
    Replace,
    /// As `Apply`, of an export, past the rules for users.
    Import,
    Delete {
        skip_not_exists: bool,
    },
}

impl Verb {
    fn now(self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Apply | Self::Try { .. } => "apply",
            Self::Confirm => "confirm",
            Self::Replace => "replace",
            Self::Import => "import",
            Self::Delete { .. } => "delete",
        }
    }

    fn past(self) -> &'static str {
        match self {
            Self::Create { .. } => "created",
            Self::Apply | Self::Try { .. } => "applied",
            Self::Confirm => "confirmed",
            Self::Replace => "replaced",
            Self::Import => "imported",
            Self::Delete { .. } => "deleted",
        }
    }
}

/// Writes all objects of the input.
pub(crate) async fn write(session: &mut Session, verb: Verb, input: &Input) -> Result<(), Failure> {
    let creates = matches!(verb, Verb::Create { .. });
    let check = if creates { Check::Whole } else { Check::Changed };
    let mut loaded = manifests::load(&mut session.io, &input.filename, &input.how, check)?;
    let store = session.store()?;
    if !creates {
        manifests::against_stored(store.as_ref(), &mut loaded).await?;
    }
    all(
        session,
        store.as_ref(),
        verb,
        writes(loaded),
        input.how.skip_empty,
    )
    .await
}

/// Writes what another datastore held, objects of IPAM's own included.
pub(crate) async fn import(session: &mut Session, loaded: Vec<Loaded>) -> Result<(), Failure> {
    let store = session.raw_store()?;
    all(session, store.as_ref(), Verb::Import, writes(loaded), true).await
}

pub(crate) fn writes(loaded: Vec<Loaded>) -> Vec<Item> {
    let items = loaded.into_iter().map(|Loaded { resource, origin }| Item {
        key: resource.key(),
        work: Work::Write(Box::new(resource)),
        origin: Some(origin),
    });
    items.collect()
}

/// Deletes named objects, or those of the input.
pub(crate) async fn delete(session: &mut Session, args: &Delete) -> Result<(), Failure> {
    let item = |key: ResourceKey, expect, origin: Option<Origin>| Item {
        key,
        work: Work::Delete(expect),
        origin,
    };
    let items = match &args.kind {
        Some(word) => {
            let kind = written_by_hand(target::kind(word)?)?;
            let key = |name: &String| target::key(kind, args.how.namespace.as_deref(), name);
            let names = args.names.iter();
            names
                .map(|n| item(key(n), Preconditions::default(), None))
                .collect()
        }
        None => manifests::load(&mut session.io, &args.filename, &args.how, Check::Name)?
            .into_iter()
            .map(|l| item(l.resource.key(), Preconditions::of(&l.resource), Some(l.origin)))
            .collect(),
    };
    let verb = Verb::Delete {
        skip_not_exists: args.skip_not_exists,
    };
    let store = session.store()?;
    all(session, store.as_ref(), verb, items, args.how.skip_empty).await
}

/// Refuses the kinds that IPAM keeps its own books in.
pub(crate) fn written_by_hand(kind: Kind) -> Result<Kind, Failure> {
    if kind.public() {
        return Ok(kind);
    }
    Err(Failure::Usage(format!(
        "{kind} belongs to IPAM and is not changed by hand; see 'calicoctl ipam'"
    )))
}

pub(crate) async fn all(
    session: &mut Session,
    store: &dyn Store,
    verb: Verb,
    items: Vec<Item>,
    may_be_empty: bool,
) -> Result<(), Failure> {
    if items.is_empty() {
        if may_be_empty {
            return session.print("No resources specified\n");
        }
        return Err(Failure::Input("no resources specified".to_owned()));
    }
    let subjects = items
        .iter()
        .map(|i| report::Subject {
            kind: i.key.kind,
            origin: i.origin.clone(),
        })
        .collect();
    let ends = execute::execute(store, verb, items, session.io.terminal).await;
    report::report(session, verb, &report::Results { subjects, ends })
}
