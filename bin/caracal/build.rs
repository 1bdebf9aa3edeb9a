//! What the linker can do for the size of the release program, where it is the one that comes with rustc.

use std::{
    env::var,
    path::Path,
    process::{Command, Output},
};

/// The first glibc whose start of a static program takes packed relocations (`DT_RELR`).
const PACKED_SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| var(name).is_ok_and(|v| v == value);
    if !is("PROFILE", "release") || !is("TARGET", "x86_64-unknown-linux-gnu") || !has_lld() {
        return;
    }
    // Functions that came to be equal become one.
    println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    if var("HOST") == var("TARGET") && glibc().is_some_and(|v| v >= PACKED_SINCE) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

fn text(done: std::io::Result<Output>) -> Option<String> {
    let output = done.ok().filter(|o| o.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// rustc links with its own lld on this target, unless whoever packaged it left that out.
fn has_lld() -> bool {
    let rustc = var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let libs = text(Command::new(rustc).args(["--print", "target-libdir"]).output());
    libs.is_some_and(|libs| Path::new(&libs).with_file_name("bin/gcc-ld/ld.lld").is_file())
}

/// The version of the C library here, which a static program takes along.
fn glibc() -> Option<(u32, u32)> {
    let name = text(Command::new("getconf").arg("GNU_LIBC_VERSION").output())?;
    let (major, minor) = name.strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
