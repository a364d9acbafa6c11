// SPDX-License-Identifier: GPL-2.0

//! The system calls that the standard library does not have.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Takes the file's lock, waiting for whoever has it. It ends with the file.
///
/// # Errors
///
/// Those of flock(2), but for EINTR.
pub fn lock(file: &File) -> io::Result<()> {
    loop {
        // SAFETY: flock takes no pointer, and the descriptor is open as long as `file` is.
        if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// A file in memory, which is in no directory.
///
/// # Errors
///
/// Those of memfd_create(2).
pub fn memory_file(name: &CStr) -> io::Result<File> {
    // SAFETY: `name` ends with a NUL, and lives until the call returns.
    let fd = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) }.into())
}

/// Waits until the file says that it has changed, but not longer than `limit`. A file that never
/// says so makes this a plain wait.
///
/// # Errors
///
/// Those of poll(2), but for EINTR.
pub fn wait_for_change(file: &File, limit: Duration) -> io::Result<()> {
    let mut polled = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLPRI,
        revents: 0,
    };
    let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `polled` is one pollfd that lives until the call returns.
    if unsafe { libc::poll(&mut polled, 1, limit) } >= 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        _ => Err(error),
    }
}

/// What the kernel says to udev: a netlink socket of uevents.
pub struct Uevents {
    socket: OwnedFd,
}

/// What came.
pub enum Told {
    /// Words, each ended by a NUL.
    Words(String),
    /// There was more than fits: some are lost.
    Missed,
}

/// The multicast group of the kernel; udevd has another one.
const KERNEL_GROUP: u32 = 1;
/// As much as an event may be, and more.
const EVENT_BYTES: usize = 16 << 10;

impl Uevents {
    /// Listens from now on.
    ///
    /// # Errors
    ///
    /// Those of socket(2) and bind(2).
    pub fn open() -> io::Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        // SAFETY: socket takes no pointer.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_KOBJECT_UEVENT) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made, and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut address = no_address();
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = KERNEL_GROUP;
        let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        let pointer = (&raw const address).cast::<libc::sockaddr>();
        // SAFETY: `pointer` is to an address of this length, which lives until the call returns.
        if unsafe { libc::bind(socket.as_raw_fd(), pointer, length) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { socket })
    }

    /// Waits for what comes next from the kernel itself.
    ///
    /// # Errors
    ///
    /// Those of recvfrom(2), but for EINTR and ENOBUFS.
    pub fn next(&self) -> io::Result<Told> {
        let mut buffer = vec![0u8; EVENT_BYTES];
        loop {
            let mut from = no_address();
            let mut length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            // SAFETY: the buffer has as many bytes as are said, and so has `from`; both live until the
            // call returns.
            let count = unsafe {
                libc::recvfrom(
                    self.socket.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    0,
                    (&raw mut from).cast(),
                    &raw mut length,
                )
            };
            let Ok(count) = usize::try_from(count) else {
                let error = io::Error::last_os_error();
                match error.raw_os_error() {
                    Some(libc::ENOBUFS) => return Ok(Told::Missed),
                    Some(libc::EINTR) => continue,
                    _ => return Err(error),
                }
            };
            // Whoever else may send to this group is not the kernel, which is 0.
            if from.nl_pid == 0 {
                let words = buffer.get(..count).unwrap_or_default();
                return Ok(Told::Words(String::from_utf8_lossy(words).into_owned()));
            }
        }
    }
}

fn no_address() -> libc::sockaddr_nl {
    // SAFETY: all of it are numbers, which may be 0.
    unsafe { std::mem::zeroed() }
}
