//! Regenerates the protobuf code that is committed under `crates/*/*/src/generated/`.
//!
//! A clean checkout builds without this tool and without `protoc`; run it only after a change of a `.proto` file:
//!
//! ```text
//! cargo run --manifest-path xtask/protogen/Cargo.toml            # write
//! cargo run --manifest-path xtask/protogen/Cargo.toml -- --check # only compare; exit code 1 when something is stale
//! ```
//!
//! It is its own workspace, so that its dependencies stay out of the project's lock file and of CI's default build.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

/// One crate with protos of its own.
struct Target {
    /// The crate's folder, from the repository's root. Protos are in `proto/`, output goes to `src/generated/`.
    folder: &'static str,
    /// The files to compile, in `proto/`.
    protos: &'static [&'static str],
    /// Proto paths whose `bytes` fields become `Bytes` instead of `Vec<u8>`.
    bytes: &'static [&'static str],
}

const TARGETS: &[Target] = &[
    Target {
        folder: "crates/model/wire",
        protos: &["rpc.proto"],
        bytes: &["."],
    },
    Target {
        folder: "crates/model/agent-api",
        protos: &["agent.proto"],
        bytes: &[],
    },
];

fn main() -> ExitCode {
    let check = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => {
            eprintln!("protogen: unknown argument {other:?}; allowed: --check");
            return ExitCode::from(2);
        }
    };
    match TARGETS
        .iter()
        .try_fold(true, |fresh, target| Ok(generate(target, check)? && fresh))
    {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("protogen: generated code is stale; run this tool without --check and commit");
            ExitCode::FAILURE
        }
        Err(error) => {
            let error: anyhow::Error = error;
            eprintln!("protogen: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Generates one target; with `check` only says whether what is committed equals what would be written.
fn generate(target: &Target, check: bool) -> Result<bool> {
    let folder = root().join(target.folder);
    let include = folder.join("proto");
    if let Some(missing) = target.protos.iter().find(|p| !include.join(p).exists()) {
        eprintln!("protogen: {}: {missing} does not exist, skipped", target.folder);
        return Ok(true);
    }
    let set =
        protox::compile(target.protos, [&include]).with_context(|| format!("compiling {}", target.folder))?;
    let scratch = std::env::temp_dir().join(format!("protogen-{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("creating {}", scratch.display()))?;
    let mut config = prost_build::Config::new();
    config.bytes(target.bytes);
    let made = tonic_prost_build::configure()
        .out_dir(&scratch)
        .emit_rerun_if_changed(false)
        .compile_fds_with_config(set, config)
        .with_context(|| format!("generating {}", target.folder))
        .and_then(|()| publish(&scratch, &folder.join("src/generated"), check));
    fs::remove_dir_all(&scratch).with_context(|| format!("removing {}", scratch.display()))?;
    made
}

/// Compares the files of `from` with those of `to` and copies what differs unless `check`.
fn publish(from: &Path, to: &Path, check: bool) -> Result<bool> {
    let mut fresh = true;
    let mut files = 0;
    for entry in fs::read_dir(from).with_context(|| format!("reading {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let new = format!(
            "// Written by xtask/protogen; do not edit.\n{}",
            fs::read_to_string(entry.path())?
        );
        let path = to.join(&name);
        files += 1;
        if fs::read_to_string(&path).is_ok_and(|old| old == new) {
            continue;
        }
        fresh = false;
        if check {
            eprintln!("protogen: {} is stale", path.display());
        } else {
            fs::create_dir_all(to)?;
            fs::write(&path, new).with_context(|| format!("writing {}", path.display()))?;
            eprintln!("protogen: wrote {}", path.display());
        }
    }
    if files == 0 {
        bail!("nothing was generated");
    }
    Ok(fresh || !check)
}
