//! Cases of files.

use std::{
    borrow::Cow,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use caracal_policy_fuzz::{Case, Dataplane, Reference, check};
use serde_json::json;

use super::cli::print;

/// Judges the cases of a file, or of all files of a folder, one by one: whoever writes them may wait for each answer.
/// Whether all agreed.
pub(super) fn judge(
    path: &Path,
    dataplane: impl FnOnce() -> anyhow::Result<Box<dyn Dataplane>>,
) -> anyhow::Result<bool> {
    let of_folder = path.is_dir();
    let files = if of_folder {
        files_of(path)?
    } else {
        vec![path.to_owned()]
    };
    let mut dataplane = dataplane()?;
    let mut all = true;
    for file in &files {
        let lines: Box<dyn BufRead> = match file.to_str() {
            Some("-") => Box::new(BufReader::new(std::io::stdin())),
            _ => Box::new(BufReader::new(
                File::open(file).with_context(|| format!("opening {}", file.display()))?,
            )),
        };
        for (number, line) in lines.lines().enumerate() {
            let place = || format!("{}, line {}", file.display(), number + 1);
            let case: Case = serde_json::from_str(&line.with_context(place)?).with_context(place)?;
            let (allowed, difference) = judge_case(&case, dataplane.as_mut())
                .map_err(anyhow::Error::msg)
                .with_context(place)?;
            all &= difference.is_none();
            let mut value =
                json!({"allowed": allowed, "agreed": difference.is_none(), "difference": difference});
            if of_folder {
                value["case"] = place().into();
            }
            print(&format!("{value}\n"));
        }
    }
    Ok(all)
}

/// The files of a folder, by their names; what is in folders of it nobody asked for.
fn files_of(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let reading = || format!("reading the folder {}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!(
            "{}: there is no file in this folder; give one with cases, one JSON object a line",
            folder.display()
        );
    }
    files.sort();
    Ok(files)
}

fn judge_case(case: &Case, dataplane: &mut dyn Dataplane) -> Result<(Vec<bool>, Option<String>), String> {
    let (_, difference) = check(case, dataplane)?;
    let meant = match dataplane.refuses() {
        true => case.in_force(),
        false => Cow::Borrowed(case),
    };
    let reference = Reference::new(&meant, None);
    let allowed = case.trips.iter().map(|t| reference.allows(t)).collect();
    Ok((allowed, difference.map(|d| d.to_string())))
}

#[cfg(test)]
mod tests {
    use caracal_policy_fuzz::Model;

    use super::*;

    #[test]
    fn files_of_a_folder_come_by_their_names_and_folders_of_it_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let model = || -> anyhow::Result<Box<dyn Dataplane>> { Ok(Box::new(Model::default())) };
        let e = judge(folder.path(), model).unwrap_err();
        assert!(e.to_string().contains("there is no file in this folder"), "{e}");
        for (name, seed) in [("b", 2), ("a", 1), ("c", 3)] {
            let text = serde_json::to_string(&Case::random(seed, 5)).unwrap();
            fs::write(folder.path().join(name), format!("{text}\n{text}\n")).unwrap();
        }
        fs::create_dir(folder.path().join("0")).unwrap();
        let names = files_of(folder.path()).unwrap();
        let names: Vec<_> = names.iter().filter_map(|p| p.file_name()?.to_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert!(judge(folder.path(), model).unwrap());
        fs::write(folder.path().join("d"), "{}").unwrap();
        let e = format!("{:#}", judge(folder.path(), model).unwrap_err());
        assert!(e.contains("/d, line 1: "), "{e}");
    }
}
