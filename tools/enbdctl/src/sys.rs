// SPDX-License-Identifier: GPL-2.0

//! The system calls that the standard library does not have.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Child;
use std::time::{Duration, Instant};

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
    wait_for_either(Some(file), None, limit)
}

/// Waits until the file says that it has changed, or the kernel has said something to udev, but not
/// longer than `limit`. Without a file it waits for the kernel alone, and without both for the limit.
///
/// # Errors
///
/// Those of poll(2), but for EINTR.
pub fn wait_for_either(
    file: Option<&File>,
    uevents: Option<&Uevents>,
    limit: Duration,
) -> io::Result<()> {
    // One that is below 0 is passed over.
    let polled = |fd: Option<i32>, events| libc::pollfd {
        fd: fd.unwrap_or(-1),
        events,
        revents: 0,
    };
    let mut both = [
        polled(file.map(File::as_raw_fd), libc::POLLPRI),
        polled(uevents.map(|one| one.socket.as_raw_fd()), libc::POLLIN),
    ];
    poll(&mut both, limit).map(|_| ())
}

/// poll(2), in which nothing has come if it was interrupted.
fn poll(polled: &mut [libc::pollfd], limit: Duration) -> io::Result<bool> {
    // A limit in whole milliseconds that ends too early would be waited for again and again.
    let limit = limit.as_micros().div_ceil(1000);
    let limit = i32::try_from(limit).unwrap_or(i32::MAX);
    let count = polled.len() as libc::nfds_t;
    // SAFETY: `polled` has so many elements, which live until the call returns.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), count, limit) };
    if ready >= 0 {
        return Ok(ready > 0);
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(false),
        _ => Err(error),
    }
}

/// Waits for the end of a program, but not longer than `limit`; whether it has ended.
///
/// # Errors
///
/// Those of pidfd_open(2) and poll(2).
pub fn ends_within(child: &Child, limit: Duration) -> io::Result<bool> {
    // SAFETY: pidfd_open takes no pointer. Nobody has waited for the child, so the number is its own.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_long::from(child.id()), 0) };
    let fd = match i32::try_from(fd) {
        Ok(fd) if fd >= 0 => fd,
        _ => return Err(io::Error::last_os_error()),
    };
    // SAFETY: the descriptor was just made, and nobody else has it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let began = Instant::now();
    loop {
        let mut polled = [libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        }];
        let left = limit.saturating_sub(began.elapsed());
        if poll(&mut polled, left)? {
            return Ok(true);
        }
        if left.is_zero() {
            return Ok(false);
        }
    }
}

/// Kills a program that has a process group of its own, with all that is in it.
pub fn kill_group(child: &Child) {
    if let Ok(group) = i32::try_from(child.id()) {
        // SAFETY: kill takes no pointer. Nobody has waited for the child, so the number is its own.
        unsafe { libc::kill(group.saturating_neg(), libc::SIGKILL) };
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
        loop {
            if let Some(told) = self.receive(0)? {
                return Ok(told);
            }
        }
    }

    /// What has come already, and is read so; nothing is waited for.
    ///
    /// # Errors
    ///
    /// As [`Uevents::next`].
    pub fn pending(&self) -> io::Result<Option<Told>> {
        loop {
            match self.receive(libc::MSG_DONTWAIT) {
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                other => return other,
            }
        }
    }

    /// One message; nothing if it was not the kernel's, or there was none.
    fn receive(&self, flags: i32) -> io::Result<Option<Told>> {
        let mut buffer = vec![0u8; EVENT_BYTES];
        let mut from = no_address();
        let mut length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: the buffer has as many bytes as are said, and so has `from`; both live until the call
        // returns.
        let count = unsafe {
            libc::recvfrom(
                self.socket.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                flags,
                (&raw mut from).cast(),
                &raw mut length,
            )
        };
        let Ok(count) = usize::try_from(count) else {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ENOBUFS) => Ok(Some(Told::Missed)),
                Some(libc::EINTR) => Ok(None),
                _ => Err(error),
            };
        };
        // Whoever else may send to this group is not the kernel, which is 0.
        let words = buffer.get(..count).filter(|_| from.nl_pid == 0);
        Ok(words.map(|words| Told::Words(String::from_utf8_lossy(words).into_owned())))
    }
}

fn no_address() -> libc::sockaddr_nl {
    // SAFETY: all of it are numbers, which may be 0.
    unsafe { std::mem::zeroed() }
}
