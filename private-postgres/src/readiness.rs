//! Whether a server accepts logins, asked in the wire protocol: an open socket alone says nothing, since Postgres
//! opens it before it has recovered.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// How a server answers a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Nobody listens.
    Silent,
    /// Somebody listens and says "not now": starting, recovering or shutting down.
    Busy,
    /// Logins are accepted (or refused only because all connections are taken).
    Ready,
}

/// A start-up message of protocol 3.0 for user `postgres`.
const LOGIN: &[u8] = b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0";
const GOODBYE: &[u8] = b"X\0\0\0\x04";
/// SQLSTATE `cannot_connect_now`, as the field of an error message.
const CANNOT_CONNECT_NOW: &[u8] = b"C57P03\0";

/// Asks the server behind a socket.
pub(super) fn ask(socket: &Path) -> Readiness {
    match UnixStream::connect(socket) {
        Ok(stream) => answer(stream).unwrap_or(Readiness::Busy),
        Err(_) => Readiness::Silent,
    }
}

fn answer(mut stream: UnixStream) -> io::Result<Readiness> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(LOGIN)?;
    let mut first = [0_u8; 1];
    stream.read_exact(&mut first)?;
    if first == *b"E" {
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest)?;
        let not_now = rest
            .windows(CANNOT_CONNECT_NOW.len())
            .any(|window| window == CANNOT_CONNECT_NOW);
        return Ok(if not_now {
            Readiness::Busy
        } else {
            Readiness::Ready
        });
    }
    stream.write_all(GOODBYE)?;
    Ok(if first == *b"R" {
        Readiness::Ready
    } else {
        Readiness::Busy
    })
}
