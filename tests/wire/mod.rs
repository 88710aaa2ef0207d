//! A wire to Postgres that can keep back the answer to BEGIN.

mod detour;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};

use detour::Detour;

/// What Postgres says when a transaction began.
const BEGUN: &[u8] = b"BEGIN\0";

/// Listens on a socket of its own and passes everything on to the server's.
pub(crate) struct Wire {
    /// The same database, through this wire.
    pub(crate) url: String,
    holds: watch::Sender<bool>,
    held: Arc<Notify>,
    _directory: tempfile::TempDir,
}

impl Wire {
    /// In front of a server that is reached by a Unix socket, as the private ones are.
    pub(crate) fn before(pool: &sqlx::PgPool) -> Self {
        let Detour {
            url,
            entrance,
            server,
            directory,
        } = Detour::before(pool);
        let listener = UnixListener::bind(entrance).unwrap();
        let (holds, held) = (watch::Sender::new(false), Arc::new(Notify::new()));
        tokio::spawn(accept(
            listener,
            server,
            holds.subscribe(),
            Arc::clone(&held),
        ));
        Self {
            url,
            holds,
            held,
            _directory: directory,
        }
    }

    /// From now on, nobody hears that a transaction began.
    pub(crate) fn hold_begins(&self) {
        self.holds.send_replace(true);
    }

    /// Waits until a transaction has begun and its answer is kept back.
    pub(crate) async fn begun(&self) {
        self.held.notified().await;
    }

    /// Lets the answers through.
    pub(crate) fn release(&self) {
        self.holds.send_replace(false);
    }
}

async fn accept(
    listener: UnixListener,
    server: PathBuf,
    holds: watch::Receiver<bool>,
    held: Arc<Notify>,
) {
    while let Ok((client, _)) = listener.accept().await {
        let server = UnixStream::connect(&server).await.unwrap();
        tokio::spawn(pass(client, server, holds.clone(), Arc::clone(&held)));
    }
}

async fn pass(
    client: UnixStream,
    server: UnixStream,
    mut holds: watch::Receiver<bool>,
    held: Arc<Notify>,
) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
        let begun = buffer[..read]
            .windows(BEGUN.len())
            .any(|said| said == BEGUN);
        if begun && *holds.borrow() {
            held.notify_one();
            // An error means that the test is over.
            drop(holds.wait_for(|holds| !holds).await);
        }
        if to_client.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
}
