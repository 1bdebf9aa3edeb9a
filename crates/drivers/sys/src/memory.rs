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

/// Takes the program's own pages, code and constants, out of this process's memory: a start touches many that are never
/// used again, and each brings fifteen others. They stay in the system's cache of files; what is used comes back at once.
#[allow(unsafe_code, reason = "calls of the C library that have no safe wrapper")]
pub fn release_program() {
    #[cfg(target_os = "linux")]
    // SAFETY: the callback fits its declaration, is called before this returns, and keeps nothing.
    unsafe {
        libc::dl_iterate_phdr(Some(release_segments), std::ptr::null_mut());
    }
}

/// Releases the segments of the first object that it is called with, which is the program, and ends the iteration.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "reads what the C library points at")]
unsafe extern "C" fn release_segments(
    info: *mut libc::dl_phdr_info,
    _: libc::size_t,
    _: *mut libc::c_void,
) -> libc::c_int {
    // SAFETY: the C library passes a valid description, whose table of segments lives as long as the program.
    let (base, segments) = unsafe {
        let info = &*info;
        (
            info.dlpi_addr,
            std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()),
        )
    };
    // SAFETY: takes a number, returns a number.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    for segment in segments {
        // A segment that could ever be written may differ from the file: relocated tables above all.
        if segment.p_type != libc::PT_LOAD || segment.p_flags & libc::PF_W != 0 {
            continue;
        }
        let start = (base + segment.p_vaddr) / page * page;
        let end = (base + segment.p_vaddr + segment.p_memsz).next_multiple_of(page);
        let (Ok(at), Ok(length)) = (usize::try_from(start), usize::try_from(end - start)) else {
            continue;
        };
        // SAFETY: the segment is a private mapping of the program's file that was never written, so each page comes back
        // from the file as it was at the next access. A refusal changes nothing.
        unsafe {
            libc::madvise(
                std::ptr::with_exposed_provenance_mut(at),
                length,
                libc::MADV_DONTNEED,
            );
        }
    }
    1
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// KiB of files in this process's memory.
    fn files() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").expect("the kernel says so");
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("RssFile:"))
            .expect("the kernel says so");
        line.trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("the kernel says so")
    }

    #[test]
    fn the_program_runs_on_without_its_pages() {
        let text = text();
        let before = files();
        release_program();
        let after = files();
        assert!(after < before, "{before} KiB before, {after} KiB after");
        assert_eq!(self::text(), text);
    }

    /// Made by code and of constants all over the program.
    fn text() -> String {
        let parts = (0..500).map(|n: u32| format!("{n:>5} {:?} {:e}\n", char::from_u32(n), f64::from(n)));
        parts.collect::<String>().to_uppercase()
    }
}
