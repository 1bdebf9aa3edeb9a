//! `patch`.

mod json;
mod merge;

use caracal_api::{ManifestObject, Resource, parse_value};
use serde_json::Value;

use crate::{
    change::change,
    cli::{Patch, PatchType},
    crud::written_by_hand,
    failure::Failure,
    session::Session,
    target,
};

/// Changes fields of one object.
pub(crate) async fn patch(session: &mut Session, args: &Patch) -> Result<(), Failure> {
    let kind = written_by_hand(target::kind(&args.kind)?)?;
    let key = target::key(kind, args.namespace.as_deref(), &args.name);
    let patch = read(&args.patch)?;
    let store = session.store()?;
    change(store.as_ref(), &key, |stored| {
        patched(stored, &patch, args.r#type)
    })
    .await?;
    session.print(&format!("Successfully patched 1 '{kind}' resource\n"))
}

fn read(text: &str) -> Result<Value, Failure> {
    let json: Result<Value, _> = serde_json::from_str(text);
    // The error for JSON is the better one where JSON was meant.
    let meant_json = text.trim_start().starts_with(['{', '[']);
    json.or_else(|e| match serde_saphyr::from_str(text) {
        Ok(value) => Ok(value),
        Err(_) if meant_json => Err(e.to_string()),
        Err(yaml) => Err(yaml.to_string()),
    })
    .map_err(|e| Failure::Usage(format!("--patch is neither JSON nor YAML: {e}")))
}

fn patched(stored: &Resource, patch: &Value, how: PatchType) -> Result<Resource, Failure> {
    let key = stored.key();
    let refuse = |e: String| Failure::Usage(format!("{key}: {e}"));
    let mut value = stored.to_value();
    match how {
        PatchType::Json => json::apply(&mut value, patch).map_err(refuse)?,
        PatchType::Merge | PatchType::Strategic if !patch.is_object() => {
            return Err(refuse(
                "--patch must be an object with the fields to change".to_owned(),
            ));
        }
        PatchType::Merge => merge::merge(&mut value, patch),
        PatchType::Strategic => merge::strategic(&mut value, patch).map_err(refuse)?,
    }
    match parse_value("the patched object", &value) {
        Ok(ManifestObject::Calico(wanted)) if wanted.key() == key => Ok(wanted),
        Ok(_) => Err(refuse(
            "kind, name and namespace of an object cannot be changed".to_owned(),
        )),
        Err(e) => Err(Failure::Input(e.to_string())),
    }
}
