//! The system calls, each behind a safe function.
#![allow(unsafe_code, reason = "netlink sockets have no safe interface in std")]

use std::{
    io,
    mem::{size_of, zeroed},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

fn check(ret: libc::c_int) -> io::Result<libc::c_int> {
    if ret < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(ret)
    }
}

fn addr_len() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<libc::sockaddr_nl>()).expect("an address of 12 bytes")
}

pub(super) fn socket(protocol: i32) -> io::Result<OwnedFd> {
    let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointer is passed.
    let fd = check(unsafe { libc::socket(libc::AF_NETLINK, flags, protocol) })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Binds to an address that the kernel picks, and says which.
pub(super) fn bind(fd: &OwnedFd) -> io::Result<u32> {
    // SAFETY: all-zero bytes are a valid sockaddr_nl.
    let mut addr: libc::sockaddr_nl = unsafe { zeroed() };
    addr.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).expect("a small constant");
    let mut len = addr_len();
    // SAFETY: the pointer and length describe `addr`, which lives through both calls; the second may write up to
    // `len` bytes into it.
    unsafe {
        check(libc::bind(fd.as_raw_fd(), (&raw const addr).cast(), len))?;
        check(libc::getsockname(
            fd.as_raw_fd(),
            (&raw mut addr).cast(),
            &raw mut len,
        ))?;
    }
    Ok(addr.nl_pid)
}

pub(super) fn set(fd: &OwnedFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<i32>()).expect("four");
    // SAFETY: the pointer and length describe `value`, which lives through the call and is only read.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), len) })?;
    Ok(())
}

/// Sends to the kernel and waits until it took the message.
pub(super) fn send(fd: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid sockaddr_nl.
    let mut addr: libc::sockaddr_nl = unsafe { zeroed() };
    addr.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).expect("a small constant");
    // SAFETY: pointers and lengths describe `bytes` and `addr`, which live through the call and are only read.
    let sent = unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
            (&raw const addr).cast(),
            addr_len(),
        )
    };
    if sent < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Reads one datagram without waiting, in place of what `buf` holds and as much as it has room for: the datagram's true
/// length, and its sender's port.
pub(super) fn recv(fd: &OwnedFd, buf: &mut Vec<u8>) -> io::Result<(usize, u32)> {
    buf.clear();
    let room = buf.spare_capacity_mut();
    // SAFETY: all-zero bytes are a valid sockaddr_nl.
    let mut addr: libc::sockaddr_nl = unsafe { zeroed() };
    let mut len = addr_len();
    // SAFETY: pointers and lengths describe `room`, `addr` and `len`, which live through the call; the kernel writes
    // no more than the given lengths, and reads nothing of `room`.
    let got = unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            room.as_mut_ptr().cast(),
            room.len(),
            libc::MSG_DONTWAIT | libc::MSG_TRUNC,
            (&raw mut addr).cast(),
            &raw mut len,
        )
    };
    let Ok(got) = usize::try_from(got) else {
        return Err(io::Error::last_os_error());
    };
    let written = got.min(room.len());
    // SAFETY: the kernel has written so many bytes from the start of the room, which is the start of `buf`.
    unsafe {
        buf.set_len(written);
    }
    Ok((got, addr.nl_pid))
}

/// Waits until there is something to read, or an error to fetch, or the time is over.
pub(super) fn wait_readable(fd: &OwnedFd, time: Option<Duration>) -> io::Result<()> {
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // Rounded up, so that a rest below a millisecond does not become a busy loop.
    let ms = time.map_or(-1, |t| {
        i32::try_from(t.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
    });
    // SAFETY: the pointer describes one pollfd that lives through the call.
    check(unsafe { libc::poll(&raw mut poll, 1, ms) })?;
    Ok(())
}
