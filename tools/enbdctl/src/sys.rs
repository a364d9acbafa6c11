// SPDX-License-Identifier: GPL-2.0

//! The two system calls that the standard library does not have.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
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
