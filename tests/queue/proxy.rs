//! A wire between a worker and Postgres that can be cut at a chosen moment.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::ledger::Ledger;

/// Listens on a socket of its own and passes everything on to the server's.
pub(crate) struct Proxy {
    /// The same database, through this wire.
    pub(crate) url: String,
    cuts: Arc<AtomicUsize>,
    _directory: tempfile::TempDir,
}

impl Proxy {
    /// In front of a server that is reached by a Unix socket, as the private ones are.
    pub(crate) async fn before(pool: &sqlx::PgPool) -> Self {
        let options = pool.connect_options();
        let directory = tempfile::tempdir().unwrap();
        let socket = |directory: &Path| directory.join(format!(".s.PGSQL.{}", options.get_port()));
        let server = socket(options.get_socket().expect("a server with a socket"));
        let listener = UnixListener::bind(socket(directory.path())).unwrap();
        let cuts = Arc::new(AtomicUsize::new(0));
        tokio::spawn(accept(listener, server, Arc::clone(&cuts)));
        let url = format!(
            "postgres://{}@{}:{}/{}",
            options.get_username(),
            directory.path().to_str().unwrap().replace('/', "%2F"),
            options.get_port(),
            options.get_database().unwrap()
        );
        Ledger::of(&options).is_also_of(&url.parse().unwrap());
        Self {
            url,
            cuts,
            _directory: directory,
        }
    }

    /// The next `times` answers that hand out a job are lost, each with its connection.
    pub(crate) fn lose_claims(&self, times: usize) {
        self.cuts.store(times, Ordering::SeqCst);
    }

    pub(crate) fn claims_to_lose(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

async fn accept(listener: UnixListener, server: PathBuf, cuts: Arc<AtomicUsize>) {
    while let Ok((client, _)) = listener.accept().await {
        let (server, cuts) = (UnixStream::connect(&server).await, Arc::clone(&cuts));
        if let Ok(server) = server {
            tokio::spawn(pass(client, server, cuts));
        }
    }
}

async fn pass(client: UnixStream, server: UnixStream, cuts: Arc<AtomicUsize>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut forth =
        tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            read = from_server.read(&mut buffer) => read.unwrap_or(0),
            _ = &mut forth => 0,
        };
        if read == 0 {
            break;
        }
        // The kind of the job stands in the row that a claim answers with.
        let claim = buffer[..read]
            .windows(9)
            .any(|bytes| bytes == b"\0\0\0\x05trial");
        let lost = claim
            && cuts
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                })
                .is_ok();
        if lost || to_client.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    forth.abort();
}
