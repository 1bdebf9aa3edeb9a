//! `label`.

use caracal_api::Resource;

use crate::{change::change, cli::Label, crud::written_by_hand, failure::Failure, session::Session, target};

/// Sets or removes a label of an object.
pub(crate) async fn label(session: &mut Session, args: &Label) -> Result<(), Failure> {
    let kind = written_by_hand(target::kind(&args.kind)?)?;
    let object = target::key(kind, args.namespace.as_deref(), &args.name);
    let (key, value) = match (args.label.split_once('='), args.remove) {
        (Some((key, value)), false) => (key, Some(value)),
        (None, true) => (args.label.as_str(), None),
        (Some((key, _)), true) => {
            return Err(Failure::Usage(format!(
                "--remove takes the label's key alone: {key}, not {}",
                args.label
            )));
        }
        (None, false) => {
            return Err(Failure::Usage(format!(
                "{:?} has no value: write {}=VALUE, or --remove to remove it",
                args.label, args.label
            )));
        }
    };
    let mut what = "";
    let store = session.store()?;
    change(store.as_ref(), &object, |stored| {
        let mut wanted: Resource = stored.clone();
        let labels = &mut wanted.metadata_mut().labels;
        let refuse = |why: String| Err(Failure::Usage(format!("{object}: {why}")));
        match (labels.get(key).cloned(), value) {
            (None, None) => return refuse(format!("it has no label {key}")),
            (Some(old), Some(_)) if !args.overwrite => {
                return refuse(format!(
                    "it has the label {key}={old} already; --overwrite changes it"
                ));
            }
            (Some(_), None) => {
                what = "removed label {key} from";
                labels.remove(key);
            }
            (old, Some(value)) => {
                what = if old.is_some() {
                    "updated label {key} on"
                } else {
                    "set label {key} on"
                };
                labels.insert(key.to_owned(), value.to_owned());
            }
        }
        Ok(wanted)
    })
    .await?;
    let what = what.replace("{key}", key);
    session.print(&format!("Successfully {what} {} {}\n", args.kind, args.name))
}
