//! A Unix socket of one's own in front of a server that is reached by one, as the private ones are.

use std::path::PathBuf;

pub(crate) struct Detour {
    /// The same database, by this way.
    pub(crate) url: String,
    /// Where to listen.
    pub(crate) entrance: PathBuf,
    /// Where the server listens.
    pub(crate) server: PathBuf,
    /// Holds the entrance; to be kept as long.
    pub(crate) directory: tempfile::TempDir,
}

impl Detour {
    pub(crate) fn before(pool: &sqlx::PgPool) -> Self {
        let options = pool.connect_options();
        let directory = tempfile::tempdir().unwrap();
        let name = format!(".s.PGSQL.{}", options.get_port());
        let url = format!(
            "postgres://{}@localhost:{}/{}?host={}&sslmode=disable",
            options.get_username(),
            options.get_port(),
            options.get_database().unwrap(),
            directory.path().to_str().unwrap().replace('/', "%2F"),
        );
        Self {
            url,
            entrance: directory.path().join(&name),
            server: options.get_socket().expect("a socket").join(&name),
            directory,
        }
    }
}
