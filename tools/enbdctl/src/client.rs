// SPDX-License-Identifier: GPL-2.0

//! A client of NBD that only reads: what enbdctl looks at a server with before the module gets it.
//!
//! Shape: [`Client::open`] negotiates by the module's own state machine (`rust/logic/wire`), so that a
//! server that the module would refuse is refused here in the same words. One request is on its way
//! at a time. The connection ends with the client.
//!
//! Errors: sentences, with the address that was tried.

use crate::resolve::Resolver;
use crate::uri::{Host, Place, Uri};
use enbd_logic::logic::wire::handshake::{Export, Handshake, HandshakeReason, Step, SCRATCH};
use enbd_logic::logic::wire::reply::{self, REPLY_LEN};
use enbd_logic::logic::wire::request::{encode, Command, CommandFlags};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long a server may be silent.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long it may take to open an export, and for each read: one that gives a byte now and then is not
/// silent.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest read that is asked for at once.
const PIECE: u64 = 1 << 20;

/// A connection of either kind.
trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// An export that is open.
pub struct Client {
    stream: Box<dyn Stream>,
    /// The address that worked; none of a Unix socket.
    address: Option<IpAddr>,
    export: Export,
    cookie: u64,
}

impl Client {
    /// Opens an export, over the first address that works.
    ///
    /// # Errors
    ///
    /// Why none did, in words.
    pub fn open(uri: &Uri, resolver: &dyn Resolver) -> Result<Self, String> {
        if let Place::Unix { path } = &uri.place {
            let stream = unix(path).map_err(|error| in_words(&error));
            return stream.and_then(|stream| Self::negotiate(Box::new(stream), uri));
        }
        let mut tried = Vec::new();
        for address in addresses(&uri.place, resolver)? {
            let stream = tcp(address).map_err(|error| in_words(&error));
            match stream.and_then(|stream| Self::negotiate(Box::new(stream), uri)) {
                Ok(mut client) => {
                    client.address = Some(address.ip());
                    return Ok(client);
                }
                Err(why) => tried.push(format!("{address}: {why}")),
            }
        }
        Err(tried.join("; "))
    }

    fn negotiate(mut stream: Box<dyn Stream>, uri: &Uri) -> Result<Self, String> {
        let refused = |reason: HandshakeReason| reason.as_str().to_owned();
        let mut handshake = Handshake::new(uri.export.as_bytes()).map_err(refused)?;
        let mut scratch = [0; SCRATCH];
        let began = Instant::now();
        loop {
            match handshake.next() {
                Step::Send(bytes) => {
                    stream.write_all(bytes).map_err(|error| in_words(&error))?;
                    handshake.sent();
                }
                Step::Recv(count) => {
                    let room = scratch.get_mut(..count).unwrap_or_default();
                    fill(&mut *stream, room, LONGEST.saturating_sub(began.elapsed()))
                        .map_err(|error| in_words(&error))?;
                    // What is wrong is the next step, too.
                    let _ = handshake.received(room);
                }
                Step::Done(export) => {
                    return Ok(Self {
                        stream,
                        address: None,
                        export,
                        cookie: 0,
                    })
                }
                Step::Failed(reason) => {
                    if let Some(bytes) = reason.farewell() {
                        // The server is left in any case.
                        let _ = stream.write_all(bytes);
                    }
                    return Err(refused(reason));
                }
            }
        }
    }

    /// What the server says of the export.
    pub fn export(&self) -> &Export {
        &self.export
    }

    /// Where the server is; none where that is a path.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Reads so many bytes from `at` on, as far as the export has them.
    ///
    /// # Errors
    ///
    /// Why the server does not give them, in words.
    pub fn read(&mut self, at: u64, len: u64) -> Result<Vec<u8>, String> {
        let unit = u64::from(self.export.block.min);
        let piece = PIECE.min(u64::from(self.export.block.max_payload));
        let end = at.saturating_add(len).min(self.export.size);
        // Requests are of whole blocks; the last one of an export of an odd size cannot be had.
        let mut next = at / unit * unit;
        let last = end
            .next_multiple_of(unit)
            .min(self.export.size / unit * unit);
        let mut out = Vec::new();
        while next < last {
            let count = piece.min(last.saturating_sub(next));
            out.extend(self.request(next, count)?);
            next = next.saturating_add(count);
        }
        let skip = usize::try_from(at % unit).unwrap_or(0).min(out.len());
        out.drain(..skip);
        out.truncate(usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX));
        Ok(out)
    }

    fn request(&mut self, at: u64, count: u64) -> Result<Vec<u8>, String> {
        self.cookie = self.cookie.wrapping_add(1);
        let length = u32::try_from(count).map_err(|error| error.to_string())?;
        let head = encode(Command::Read, CommandFlags::NONE, self.cookie, at, length);
        let mut answer = [0; REPLY_LEN];
        let began = Instant::now();
        let exchange = self.stream.write_all(&head);
        exchange
            .and_then(|()| fill(&mut *self.stream, &mut answer, LONGEST))
            .map_err(|error| in_words(&error))?;
        let answer = reply::parse(&answer).map_err(|reason| reason.as_str().to_owned())?;
        if answer.cookie != self.cookie {
            return Err("a reply to a request that was not asked".to_owned());
        }
        if let Some(error) = answer.error {
            return Err(format!("it does not read at {at}: {}", error.as_str()));
        }
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0)];
        fill(
            &mut *self.stream,
            &mut bytes,
            LONGEST.saturating_sub(began.elapsed()),
        )
        .map_err(|error| in_words(&error))?;
        Ok(bytes)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let bye = encode(Command::Disconnect, CommandFlags::NONE, 0, 0, 0);
        // The server sees the end of the connection in any case.
        let _ = self.stream.write_all(&bye);
    }
}

/// Reads until there is no room any more, but begins no read after `limit`.
fn fill(stream: &mut dyn Stream, room: &mut [u8], limit: Duration) -> io::Result<()> {
    let began = Instant::now();
    let mut done = 0usize;
    while let Some(rest) = room.get_mut(done..).filter(|rest| !rest.is_empty()) {
        if began.elapsed() >= limit {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match stream.read(rest) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => done = done.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn unix(path: &str) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Where a server may listen.
fn addresses(place: &Place, resolver: &dyn Resolver) -> Result<Vec<SocketAddr>, String> {
    let Place::Tcp { host, port } = place else {
        return Ok(Vec::new());
    };
    let ips: Vec<IpAddr> = match host {
        Host::Ip(ip) => vec![*ip],
        Host::Zone(ip, zone) => {
            let file = format!("/sys/class/net/{zone}/ifindex");
            let index = std::fs::read_to_string(file).ok();
            let index = index.and_then(|text| text.trim().parse().ok());
            let index = index.ok_or_else(|| format!("there is no interface {zone}"))?;
            return Ok(vec![SocketAddrV6::new(*ip, *port, 0, index).into()]);
        }
        Host::Name(name) => {
            let found = resolver.resolve(name);
            found.map_err(|why| format!("{name} cannot be resolved: {why}"))?
        }
    };
    Ok(ips
        .into_iter()
        .map(|ip| SocketAddr::new(ip, *port))
        .collect())
}

/// The error of a socket in words.
fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            "the server did not answer in time".to_owned()
        }
        io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        _ => match error.raw_os_error() {
            Some(errno) => crate::module::system_words(errno),
            None => error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{fill, LONGEST};
    use std::io::{self, ErrorKind, Read, Write};
    use std::time::Duration;

    /// A server that gives so many bytes, one at a time.
    struct Drops(u8);

    impl Read for Drops {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            match (self.0.checked_sub(1), room.first_mut()) {
                (Some(left), Some(first)) => {
                    (self.0, *first) = (left, 7);
                    Ok(1)
                }
                _ => Ok(0),
            }
        }
    }

    impl Write for Drops {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_server_that_drips() {
        let read = |bytes, limit| {
            let mut room = [0; 3];
            let result = fill(&mut Drops(bytes), &mut room, limit);
            (result.map_err(|error| error.kind()), room)
        };
        assert_eq!(read(3, LONGEST), (Ok(()), [7; 3]));
        assert_eq!(read(2, LONGEST).0, Err(ErrorKind::UnexpectedEof));
        assert_eq!(read(3, Duration::ZERO).0, Err(ErrorKind::TimedOut));
    }
}
