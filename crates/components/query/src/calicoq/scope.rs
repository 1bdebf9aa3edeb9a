//! What the selectors of a policy and its rules mean where they are written, as text that can be read and evaluated.

use caracal_api::{EntityRule, ServiceAccountMatch};
use caracal_convert::{
    LABEL_NAMESPACE, LABEL_SERVICE_ACCOUNT, NAMESPACE_LABEL_PREFIX as NAMESPACE_PREFIX,
    SERVICE_ACCOUNT_LABEL_PREFIX as SERVICE_ACCOUNT_PREFIX,
};
use caracal_selector::Selector;

use crate::failure::Failure;

pub(super) fn parse(text: &str) -> Result<Selector, Failure> {
    Selector::parse(text).map_err(|e| Failure::input(format!("selector {text:?}: {e}")))
}

fn of_namespace(namespace: &str) -> String {
    format!("{LABEL_NAMESPACE} == '{namespace}'")
}

/// A selector of namespaces or service accounts as one of endpoints.
fn inherited(text: &str, prefix: &str, label: &str) -> String {
    match Selector::parse(text) {
        Ok(s) if s.is_global() => format!("!has({label})"),
        Ok(s) => {
            let mapped = s.map_labels(prefix);
            mapped
                .replace_all_with(&Selector::has(label))
                .canonical()
                .to_owned()
        }
        // It is shown as written, and matches nothing.
        Err(_) => text.to_owned(),
    }
}

/// The endpoints that a policy applies to; `namespace` is empty for global policies.
pub(super) fn of_policy(namespace: &str, selector: &str, of_namespaces: &str, of_accounts: &str) -> String {
    let own = if selector.is_empty() { "all()" } else { selector };
    let mut text = own.to_owned();
    let mut add = |more: String| text = format!("({text}) && {more}");
    if !of_namespaces.is_empty() {
        add(inherited(of_namespaces, NAMESPACE_PREFIX, LABEL_NAMESPACE));
    }
    if !of_accounts.is_empty() {
        add(inherited(
            of_accounts,
            SERVICE_ACCOUNT_PREFIX,
            LABEL_SERVICE_ACCOUNT,
        ));
    }
    if !namespace.is_empty() {
        add(of_namespace(namespace));
    }
    text
}

/// What one side of a rule selects, and what it excludes, where it has selectors.
pub(super) fn of_side(namespace: &str, entity: &EntityRule) -> (Option<String>, Option<String>) {
    let mut scope = Vec::new();
    if !entity.namespace_selector.is_empty() {
        scope.push(inherited(
            &entity.namespace_selector,
            NAMESPACE_PREFIX,
            LABEL_NAMESPACE,
        ));
    }
    let accounts = entity
        .service_accounts
        .as_ref()
        .map(of_accounts)
        .unwrap_or_default();
    let has_selector = !entity.selector.is_empty() || !accounts.is_empty();
    if scope.is_empty() && !namespace.is_empty() && (has_selector || !entity.not_selector.is_empty()) {
        scope.push(of_namespace(namespace));
    }
    let parts = |own: &str, accounts: &[String]| {
        let own = Some(own).filter(|o| !o.is_empty()).map(str::to_owned);
        let all: Vec<String> = scope
            .iter()
            .cloned()
            .chain(accounts.iter().cloned())
            .chain(own)
            .collect();
        match all.as_slice() {
            [one] => one.clone(),
            many => many
                .iter()
                .map(|p| format!("({p})"))
                .collect::<Vec<_>>()
                .join(" && "),
        }
    };
    let positive =
        (has_selector || !entity.namespace_selector.is_empty()).then(|| parts(&entity.selector, &accounts));
    let negative = (!entity.not_selector.is_empty()).then(|| parts(&entity.not_selector, &[]));
    (positive, negative)
}

fn of_accounts(accounts: &ServiceAccountMatch) -> Vec<String> {
    let mut parts = Vec::new();
    if !accounts.names.is_empty() {
        let names: Vec<String> = accounts.names.iter().map(|n| format!("'{n}'")).collect();
        parts.push(format!("{LABEL_SERVICE_ACCOUNT} in {{{}}}", names.join(", ")));
    }
    if !accounts.selector.is_empty() {
        parts.push(inherited(
            &accounts.selector,
            SERVICE_ACCOUNT_PREFIX,
            LABEL_SERVICE_ACCOUNT,
        ));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_is_written_as_calico_writes_it() {
        assert_eq!(of_policy("", "role == 'a'", "", ""), "role == 'a'");
        assert_eq!(
            of_policy("ns", "a == 'b'", "", ""),
            "(a == 'b') && projectcalico.org/namespace == 'ns'"
        );
        let side = EntityRule {
            selector: "a == 'b'".into(),
            ..EntityRule::default()
        };
        let (positive, negative) = of_side("ns", &side);
        assert_eq!(
            positive.as_deref(),
            Some("(projectcalico.org/namespace == 'ns') && (a == 'b')")
        );
        assert_eq!(negative, None);
        assert_eq!(of_side("", &side).0.as_deref(), Some("a == 'b'"));
        assert_eq!(of_side("ns", &EntityRule::default()), (None, None));
    }

    #[test]
    fn namespaces_and_accounts_are_labels_of_endpoints() {
        let side = EntityRule {
            namespace_selector: "team == 'x'".into(),
            not_selector: "a == 'b'".into(),
            ..EntityRule::default()
        };
        let (positive, negative) = of_side("ns", &side);
        assert!(positive.unwrap().contains("pcns.team"));
        let negative = negative.unwrap();
        assert!(
            negative.contains("pcns.team") && negative.contains("a == 'b'"),
            "{negative}"
        );
        let global = EntityRule {
            namespace_selector: "global()".into(),
            ..EntityRule::default()
        };
        assert_eq!(
            of_side("ns", &global).0.as_deref(),
            Some("!has(projectcalico.org/namespace)")
        );
        for text in [
            of_policy("ns", "", "all()", "role == 'r'"),
            of_side("ns", &side).0.unwrap(),
        ] {
            assert!(Selector::parse(&text).is_ok(), "{text}");
        }
    }
}
