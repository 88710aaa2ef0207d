//! What a transaction-mode pooler such as `PgBouncer` does to its clients, without one: unknown start-up parameters are
//! refused, and only two clients are in a transaction at a time.

use std::sync::{Arc, Mutex};

use sqlx::PgPool;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

const SERVERS: usize = 2;
const NO_TLS: u32 = 80_877_103;
/// What `PgBouncer` takes at the start of a session.
const KNOWN: [&str; 9] = [
    "user",
    "database",
    "client_encoding",
    "DateStyle",
    "TimeZone",
    "standard_conforming_strings",
    "application_name",
    "IntervalStyle",
    "options",
];

/// How a pooler differs from a good one.
#[derive(Clone, Copy, Default)]
pub(crate) struct Behaviour {
    /// Statements get in each other's way, as before version 1.21.
    pub(crate) statements_taken: bool,
}

/// A pooler in front of a private server.
pub(crate) struct TestPooler {
    pub(crate) url: String,
}

#[derive(Clone)]
struct PoolerSettings {
    socket: std::path::PathBuf,
    permits: Arc<Semaphore>,
    behaviour: Behaviour,
}

type HeldPermit = Arc<Mutex<Option<OwnedSemaphorePermit>>>;

impl TestPooler {
    pub(crate) async fn before(pool: &PgPool, behaviour: Behaviour) -> Self {
        let options = pool.connect_options();
        let socket = options.get_socket().expect("a server with a socket");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "postgres://{}@{}/{}",
            options.get_username(),
            listener.local_addr().unwrap(),
            options.get_database().unwrap()
        );
        let settings = PoolerSettings {
            socket: socket.join(format!(".s.PGSQL.{}", options.get_port())),
            permits: Arc::new(Semaphore::new(SERVERS)),
            behaviour,
        };
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, settings.clone()));
            }
        });
        Self { url }
    }
}

async fn serve(mut client: TcpStream, settings: PoolerSettings) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let start = loop {
        let length = client.read_u32().await?;
        let mut rest = vec![0; length as usize - 4];
        client.read_exact(&mut rest).await?;
        if rest[..4] != NO_TLS.to_be_bytes() {
            break [&length.to_be_bytes()[..], &rest].concat();
        }
        client.write_all(b"N").await?;
    };
    let words: Vec<&[u8]> = start[8..].split(|byte| *byte == 0).collect();
    let unknown = words.chunks(2).map(|pair| String::from_utf8_lossy(pair[0]));
    if let Some(name) = unknown
        .filter(|name| !name.is_empty())
        .find(|name| !KNOWN.contains(&&**name))
    {
        let refusal = error("08P01", &format!("unsupported startup parameter: {name}"));
        return client.write_all(&refusal).await;
    }
    let (from_server, mut to_server) = UnixStream::connect(&settings.socket).await?.into_split();
    to_server.write_all(&start).await?;
    let (permit, (from_client, to_client)) = (HeldPermit::default(), client.into_split());
    let answers = tokio::spawn(answer(
        from_server,
        to_client,
        Arc::clone(&permit),
        settings.behaviour,
    ));
    let asked = ask(from_client, to_server, &permit, &settings.permits).await;
    answers.abort();
    asked
}

/// Forwards what a client says, as soon as there is a permit for its transaction.
async fn ask(
    mut client: tokio::net::tcp::OwnedReadHalf,
    mut server: OwnedWriteHalf,
    permit: &HeldPermit,
    permits: &Arc<Semaphore>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = client.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        if permit.lock().unwrap().is_none() {
            let acquired = Arc::clone(permits).acquire_owned().await.unwrap();
            *permit.lock().unwrap() = Some(acquired);
        }
        server.write_all(&buffer[..read]).await?;
    }
}

/// Forwards what the server says; with "ready, no transaction" the permit is free again.
async fn answer(
    mut server: OwnedReadHalf,
    mut client: tokio::net::tcp::OwnedWriteHalf,
    permit: HeldPermit,
    behaviour: Behaviour,
) -> std::io::Result<()> {
    let mut ready = 0;
    loop {
        let (kind, length) = (server.read_u8().await?, server.read_u32().await?);
        let mut rest = vec![0; length as usize - 4];
        server.read_exact(&mut rest).await?;
        let mut message = [&[kind][..], &length.to_be_bytes(), &rest].concat();
        if kind == b'Z' {
            ready += 1;
            if rest == b"I" {
                *permit.lock().unwrap() = None;
            }
        }
        // Instead of "parsed", after the greeting.
        if kind == b'1' && ready > 0 && behaviour.statements_taken {
            message = error("42P05", "prepared statement \"sqlx_s_1\" already exists");
        }
        client.write_all(&message).await?;
    }
}

fn error(code: &str, text: &str) -> Vec<u8> {
    let fields = format!("SERROR\0VERROR\0C{code}\0M{text}\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap();
    [&b"E"[..], &length.to_be_bytes(), fields.as_bytes()].concat()
}
