//! The settings of the private server: enough for a worker fleet and the benchmarks on one machine, nothing that a small
//! container lacks.

use super::{Durability, Options};

/// For every server. Parallel query wants shared memory that containers with a 64 MB `/dev/shm` lack, and JIT a
/// library that fetched builds lack; neither helps short statements.
const ALWAYS: [(&str, &str); 4] = [
    ("max_connections", "200"),
    ("max_parallel_workers_per_gather", "0"),
    ("max_parallel_maintenance_workers", "0"),
    ("jit", "off"),
];

/// `dev` and `bench`: every commit reaches the disk; memory is touched only as it is used.
const DURABLE: [(&str, &str); 3] = [
    ("fsync", "on"),
    ("shared_buffers", "256MB"),
    ("max_wal_size", "2GB"),
];

/// Tests: many servers side by side, none outlives its process.
const THROWAWAY: [(&str, &str); 4] = [
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("shared_buffers", "64MB"),
];

/// The port that names the socket where no TCP port is asked for.
const SOCKET_PORT: u16 = 5432;

/// The port in the socket's name, and on 127.0.0.1 where TCP is on.
pub(super) fn port(options: &Options) -> u16 {
    options.port.unwrap_or(SOCKET_PORT)
}

/// Arguments of `postgres`, the caller's own settings last so that they win.
pub(super) fn arguments(options: &Options) -> Vec<String> {
    let listen = if options.port.is_some() {
        "127.0.0.1"
    } else {
        ""
    };
    let (listen, port) = (
        ("listen_addresses", listen.to_owned()),
        ("port", port(options).to_string()),
    );
    let chosen: &[(&str, &str)] = match options.durability {
        Durability::Durable => &DURABLE,
        Durability::Throwaway => &THROWAWAY,
    };
    let fixed = ALWAYS
        .iter()
        .chain(chosen)
        .map(|(name, value)| (*name, (*value).to_owned()));
    let own = options
        .settings
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()));
    let all = [listen, port].into_iter().chain(fixed).chain(own);
    all.flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")])
        .collect()
}
