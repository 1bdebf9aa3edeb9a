//! Examples: what is in the language, what it means, and what is said of the rest.

use std::collections::{BTreeMap, HashSet};

use caracal_selector::{Restriction, Selector};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn parse(text: &str) -> Selector {
    match Selector::parse(text) {
        Ok(selector) => selector,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn canonical_forms() {
    let table = [
        ("", "all()"),
        (" \t ", "all()"),
        ("all( )", "all()"),
        ("global(\t)", "global()"),
        ("tier=='web'", r#"tier == "web""#),
        (r#"tier!="web""#, r#"tier != "web""#),
        (r#"motto == 'say "hi"'"#, r#"motto == 'say "hi"'"#),
        (r#"motto == "it's""#, r#"motto == "it's""#),
        ("has( team )", "has(team)"),
        ("! has(team)", "!has(team)"),
        ("!!has(team)", "has(team)"),
        ("!(!has(team))", "has(team)"),
        ("!!!has(team)", "!has(team)"),
        ("!tier == 'web'", r#"!tier == "web""#),
        ("zone in {'c', 'a', 'b', 'a'}", r#"zone in {"a", "b", "c"}"#),
        ("zone in{'c',}", r#"zone in {"c"}"#),
        ("zone in { }", "zone in {}"),
        ("zone not in {}", "zone not in {}"),
        ("zone notin {'x'}", r#"zone not in {"x"}"#),
        ("zone not\tin{'x'}", r#"zone not in {"x"}"#),
        ("host contains'db'", r#"host contains "db""#),
        ("host startswith 'db'", r#"host starts with "db""#),
        ("host starts \t with 'db'", r#"host starts with "db""#),
        ("host ends with ''", r#"host ends with """#),
        (
            "a == '1' && b == '2' && c == '3'",
            r#"(a == "1" && b == "2" && c == "3")"#,
        ),
        (
            "(a == '1' && b == '2') && c == '3'",
            r#"((a == "1" && b == "2") && c == "3")"#,
        ),
        ("has(a) || has(b) && has(c)", "(has(a) || (has(b) && has(c)))"),
        ("(has(a) || has(b)) && has(c)", "((has(a) || has(b)) && has(c))"),
        ("((((has(a)))))", "has(a)"),
        ("!(has(a) || has(b))", "!(has(a) || has(b))"),
        ("example.com/a_b-c.D == '1'", r#"example.com/a_b-c.D == "1""#),
        // Words of the language as labels.
        ("in in {'in'}", r#"in in {"in"}"#),
        ("not not in {'x'}", r#"not not in {"x"}"#),
        ("has == 'x' && has(has)", r#"(has == "x" && has(has))"#),
        ("contains contains 'x'", r#"contains contains "x""#),
        ("starts starts with 'x'", r#"starts starts with "x""#),
        ("ends ends with 'x'", r#"ends ends with "x""#),
        ("all == 'x' || global == 'y'", r#"(all == "x" || global == "y")"#),
        // A value may be any text.
        ("a == 'ü\n&& || }'", "a == \"ü\n&& || }\""),
    ];
    for (text, canonical) in table {
        let selector = parse(text);
        assert_eq!(selector.canonical(), canonical, "{text}");
        assert_eq!(parse(canonical), selector, "{text}");
    }
}

#[test]
fn meaning() {
    let web = labels(&[("tier", "web"), ("zone", "a1"), ("empty", "")]);
    let table = [
        ("", true),
        ("all()", true),
        ("!all()", false),
        ("global()", true),
        ("tier == 'web'", true),
        ("tier == 'we'", false),
        ("gone == ''", false),
        ("empty == ''", true),
        ("tier != 'web'", false),
        ("tier != 'db'", true),
        ("gone != 'db'", true),
        ("tier in {'db', 'web'}", true),
        ("tier in {}", false),
        ("tier not in {}", true),
        ("gone not in {}", true),
        ("gone not in {'x'}", true),
        ("tier not in {'x', 'web'}", false),
        ("zone contains '1'", true),
        ("zone starts with 'a'", true),
        ("zone starts with '1'", false),
        ("zone ends with '1'", true),
        ("zone ends with 'a'", false),
        ("gone contains ''", false),
        ("gone starts with ''", false),
        ("gone ends with ''", false),
        ("!gone contains ''", true),
        ("zone contains ''", true),
        ("has(empty) && !has(gone)", true),
        ("has(gone) || tier == 'web' && has(zone)", true),
        ("(has(gone) || tier == 'web') && has(gone)", false),
        ("!(has(gone) && tier == 'web')", true),
        // ! binds to the comparison behind it alone.
        ("!has(gone) && tier == 'db'", false),
    ];
    for (text, expected) in table {
        assert_eq!(parse(text).matches_map(&web), expected, "{text}");
    }
}

#[test]
fn errors_say_where_and_what() {
    let table: &[(&str, usize, &str)] = &[
        ("tier = 'web'", 5, "write =="),
        ("tier === 'web'", 7, "write =="),
        ("tier == web", 8, r#"put the value in quotes: "web""#),
        ("tier in {web}", 9, r#"put the value in quotes: "web""#),
        ("tier == 'web", 8, "closing quote"),
        ("tier == \"web'", 8, "put a second \" where the string ends"),
        ("'tier' == 'web'", 0, "label names are written without quotes"),
        ("has('tier')", 4, "label names are written without quotes"),
        ("has()", 4, "a label name inside has(…)"),
        ("has(tier", 8, "found the end of the text, expected ')'"),
        ("has (tier)", 4, "no space may stand between has and ("),
        ("all(tier)", 4, "right after all("),
        ("all (", 4, "no space may stand between all and ("),
        ("global(", 7, "right after global("),
        ("has(a) and has(b)", 7, "write &&"),
        ("has(a) or has(b)", 7, "write ||"),
        ("has(a) & has(b)", 7, "write &&"),
        ("has(a) | has(b)", 7, "write ||"),
        ("a == '1', b == '2'", 8, "write &&"),
        ("not has(a)", 4, "to negate, write !"),
        ("tier", 4, "has(tier)"),
        ("tier is 'web'", 5, r#"found the word "is", expected =="#),
        ("tier starts 'web'", 5, "starts with"),
        ("tier not 'web'", 5, "not in"),
        ("tier in ('web')", 8, "{\"a\", \"b\"}"),
        ("tier in 'web'", 8, "{\"a\", \"b\"}"),
        ("tier in {'a' 'b'}", 13, "expected ',' or '}'"),
        ("tier in {,}", 9, "found ','"),
        ("tier in {'a'", 12, "found the end of the text"),
        ("has(a) &&", 9, "found the end of the text"),
        ("&& has(a)", 0, "found '&&'"),
        ("has(a) has(b)", 7, "found has(b)"),
        ("(has(a)", 0, "add the missing ')'"),
        ("has(a))", 6, "never opened"),
        ("()", 1, "found ')'"),
        ("!", 1, "found the end of the text"),
        ("*", 0, "write all()"),
        ("has(a)\n&& has(b)", 6, "only spaces and tabs"),
        ("tier == “web”", 8, "plain quotes"),
        ("te@m == 'x'", 2, "label names are made of"),
        ("tür == 'x'", 1, "found 'ü'"),
    ];
    for (text, position, part) in table {
        let Err(error) = Selector::parse(text) else {
            panic!("{text} was taken")
        };
        let shown = error.to_string();
        assert_eq!(error.position(), *position, "{shown}");
        assert!(shown.contains(part), "{part:?} is not in:\n{shown}");
        assert!(!error.found().is_empty() && !error.expected().is_empty());
    }
}

#[test]
fn label_names_have_a_longest() {
    let longest = "x".repeat(512);
    assert_eq!(
        parse(&format!("has({longest})")).canonical(),
        format!("has({longest})")
    );
    for text in [format!("has({longest}x)"), format!("{longest}x == 'a'")] {
        let error = Selector::parse(&text).expect_err("one too many");
        assert!(error.to_string().contains("513 characters"), "{error}");
    }
}

#[test]
fn nesting_is_bounded_but_deep() {
    let deep = |open: &str, middle: &str, close: &str, n: usize| {
        format!("{}{middle}{}", open.repeat(n), close.repeat(n))
    };
    // All that fits into the 1024 characters that the API allows.
    assert_eq!(parse(&deep("(", "all()", ")", 509)).canonical(), "all()");
    let text = deep("(a==''||", "all()", ")", 113);
    assert!(text.len() <= 1024);
    assert_eq!(parse(parse(&text).canonical()), parse(&text));
    let text = deep("!(a==''&&b==''||", "!all()", ")", 250);
    assert_eq!(parse(parse(&text).canonical()), parse(&text));
    // Long but flat.
    let text = vec!["a in {'x', 'y'}"; 5000].join(" || ");
    assert_eq!(parse(&text).canonical().matches("||").count(), 4999);
    assert!(parse(&format!("{}all()", "!".repeat(100_000))).is_all());
    for text in [
        "(".repeat(100_000),
        "!(".repeat(100_000),
        "!".repeat(100_001),
        "has(".repeat(10_000),
        deep("(", "all()", ")", 2000),
        deep("(has(a)&&", "all()", ")", 1000),
        deep("(has(a)||has(a)&&", "all()", ")", 600),
    ] {
        let error = Selector::parse(&text).expect_err("too deep or incomplete");
        assert!(error.to_string().len() < 400, "{error}");
    }
}

#[test]
fn scoping_is_structure() {
    let namespace = Selector::eq("projectcalico.org/namespace", "prod");
    let scoped = parse("has(a) || has(b)").and(&namespace);
    assert_eq!(
        scoped.canonical(),
        r#"((has(a) || has(b)) && projectcalico.org/namespace == "prod")"#
    );

    let present = Selector::has("projectcalico.org/namespace");
    let everywhere = parse("env == 'x' || all()")
        .map_labels("pcns.")
        .replace_all_with(&present);
    assert_eq!(
        everywhere.canonical(),
        r#"(pcns.env == "x" || has(projectcalico.org/namespace))"#
    );
    assert_eq!(parse("!all()").replace_all_with(&present.not()), present);
    assert_eq!(
        parse("global()").replace_global_with(&present.not()).canonical(),
        "!has(projectcalico.org/namespace)"
    );
    // A value that reads like a function is a value.
    assert_eq!(
        parse("a == 'all()'").replace_all_with(&present),
        parse("a == 'all()'")
    );

    assert!(parse("").is_all() && !parse("all() && all()").is_all());
    assert!(parse("global()").is_global() && !parse("!global()").is_global());
    assert!(parse("has(a) && !(has(b) || global())").contains_global());
    assert!(!parse("has(a) && global == 'global()'").contains_global());
    assert!(Selector::all_of([]).is_all());
    assert_eq!(Selector::any_of([]), Selector::none());
    assert_eq!(Selector::any_of([namespace.clone()]), namespace);
    assert_eq!(
        Selector::any_of([
            Selector::has("a"),
            Selector::ne("b", "c"),
            Selector::in_set("d", ["f", "e"])
        ]),
        parse("has(a) || b != 'c' || d in {'e', 'f'}")
    );
}

#[test]
fn what_cannot_be_spelled_matches_nothing() {
    let both = "both ' and \"";
    for nothing in [
        Selector::has("a) || all("),
        Selector::has(""),
        Selector::eq("a b", "x"),
        Selector::eq("a", both),
        Selector::contains("a", both),
        Selector::starts_with("ä", "x"),
        Selector::ends_with("a", both),
        Selector::in_set("a\n", ["x"]),
        Selector::has(&"x".repeat(510)).map_labels("pcns."),
    ] {
        assert_eq!(nothing, Selector::none());
        assert!(nothing.restrictions().is_never());
    }
    assert!(Selector::ne("a b", "x").is_all());
    assert!(Selector::ne("a", both).is_all());
    assert!(Selector::not_in_set("a b", ["x"]).is_all());
    assert!(Selector::ne(&"x".repeat(510), "y").map_labels("pcns.").is_all());
    assert_eq!(Selector::in_set("a", [both, "x"]), parse("a in {'x'}"));
    assert_eq!(Selector::not_in_set("a", ["x", both]), parse("a not in {'x'}"));
}

#[test]
fn equal_means_same_canonical_form() {
    let texts = [
        "has(a)&&b=='c'",
        "(has(a) && b == \"c\")",
        "((has(a)) && ((b == 'c')))",
    ];
    let set: HashSet<Selector> = texts.iter().map(|text| parse(text)).collect();
    assert_eq!(set.len(), 1);
    assert_ne!(parse("has(a) && has(b)"), parse("has(b) && has(a)"));
    assert!(parse("a == 'a'") < parse("a == 'b'"));
    assert_eq!(format!("{:>8}|", parse("")), "   all()|");
}

#[test]
fn restrictions_by_example() {
    let one_of = |values: &[&str]| Some(Restriction::OneOf(values.iter().map(|v| (*v).into()).collect()));
    let (present, absent) = (Some(Restriction::Present), Some(Restriction::Absent));
    let table = [
        ("all()", None),
        ("a == 'x'", one_of(&["x"])),
        ("a != 'x'", None),
        ("!(a != 'x')", one_of(&["x"])),
        ("!a == 'x'", None),
        ("a in {'x', 'y'}", one_of(&["x", "y"])),
        ("a not in {'x'}", None),
        ("!a not in {'x', 'y'}", one_of(&["x", "y"])),
        ("has(a)", present.clone()),
        ("!has(a)", absent.clone()),
        ("a contains 'x'", present.clone()),
        ("a starts with ''", present.clone()),
        ("a ends with 'x'", present.clone()),
        ("!a ends with 'x'", None),
        ("a in {'x', 'y'} && a in {'y', 'z'}", one_of(&["y"])),
        ("has(a) && a == 'x' && b == 'y'", one_of(&["x"])),
        ("a == 'x' || a in {'y', 'z'}", one_of(&["x", "y", "z"])),
        ("a == 'x' || has(a)", present.clone()),
        ("a == 'x' || has(b)", None),
        ("a == 'x' || !has(a)", None),
        ("!has(a) || a == 'x'", None),
        ("!has(a) || has(a)", None),
        ("!has(a) || !has(a) && has(b)", absent.clone()),
        ("!(has(a) || has(b))", absent.clone()),
        ("!(!has(a) || has(b))", present.clone()),
        ("!(a != 'x' && a != 'y')", one_of(&["x", "y"])),
        ("a == 'x' || !all()", one_of(&["x"])),
        ("a == 'x' || (b == 'x' && !has(b))", one_of(&["x"])),
        ("a == 'x' || all()", None),
        (
            "(a == 'x' || a == 'y') && (b == 'x' || b == 'y')",
            one_of(&["x", "y"]),
        ),
    ];
    for (text, expected) in table {
        let restrictions = parse(text).restrictions();
        assert_eq!(restrictions.get("a"), expected.as_ref(), "{text}");
        assert!(!restrictions.is_never(), "{text}");
    }
    for text in [
        "!all()",
        "!global()",
        "a in {}",
        "!a not in {}",
        "a == 'x' && a == 'y'",
        "has(a) && !has(a)",
        "!(a != 'x' || b != 'y') && !has(a)",
        "a in {} || !all()",
    ] {
        let restrictions = parse(text).restrictions();
        assert!(restrictions.is_never(), "{text}");
        assert_eq!(restrictions.iter().count(), 0);
    }
}
