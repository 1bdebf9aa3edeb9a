//! Tables in the docs that list a program's commands and options, each row with the tests of it.

use std::{fs, path::Path};

/// A command of a program (`datastore migrate lock`; empty for what all have in common) with its long options.
pub type Listed = (String, Vec<String>);

/// What is wrong with the tables of a page: commands and options that no row has, rows without a test, tests that there
/// are not. A row is `| commands | options | anything … | tests |`, with names in backticks; `every command` stands for
/// what all have in common. Tests are looked for in the `src` and `tests` of the crate at `dir`.
#[must_use]
pub fn problems_of_table(page: &str, commands: &[Listed], dir: &Path) -> Vec<String> {
    let rows: Vec<Row> = page.lines().filter_map(row).collect();
    let mut sources = String::new();
    for part in ["src", "tests"] {
        read_all(&dir.join(part), &mut sources);
    }
    let mut problems = Vec::new();
    for row in &rows {
        let name = format!("{:?} {:?}", row.commands, row.options);
        if row.tests.is_empty() {
            problems.push(format!("the row {name} names no test"));
        }
        for test in &row.tests {
            if !sources.contains(&format!("fn {test}(")) {
                problems.push(format!(
                    "the row {name} names the test {test}, which there is not"
                ));
            }
        }
    }
    for (command, options) in commands {
        let of = |r: &&Row| {
            r.commands.iter().any(|c| {
                c == if command.is_empty() {
                    "every command"
                } else {
                    command
                }
            })
        };
        if !rows.iter().any(|r| of(&r)) {
            problems.push(format!("no row is about {command:?}"));
        }
        for option in options {
            let has = |o: &String| {
                o.split(|c: char| !(c.is_alphanumeric() || c == '-'))
                    .any(|w| w == option)
            };
            if !rows.iter().filter(of).any(|r| r.options.iter().any(has)) {
                problems.push(format!("no row of {command:?} has {option}"));
            }
        }
    }
    problems
}

#[derive(Debug)]
struct Row {
    commands: Vec<String>,
    options: Vec<String>,
    tests: Vec<String>,
}

fn row(line: &str) -> Option<Row> {
    let line = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let line = line.replace("\\|", "\u{1}");
    let cells: Vec<&str> = line.split('|').collect();
    let [commands, options, .., tests] = cells.as_slice() else {
        return None;
    };
    let commands = ticked(commands);
    (cells.len() > 3 && !commands.is_empty()).then(|| Row {
        commands,
        options: ticked(options),
        tests: ticked(tests),
    })
}

fn ticked(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn read_all(dir: &Path, into: &mut String) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            read_all(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push_str(&fs::read_to_string(&path).unwrap_or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_table_lacks_is_told() {
        let page = "| `a`, `b c` | `--x`, `-y\\|--yes` | as ever | `what_a_table_lacks_is_told` |\n\
                    | `d` | | | `no_such_test` |\n| `e` | | | |\n";
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"));
        let of = |commands: &[(&str, &[&str])]| {
            let commands: Vec<Listed> = commands
                .iter()
                .map(|(c, o)| ((*c).to_owned(), o.iter().map(|o| (*o).to_owned()).collect()))
                .collect();
            problems_of_table(page, &commands, dir)
        };
        let rows = of(&[("a", &["--x", "--yes"]), ("b c", &[])]);
        assert!(
            rows.len() == 2 && rows[0].contains("no_such_test") && rows[1].contains("names no test"),
            "{rows:?}"
        );
        let all = of(&[("a", &["--y"]), ("f", &[])]);
        assert!(
            all[2].contains("no row of \"a\" has --y") && all[3].contains("about \"f\""),
            "{all:?}"
        );
    }
}
