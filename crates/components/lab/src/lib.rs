//! Multi-node lab on one machine, probes and policy-check.

pub mod prober;

/// The component's command line; `args[0]` is the program's name. The result is the exit code.
#[must_use]
pub fn run(args: Vec<std::ffi::OsString>) -> i32 {
    let name = args
        .first()
        .map(|a| a.to_string_lossy().into_owned())
        .unwrap_or_default();
    eprintln!("{name}: this component is not in this version");
    64
}

/// The component's command line; `args[0]` is the program's name. The result is the exit code.
#[must_use]
pub fn policy_check(args: Vec<std::ffi::OsString>) -> i32 {
    let name = args
        .first()
        .map(|a| a.to_string_lossy().into_owned())
        .unwrap_or_default();
    eprintln!("{name}: this component is not in this version");
    64
}
