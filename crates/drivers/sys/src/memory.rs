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

/// Lets all threads share so many heaps. The allocator makes one for each thread otherwise, up to eight for each CPU, and
/// what one thread frees that another one took stays in the heap of the first. To be called before there are threads;
/// `MALLOC_ARENA_MAX` in the environment wins. Does nothing where the C library has no such call.
#[allow(unsafe_code, reason = "a call of the C library that has no safe wrapper")]
pub fn limit_heaps(heaps: u8) {
    #[cfg(target_env = "gnu")]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        // SAFETY: mallopt may be called at any time by any thread; it takes two numbers, and refuses those it does not
        // know.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, heaps.into());
        }
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = heaps;
}

/// From this size on, a piece of memory is taken from the system and given back to it alone. The allocator raises the
/// bound otherwise, to the largest piece that was ever freed, and keeps such pieces.
#[allow(unsafe_code, reason = "a call of the C library that has no safe wrapper")]
pub fn give_back_from(bytes: u32) {
    #[cfg(target_env = "gnu")]
    // SAFETY: as above.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, i32::try_from(bytes).unwrap_or(i32::MAX));
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = bytes;
}
