//! Ports for programs that a test starts, where the test must know the port before the program listens on it.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that systems give to outgoing connections: one of those may take any port of theirs between the
/// look for a free one and the start of the program.
const FIRST: u16 = 10_000;
/// Each process begins elsewhere: two that look at the same time hardly ever find the same port.
const BLOCK: u16 = 64;
const BLOCKS: u16 = 355;

/// A port of this machine that nobody listens on, and that is not returned again.
#[allow(dead_code, reason = "not every test starts programs")]
pub(crate) fn free_port() -> u16 {
    listener().local_addr().unwrap().port()
}

/// Who listens on such a port already.
pub(crate) fn listener() -> TcpListener {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % u32::from(BLOCKS)).unwrap();
    let ports = BLOCK * BLOCKS;
    loop {
        let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
        assert!(taken < ports, "no port is free");
        let port = FIRST + (process * BLOCK + taken) % ports;
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener;
        }
    }
}
