//! Completions: what bash, zsh and fish make of them, asked of the shells.

use std::{
    fs,
    process::{Command, Stdio},
};

use caracal_testkit::needs;

use super::PROGRAM;

/// What zsh completes: a terminal of its own, into which each line is typed with a tab and the return key behind it. The
/// program is replaced by a function that prints what it is called with.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "PS1=; autoload -Uz compinit; compinit -u -D; source $1; function $2 { print -r -- \"GOT<\$*>\" }; print READY\$((1+1))"
zpty -r z seen '*READY2*'
for line in "$@[3,-1]"; do
  zpty -w -n z "$2 $line"$'\t\r'
  zpty -r z seen '*GOT<*>*'
  print -r -- "${${seen##*GOT<}%%>*}"
done
zpty -d z
"#;

/// What bash completes: the last word of the line, as it asks a program's function.
const BASH: &str = r#"
source "$1"
for line in "${@:3}"; do
  COMP_WORDS=("$2" $line)
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  COMPREPLY=()
  _$2 "$2" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
  echo "${line% *}" "${COMPREPLY[@]}"
done
"#;

/// What fish completes: the candidates, without their descriptions.
const FISH: &str = r#"
source $argv[1]
for line in $argv[3..]
  set words (string split ' ' -- $line)
  echo $words[1..-2] (complete -C "$argv[2] $line" | string split -f 1 \t)
end
"#;

#[test]
fn completions_are_what_shells_complete() {
    needs!("bash", "zsh", "fish");
    // Of each program: what is typed, and what it becomes.
    let programs = [
        (
            "ctl",
            "calicoctl",
            &[
                ("datastore migrate un", "datastore migrate unlock"),
                ("get globalnetworkp", "get globalnetworkpolicies"),
                ("create --skip-ex", "create --skip-exists"),
                ("ipam conf", "ipam configure"),
                ("patch -t str", "patch -t strategic"),
                ("delete ippo", "delete ippools"),
            ][..],
        ),
        (
            "query",
            "calicoq",
            &[
                ("host --hide-r", "host --hide-rule-matches"),
                ("host -o js", "host -o json"),
                ("eval --con", "eval --config"),
            ],
        ),
    ];
    let dir = tempfile::tempdir().expect("a directory");
    for (command, name, lines) in programs {
        for (shell, options, check, code) in [
            ("bash", &["--norc", "--noprofile"][..], "-n", BASH),
            ("zsh", &["-f"], "-n", ZSH),
            ("fish", &["--no-config"], "--no-execute", FISH),
        ] {
            let output = Command::new(PROGRAM)
                .args([command, "completion", shell])
                .output();
            let script = output.expect("the program starts").stdout;
            let file = dir.path().join(format!("{name}.{shell}"));
            let asking = dir.path().join(shell);
            fs::write(&file, script).expect("a file");
            fs::write(&asking, code).expect("a file");
            let syntax = Command::new(shell).arg(check).arg(&file).output();
            let syntax = syntax.expect("the shell starts");
            assert!(
                syntax.status.success() && syntax.stderr.is_empty(),
                "{name}, {shell}: {syntax:?}"
            );
            let output = Command::new("timeout")
                .args(["60", shell])
                .args(options)
                .args([asking.as_os_str(), file.as_os_str(), name.as_ref()])
                .args(lines.iter().map(|(typed, _)| typed))
                .env("HOME", dir.path())
                .stdin(Stdio::null())
                .output()
                .expect("the shell starts");
            let completed = String::from_utf8_lossy(&output.stdout).into_owned();
            let completed: Vec<&str> = completed.lines().map(str::trim_end).collect();
            let wanted: Vec<&str> = lines.iter().map(|(_, wanted)| *wanted).collect();
            assert_eq!(completed, wanted, "{name}, {shell}: {output:?}");
        }
    }
}
