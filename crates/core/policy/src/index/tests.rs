use caracal_selector::LabelSet;

use super::*;

fn content(voc: &mut Vocabulary, labels: &[(&str, &str)], profiles: &[&str]) -> Content<()> {
    Content {
        own: LabelSet::new(&mut voc.interner, labels.iter().copied()),
        frame: Frame {
            forced: LabelSet::default(),
            profiles: profiles.iter().map(|p| voc.word(p)).collect(),
            extra: (),
        },
    }
}

fn selector(text: &str) -> Selector {
    Selector::parse(text).unwrap()
}

fn matched(index: &LabelIndex<()>, id: u32) -> Vec<u32> {
    let mut classes: Vec<u32> = index.classes_of(id).collect();
    classes.sort_unstable();
    for (class, held) in index.classes.iter() {
        assert_eq!(held.matches(id), classes.contains(&class), "both sides agree");
    }
    classes
}

#[test]
fn every_plan_finds_what_matches_from_both_sides() {
    let texts = [
        "a == 'x'",
        "a in {'x', 'y'} && b == '1'",
        "has(b)",
        "a starts with 'x'",
        "!has(a)",
        "a != 'x'",
        "all()",
        "!all()",
        "a == 'x' && !has(a)",
        "c == 'handed down'",
        "a == 'x' || b == '1'",
        "projectcalico.org/orchestrator == 'k8s' && a == 'x'",
    ];
    type Thing = (&'static [(&'static str, &'static str)], &'static [&'static str]);
    let things: [Thing; 6] = [
        (&[("a", "x")], &[]),
        (
            &[("a", "x"), ("b", "1"), ("projectcalico.org/orchestrator", "k8s")],
            &[],
        ),
        (&[("b", "1")], &["p"]),
        (&[], &["p"]),
        (&[("c", "own")], &["p"]),
        (&[("a", "y"), ("b", "1")], &[]),
    ];
    let mut voc = Vocabulary::default();
    let p = voc.word("p");
    let labels = LabelSet::new(&mut voc.interner, [("c", "handed down")]);
    voc.set_labels(p, labels);
    // Selectors before classes, and the other way round.
    for selectors_first in [true, false] {
        let mut index = LabelIndex::new(false);
        let (mut classes, mut ids) = (Vec::new(), Vec::new());
        for step in [selectors_first, !selectors_first] {
            if step {
                ids = texts
                    .iter()
                    .map(|t| index.attach(&mut voc, &selector(t), 0))
                    .collect();
            } else {
                classes = things.iter().map(|(l, p)| content(&mut voc, l, p)).collect();
                classes = classes
                    .into_iter()
                    .map(|c| {
                        index.find_or_make(&voc, c);
                        content(&mut voc, &[], &[])
                    })
                    .collect();
            }
        }
        assert_eq!(classes.len(), things.len());
        for (text, id) in texts.iter().zip(ids) {
            let expected: Vec<u32> = (0u32..)
                .zip(&things)
                .filter(|(_, (labels, parents))| {
                    let mut all: std::collections::BTreeMap<String, String> = labels
                        .iter()
                        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                        .collect();
                    if !parents.is_empty() {
                        all.entry("c".into()).or_insert("handed down".into());
                    }
                    selector(text).matches_map(&all)
                })
                .map(|(n, _)| n)
                .collect();
            assert_eq!(matched(&index, id), expected, "{text}");
        }
    }
}

#[test]
fn a_change_of_handed_down_labels_turns_only_what_it_touches() {
    let mut voc = Vocabulary::default();
    let mut index = LabelIndex::new(true);
    let with = content(&mut voc, &[], &["p"]);
    let with = index.find_or_make(&voc, with);
    let without = content(&mut voc, &[], &[]);
    index.find_or_make(&voc, without);
    let red = index.attach(&mut voc, &selector("team == 'red'"), 1);
    let blue = index.attach(&mut voc, &selector("team == 'blue'"), 2);
    index.take_stirred();
    let p = voc.word("p");
    let mut paint = |index: &mut LabelIndex<()>, team: &str| {
        let children = index.lift(&voc, p);
        let labels = LabelSet::new(&mut voc.interner, [("team", team)]);
        voc.set_labels(p, labels);
        let turns = index.lower(&voc, &children);
        index.turn(&turns);
        turns
    };
    let turn = |selector, matches| Turn {
        class: with,
        selector,
        matches,
    };
    assert_eq!(paint(&mut index, "red"), [turn(red, true)]);
    assert_eq!(paint(&mut index, "blue"), [turn(red, false), turn(blue, true)]);
    assert_eq!(
        (matched(&index, red), matched(&index, blue)),
        (vec![], vec![with])
    );
    assert_eq!(index.take_stirred(), [red, blue].into_iter().collect());
}

#[test]
fn nothing_is_left_when_all_is_released() {
    let mut voc = Vocabulary::default();
    let mut index = LabelIndex::new(true);
    let id = index.attach(&mut voc, &selector("a in {'1', '2'}"), 1);
    assert_eq!(index.attach(&mut voc, &selector("a in {'2', '1'}"), 2), id);
    let c = content(&mut voc, &[("a", "1")], &["p"]);
    let class = index.find_or_make(&voc, c);
    let places: Vec<u32> = [10, 11, 12].map(|item| index.add_item(class, item)).into();
    assert_eq!(index.take_item(class, places[0]), Some(12));
    index.release(&voc, class);
    assert_eq!(matched(&index, id), [class], "it still has items");
    assert_eq!(index.take_item(class, 1), None);
    assert_eq!(index.take_item(class, 0), None);
    index.release(&voc, class);
    assert!(matched(&index, id).is_empty());
    assert!(!index.detach(id, 1));
    assert!(index.detach(id, 2));
    assert!(index.by_content.is_empty() && index.frames.is_empty() && index.by_selector.is_empty());
    assert_eq!((index.classes.len(), index.selectors.len()), (0, 0));
    assert_eq!(index.registry.candidates(&LabelSet::default()).count(), 0);
}
