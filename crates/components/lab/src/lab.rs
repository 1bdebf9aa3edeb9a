#[must_use]
pub fn run(_: Vec<std::ffi::OsString>) -> i32 {
    64
}
