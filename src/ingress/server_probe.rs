//! Whether anybody listens where the database should be, asked when it did not answer in time: a pool tries
//! again and again where connections are refused, so that a server that is not there looks like one that is slow.
//!
//! A slow database must not be asked for one more connection by everybody for whom it is too slow. So all who
//! ask within a second share one look, and it opens no session: the address takes a connection, or does not.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::recent::Recent;

/// A server that is not there refuses at once.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);

/// What is known of the server.
#[derive(Clone)]
pub(super) struct ServerProbe {
    pool: PgPool,
    refuses: Recent<bool>,
}

impl ServerProbe {
    /// For the server of this pool.
    pub(super) fn of(pool: PgPool) -> Self {
        Self {
            pool,
            refuses: Recent::new(),
        }
    }

    /// Whether connections were refused within the last second.
    pub(super) async fn refuses(&self) -> bool {
        let look = async |_| {
            let options = self.pool.connect_options();
            let connected = timeout(CONNECT_TIMEOUT, connect(&options)).await;
            matches!(connected, Ok(Err(_)))
        };
        self.refuses.get(look).await
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
