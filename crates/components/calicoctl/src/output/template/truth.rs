//! What Go's own `text/template` makes of many templates, ours makes of them too. By day its answers are those that are
//! kept in `tests/go-template`, at night Go is asked again.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Stdio},
};

use caracal_testkit::{find_tool, needs};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Template;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Truth {
    data: Value,
    templates: Vec<Case>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    text: String,
    /// What Go makes of it.
    want: Option<String>,
    /// Go refuses it.
    #[serde(default)]
    error: bool,
    /// What ours makes of it where Go refuses, and why.
    ours: Option<(String, String)>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../tests/go-template")
}

fn truth() -> Truth {
    let text = std::fs::read_to_string(folder().join("truth.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn templates_mean_what_they_mean_in_go() {
    let truth = truth();
    assert!(truth.templates.len() > 150);
    let mut wrong = Vec::new();
    for case in &truth.templates {
        assert!(case.error != case.want.is_some(), "{case:?}");
        let ours = Template::parse(&case.text).and_then(|t| t.render(&truth.data));
        let right = match (&case.want, &case.ours, &ours) {
            (Some(want), _, Ok(text)) => want == text,
            (None, Some((want, _)), Ok(text)) => want == text,
            (None, None, Err(e)) => !e.is_empty(),
            _ => false,
        };
        if !right {
            wrong.push(format!(
                "{}\n  wanted {:?}\n  made   {ours:?}",
                case.text, case.want
            ));
        }
    }
    assert!(wrong.is_empty(), "{} wrong\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_is_kept_is_what_go_says() {
    if std::env::var_os("CARACAL_NIGHTLY").is_none() {
        return;
    }
    needs!("go");
    let truth = truth();
    let texts: Vec<&str> = truth.templates.iter().map(|c| c.text.as_str()).collect();
    let mut child = Command::new(find_tool("go").unwrap())
        .current_dir(folder())
        .args(["run", "."])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = json!({"data": truth.data, "templates": texts}).to_string();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers.len(), texts.len());
    for (case, answer) in truth.templates.iter().zip(answers) {
        assert_eq!(
            answer["want"].as_str(),
            case.want.as_deref(),
            "{}: {answer}",
            case.text
        );
    }
}
