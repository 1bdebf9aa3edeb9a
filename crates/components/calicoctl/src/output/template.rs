//! Go's templates: `range`, `if`, `with`, `define`, `template`, `block`, variables, pipelines, comparisons, `printf`, `len`,
//! `index` and the other functions, and Calico's `join`.
//!
//! **Invariant:** no template and no object makes it panic or run for ever.

mod eval;
mod format;
mod functions;
mod lex;
mod parse;

use serde_json::Value;

use self::parse::{Definitions, Node};

/// A template that was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template {
    nodes: Vec<Node>,
    definitions: Definitions,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// With the line and what is wrong there.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (nodes, definitions) = parse::parse(lex::lex(text)?)?;
        Ok(Self { nodes, definitions })
    }

    /// The text that the template makes of a value.
    ///
    /// # Errors
    /// With what cannot be done with the value.
    pub(crate) fn render(&self, data: &Value) -> Result<String, String> {
        eval::render(&self.nodes, &self.definitions, data)
    }
}

#[cfg(test)]
mod truth;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(text: &str) -> Result<String, String> {
        let object = |name: &str, order: f64| {
            json!({"kind": "GlobalNetworkPolicy", "metadata": {"name": name, "labels": {"a.b/c": "d"}},
                   "spec": {"order": order, "asNumber": 7, "types": ["Ingress", "Egress"], "on": true}})
        };
        let list = json!([{"kind": "GlobalNetworkPolicyList", "metadata": {}, "items": [object("x", 1.5), object("y", 2e6)]}]);
        Template::parse(text)?.render(&list)
    }

    #[test]
    fn fields_are_found_as_go_and_as_json_call_them() {
        for (text, want) in [
            (
                "{{range .}}{{range .Items}}{{.ObjectMeta.Name}},{{end}}{{end}}",
                "x,y,",
            ),
            (
                "{{range .Items}}{{.metadata.name}} {{.Name}} {{.Kind}};{{end}}",
                "x x GlobalNetworkPolicy;y y GlobalNetworkPolicy;",
            ),
            (
                "{{range .items}}{{.Spec.Order}} {{.Spec.ASNumber}} {{.Spec.On}}\n{{end}}",
                "1.5 7 true\n2e+06 7 true\n",
            ),
            ("{{(index .Items 0).Spec.Nope}}", "<no value>"),
            (
                "{{range .Items}}{{index .metadata.labels \"a.b/c\"}}{{end}}",
                "dd",
            ),
            (
                "{{range .Items}}{{.Spec.Types}}{{end}}",
                "[Ingress Egress][Ingress Egress]",
            ),
            ("{{(index .Items 0).metadata.labels}}", "map[a.b/c:d]"),
        ] {
            assert_eq!(of(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn control_variables_and_white_space() {
        for (text, want) in [
            (
                "{{range $i, $o := .Items}}{{if $i}}, {{end}}{{$i}}={{$o.Name}}{{end}}",
                "0=x, 1=y",
            ),
            (
                "{{range .Items}}{{if gt .Spec.Order 2}}big{{else if eq .Name \"x\"}}x{{else}}?{{end}} {{end}}",
                "x big ",
            ),
            ("{{with index .Items 1}}{{.Name}}{{else}}none{{end}}", "y"),
            ("{{with (index .Items 0).Nope}}{{.}}{{else}}none{{end}}", "none"),
            ("{{range (index .Items 0).Nope}}a{{else}}empty{{end}}", "empty"),
            ("a  {{- /* nothing */ -}}  b", "ab"),
            ("{{$n := 0}}{{range .Items}}{{$n = len .Name}}{{end}}{{$n}}", "1"),
            (
                "{{range .Items}}{{if and .Spec.On (not .Spec.Off)}}y{{end}}{{end}}",
                "yy",
            ),
            (
                "{{range .Items}}{{if eq .Name \"x\"}}{{continue}}{{end}}{{.Name}}{{end}}",
                "y",
            ),
            ("{{range .Items}}{{.Name}}{{break}}{{end}}", "x"),
            (
                "{{range $k, $v := (index .Items 0).metadata.labels}}{{$k}}:{{$v}}{{end}}",
                "a.b/c:d",
            ),
            (
                "{{or (index .Items 0).Nope \"z\"}}{{true}}{{print nil}}",
                "ztrue<nil>",
            ),
        ] {
            assert_eq!(of(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn functions_and_pipelines() {
        for (text, want) in [
            (
                "{{range .Items}}{{printf \"%-4s|%5.1f|%03d|%q|%v\" .Name .Spec.Order 7 .Name .Spec.Types}};{{end}}",
                "x   |  1.5|007|\"x\"|[Ingress Egress];y   |2000000.0|007|\"y\"|[Ingress Egress];",
            ),
            ("{{.Items | len}}{{len .Items | printf \"%d%%\"}}", "22%"),
            ("{{join (index .Items 0).Spec.Types \",\"}}", "Ingress,Egress"),
            (
                "{{`raw\\n`}}{{\"t\\tu\\\"\"}}{{print 1 2 \"a\" \"b\" 3}}{{println \"x\" 1}}",
                "raw\\nt\tu\"1 2ab3x 1\n",
            ),
            (
                "{{printf \"%d %s\" \"a\" 1}}{{printf \"%s\"}}{{printf \"x\" 1}}",
                "%!d(string=a) %!s(int=1)%!s(MISSING)x%!(EXTRA int=1)",
            ),
            (
                "{{eq 1 2 3 1}}{{ne 1 2}}{{lt \"a\" \"b\"}}{{le 2 1.5}}",
                "truetruetruefalse",
            ),
            ("{{slice \"abcdef\" 1 3}}", "bc"),
        ] {
            assert_eq!(of(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn templates_call_templates() {
        for (text, want) in [
            (
                "{{define \"row\"}}{{.Name}}:{{$.Kind}};{{end}}{{range .Items}}{{template \"row\" .}}{{end}}",
                "x:GlobalNetworkPolicy;y:GlobalNetworkPolicy;",
            ),
            (
                "{{range .Items}}{{block \"b\" .Name}}<{{.}}>{{end}}{{end}}{{template \"b\" 3}}",
                "<x><y><3>",
            ),
            (
                "{{define \"a\"}}1{{end}}{{define \"a\"}}2{{end}}{{template \"a\"}}",
                "2",
            ),
            (
                "{{$n := 1}}{{define \"a\"}}{{$n := 2}}{{$n}}{{end}}{{template \"a\" .}}{{$n}}",
                "21",
            ),
            (
                "{{define \"down\"}}{{if .}}{{len .}}{{template \"down\" (slice . 1)}}{{end}}{{end}}{{template \"down\" \"abc\"}}",
                "321",
            ),
            (
                "{{html \"<a b='c'>&\"}} {{urlquery \"a b/ü\"}} {{js \"it's <\"}}",
                "&lt;a b=&#39;c&#39;&gt;&amp; a+b%2F%C3%BC it\\'s \\u003C",
            ),
        ] {
            assert_eq!(of(text).as_deref(), Ok(want), "{text}");
        }
        let round = "{{define \"a\"}}{{template \"a\" .}}{{template \"a\" .}}{{end}}{{template \"a\" .}}";
        assert!(of(round).unwrap_err().contains("back to itself"));
        let wide = "{{define \"a\"}}{{if .}}{{template \"a\" (slice . 1)}}{{template \"a\" (slice . 1)}}{{end}}{{end}}{{template \"a\" \"0123456789012345678901234567890123456789\"}}";
        assert!(of(wide).unwrap_err().contains("back to itself"));
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        for (text, word) in [
            ("a\n{{range .}}", "no end"),
            ("{{end}}", "end"),
            ("a\n\n{{.x", "line 3"),
            ("{{frob .}}", "frob"),
            ("{{$x}}", "$x"),
            ("{{\"abc}}", "quote"),
            ("{{if}}a{{end}}", "if"),
            ("{{else}}", "else"),
            ("{{template \"x\"}}", "no template \"x\""),
            ("{{template x}}", "quotes"),
            ("{{define \"x\"}}a", "no end"),
            ("{{define \"x\"}}{{break}}{{end}}", "break"),
            ("{{if 1}}{{define \"x\"}}{{end}}{{end}}", "define"),
            ("{{block \"x\"}}{{end}}", "block"),
            ("{{break}}", "break"),
            ("{{range .Items}}{{.Name.First}}{{end}}", "First"),
            ("{{index .Items 7}}", "7"),
            ("{{len 3}}", "len"),
            ("{{lt .Items 3}}", "lt"),
            ("{{printf 3}}", "printf"),
            ("{{.x 3}}", "arguments"),
            ("{{call .Items}}", "no function"),
            ("{{range .Items}}{{call .nope}}{{end}}", "nothing to call"),
            ("{{nil}}", "nil"),
            ("{{eq .Items 1}}", "eq"),
            ("{{range 99999999999}}{{end}}", "for ever"),
            ("{{printf \"%999999999d\" 1}}", "width"),
        ] {
            let e = of(text).unwrap_err();
            assert!(e.contains(word), "{text}: {e}");
        }
        let deep = format!("{{{{{}1{}}}}}", "(".repeat(5_000), ")".repeat(5_000));
        assert!(of(&deep).unwrap_err().contains("nested"));
        let deep = "{{if 1}}".repeat(5_000) + &"{{end}}".repeat(5_000);
        assert!(of(&deep).unwrap_err().contains("nested"));
    }
}
