//! `validate`.

use caracal_api::Resource;

use crate::{
    cli::Input,
    failure::Failure,
    manifests::{self, Check},
    session::Session,
};

/// Judges manifests by themselves, without a datastore.
pub(crate) fn validate(session: &mut Session, input: &Input) -> Result<(), Failure> {
    let loaded = manifests::load(&mut session.io, &input.filename, &input.how, Check::Whole)?;
    let resources: Vec<&Resource> = loaded.iter().map(|l| &l.resource).collect();
    let kind = match resources.split_first() {
        Some((first, others)) if others.iter().all(|r| r.kind() == first.kind()) => {
            format!("'{}' ", first.kind())
        }
        _ => String::new(),
    };
    session.print(&format!(
        "Successfully validated {} {kind}resource(s)\n",
        resources.len()
    ))
}
