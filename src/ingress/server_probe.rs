//! Whether anybody listens where the database should be, asked when it did not answer in time: a pool tries
//! again and again where connections are refused, so that a server that is not there looks like one that is slow.
//!
//! A slow database must not be asked for one more connection by everybody for whom it is too slow. So all who
//! ask within a second share one look, and it opens no session: the address takes a connection, or does not.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Mutex;
use tokio::time::timeout;

/// How long an answer holds.
const FRESH: Duration = Duration::from_secs(1);
/// A server that is not there refuses at once.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);

/// What is known of the server.
#[derive(Clone)]
pub(super) struct ServerProbe {
    pool: PgPool,
    last: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl ServerProbe {
    /// For the server of this pool.
    pub(super) fn of(pool: PgPool) -> Self {
        Self {
            pool,
            last: Arc::default(),
        }
    }

    /// Whether connections are refused. Whoever finds the last answer too old looks, and the others wait for that.
    pub(super) async fn refuses(&self) -> bool {
        let mut last = self.last.lock().await;
        if let Some((_, known)) = last.filter(|(at, _)| at.elapsed() < FRESH) {
            return known;
        }
        let options = self.pool.connect_options();
        let refuses = matches!(
            timeout(CONNECT_TIMEOUT, connect(&options)).await,
            Ok(Err(_))
        );
        *last = Some((Instant::now(), refuses));
        refuses
    }
}

/// Connects as the driver does, and says nothing.
async fn connect(options: &PgConnectOptions) -> io::Result<()> {
    let (host, port) = (options.get_host(), options.get_port());
    let directory = host.starts_with('/').then_some(Path::new(host));
    match options.get_socket().map(PathBuf::as_path).or(directory) {
        Some(directory) => {
            let socket = directory.join(format!(".s.PGSQL.{port}"));
            UnixStream::connect(socket).await.map(drop)
        }
        None => TcpStream::connect((host, port)).await.map(drop),
    }
}
