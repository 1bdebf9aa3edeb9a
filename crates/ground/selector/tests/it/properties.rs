//! Properties of random selectors and random text.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

use caracal_selector::{Interner, LabelSet, Restriction, Selector};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

/// Few names and values, so that selectors and label sets meet.
const NAMES: &[&str] = &["a", "in", "c.d/e"];
const VALUES: &[&str] = &["", "x", "xy", "yx", "say \"x\"", "it's", "ü"];

fn name() -> impl Strategy<Value = &'static str> {
    select(NAMES)
}

fn value() -> impl Strategy<Value = &'static str> {
    select(VALUES)
}

fn leaf() -> impl Strategy<Value = Selector> {
    prop_oneof![
        1 => Just(Selector::all()),
        1 => Just(Selector::global()),
        3 => name().prop_map(Selector::has),
        3 => name().prop_map(|n| Selector::has(n).not()),
        3 => (name(), value()).prop_map(|(n, v)| Selector::eq(n, v)),
        3 => (name(), value()).prop_map(|(n, v)| Selector::ne(n, v)),
        3 => (name(), vec(value(), 0..4)).prop_map(|(n, v)| Selector::in_set(n, v)),
        3 => (name(), vec(value(), 0..4)).prop_map(|(n, v)| Selector::not_in_set(n, v)),
        1 => (name(), value()).prop_map(|(n, v)| Selector::contains(n, v)),
        1 => (name(), value()).prop_map(|(n, v)| Selector::starts_with(n, v)),
        1 => (name(), value()).prop_map(|(n, v)| Selector::ends_with(n, v)),
    ]
}

fn selector() -> impl Strategy<Value = Selector> {
    leaf().prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|s| s.not()),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.and(&b)),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| a.or(&b)),
            vec(inner.clone(), 0..4).prop_map(Selector::all_of),
            vec(inner, 0..4).prop_map(Selector::any_of),
        ]
    })
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    btree_map(
        name().prop_map(str::to_owned),
        value().prop_map(str::to_owned),
        0..NAMES.len(),
    )
}

/// Pieces of the language in any order, which get further into the parser than plain noise.
fn scraps() -> impl Strategy<Value = String> {
    let scraps: &[&str] = &[
        "a",
        "in",
        "not",
        "notin",
        "has(",
        "has(a)",
        "all()",
        "all(",
        "global()",
        "contains",
        "starts",
        "with",
        "ends",
        "==",
        "!=",
        "=",
        "!",
        "&&",
        "||",
        "&",
        "(",
        ")",
        "{",
        "}",
        ",",
        "'x'",
        "\"y\"",
        "'",
        "\"",
        " ",
        "\t",
        "\n",
        "ü",
        "a == 'x'",
        "a in {'x'}",
    ];
    vec(select(scraps), 0..20).prop_map(|parts| parts.concat())
}

fn check_text(text: &str) -> Result<(), TestCaseError> {
    match Selector::parse(text) {
        Ok(selector) => {
            let again = Selector::parse(selector.canonical());
            prop_assert_eq!(again.as_ref().map(Selector::canonical), Ok(selector.canonical()));
        }
        Err(error) => {
            prop_assert!(text.is_char_boundary(error.position()));
            prop_assert_eq!(error.to_string().lines().count(), 3, "{}", error);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn canonical_form_round_trips(selector in selector()) {
        let again = Selector::parse(selector.canonical());
        prop_assert_eq!(again.as_ref(), Ok(&selector));
        let hasher = RandomState::new();
        prop_assert_eq!(again.map(|s| hasher.hash_one(s)), Ok(hasher.hash_one(&selector)));
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        check_text(&text)?;
    }

    #[test]
    fn any_scraps_are_read_or_refused(text in scraps()) {
        check_text(&text)?;
    }

    #[test]
    fn both_evaluations_agree(selector in selector(), own in labels(), upper in labels(), lower in labels()) {
        let mut interner = Interner::new();
        let compiled = selector.compile(&mut interner);
        let [set, over, under] = [&own, &upper, &lower].map(|labels| LabelSet::new(&mut interner, labels));
        prop_assert_eq!(compiled.matches(&set, &interner), selector.matches_map(&own));

        let mut merged = lower;
        merged.extend(upper);
        merged.extend(own);
        let layers = (set, [over, under]);
        prop_assert_eq!(compiled.matches(&(&layers.0, layers.1.as_slice()), &interner), selector.matches_map(&merged));
    }

    /// Letting go of what is not in use changes no result.
    #[test]
    fn retained_symbols_keep_their_meaning(selector in selector(), old in labels(), own in labels(), new in labels()) {
        let mut interner = Interner::new();
        LabelSet::new(&mut interner, &old);
        let compiled = selector.compile(&mut interner);
        let set = LabelSet::new(&mut interner, &own);
        interner.retain(set.symbols().chain(compiled.symbols()));
        let late = LabelSet::new(&mut interner, &new);
        prop_assert_eq!(compiled.matches(&set, &interner), selector.matches_map(&own));
        prop_assert_eq!(compiled.matches(&late, &interner), selector.matches_map(&new));
    }

    #[test]
    fn combinators_mean_what_they_say(a in selector(), b in selector(), own in labels()) {
        let (left, right) = (a.matches_map(&own), b.matches_map(&own));
        prop_assert_eq!(a.and(&b).matches_map(&own), left && right);
        prop_assert_eq!(a.or(&b).matches_map(&own), left || right);
        prop_assert_eq!(a.not().matches_map(&own), !left);
        let prefixed = own.iter().map(|(key, value)| (format!("pcns.{key}"), value.clone())).collect();
        prop_assert_eq!(a.map_labels("pcns.").matches_map(&prefixed), left);
        prop_assert_eq!(a.replace_all_with(&Selector::all()), a);
    }

    #[test]
    fn matches_satisfy_the_restrictions(selector in selector(), own in labels()) {
        let restrictions = selector.restrictions();
        if selector.matches_map(&own) {
            prop_assert!(restrictions.admits(|key| own.get(key).map(String::as_str)), "{restrictions:?}");
            prop_assert!(!restrictions.is_never());
        }
        // A demand that nothing can meet would send an index astray.
        for (_, restriction) in restrictions.iter() {
            if let Restriction::OneOf(values) = restriction {
                prop_assert!(!values.is_empty());
            }
        }
    }
}
