// SPDX-License-Identifier: GPL-2.0

//! What systemd is told: sd_notify(3), which is one datagram.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Tells systemd, if it has asked for it.
///
/// # Errors
///
/// It asked, and cannot be told.
pub fn notify(words: &str) -> io::Result<()> {
    match std::env::var_os("NOTIFY_SOCKET") {
        Some(place) if !place.is_empty() => send(&place, words),
        _ => Ok(()),
    }
}

fn send(place: &OsStr, words: &str) -> io::Result<()> {
    let address = match place.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(place)?,
    };
    let socket = UnixDatagram::unbound()?;
    // Devices are followed, whatever systemd is at.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(words.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::send;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).expect("something was sent");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn by_path_and_by_abstract_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        send(path.as_os_str(), "READY=1").expect("sent");
        assert_eq!(heard(&socket), "READY=1");
        let name = format!("enbd-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let socket = UnixDatagram::bind_addr(&address).expect("bound");
        send(format!("@{name}").as_ref(), "STATUS=x").expect("sent");
        assert_eq!(heard(&socket), "STATUS=x");
        send("/nowhere/notify".as_ref(), "READY=1").expect_err("nobody listens");
    }
}
