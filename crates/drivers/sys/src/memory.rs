/// Gives memory that was freed back to the system. The allocator keeps most of it otherwise: after a large job, such as
/// reading a whole datastore, that is a good part of what the process holds. Takes milliseconds; does nothing where the C
/// library has no such call.
#[allow(unsafe_code, reason = "a call of the C library that has no safe wrapper")]
pub fn release_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim may be called at any time by any thread; it takes no pointer and touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}
