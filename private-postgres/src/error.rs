//! What can go wrong between "I need a Postgres" and "it answers", said so that the reader can act at once.

use std::{io, path::PathBuf};

/// Why the private Postgres could not be had. Every message says what happened, to what, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No usable Postgres anywhere, and none could be fetched.
    #[error(
        "no PostgreSQL (14 or newer) found.\n{}\n\
         Any one of these helps:\n  \
         Debian, Ubuntu:  apt-get install -y postgresql\n  \
         macOS:           brew install postgresql@18\n  \
         a server you have:  DATABASE_URL=postgres://user:password@host/database",
        looked_at_lines(.looked_at)
    )]
    NotFound {
        /// Every place and every client that was tried, with what was wrong there.
        looked_at: Vec<String>,
    },
    /// `POSTGRES_BIN` is set and unusable; an explicit setting is never overruled.
    #[error("POSTGRES_BIN={}: {reason}; point it at a directory that holds `postgres` and `initdb`, or unset it", directory.display())]
    Setting {
        /// What the variable says.
        directory: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The data directory was written by another major version.
    #[error(
        "data directory is for {data}, found {found}: {} was written by PostgreSQL {data}. \
         Install PostgreSQL {data}, set POSTGRES_BIN to it, or move that directory away to begin anew",
        directory.display()
    )]
    DataVersion {
        /// Major version that wrote the data.
        data: u32,
        /// The major version that was found.
        found: u32,
        /// The data directory.
        directory: PathBuf,
    },
    /// Running as root without an account that Postgres may run as.
    #[error(
        "running as root, and neither a `postgres` nor a `nobody` user exists to run PostgreSQL as; \
         add one (useradd --system postgres), run as an ordinary user, or set DATABASE_URL"
    )]
    NoAccount,
    /// The numeric user id has no line in `/etc/passwd`; `initdb` insists on one.
    #[error(
        "this user id has no entry in /etc/passwd, which initdb needs; add a passwd line for it, or set DATABASE_URL"
    )]
    NoPasswdEntry,
    /// The short socket directory under `/tmp` exists and is not ours.
    #[error("{} belongs to another user or is no directory; remove it or choose another data directory", directory.display())]
    ForeignSocketDirectory {
        /// The socket directory.
        directory: PathBuf,
    },
    /// Another process holds the cluster, but no server answers there.
    #[error(
        "another process holds {} and its PostgreSQL does not answer; stop that process or choose another data directory",
        lock.display()
    )]
    Held {
        /// The lock file.
        lock: PathBuf,
    },
    /// This handle does not own the server, or has stopped it.
    #[error("this process does not run the PostgreSQL in {}, so it cannot {action} it", directory.display())]
    NotOwner {
        /// What was asked for.
        action: &'static str,
        /// The cluster.
        directory: PathBuf,
    },
    /// A Postgres program failed.
    #[error("{program} failed for {}:\n{output}", directory.display())]
    Program {
        /// Which program.
        program: &'static str,
        /// On which data directory.
        directory: PathBuf,
        /// What it said.
        output: String,
    },
    /// The server ended, or stayed silent, instead of accepting logins.
    #[error("PostgreSQL in {} did not start (waited for {seconds} s); its log says:\n{log}", directory.display())]
    DidNotStart {
        /// The cluster.
        directory: PathBuf,
        /// How long was waited.
        seconds: u64,
        /// The end of the server's log.
        log: String,
    },
    /// The file system or a process refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb phrase.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A statement on the running server failed.
    #[error("cannot {action}: {source}")]
    Sql {
        /// What was being done, as a verb phrase.
        action: String,
        /// Why not.
        source: sqlx::Error,
    },
}

fn looked_at_lines(looked_at: &[String]) -> String {
    let lines: Vec<String> = looked_at.iter().map(|line| format!("  - {line}")).collect();
    format!("Looked at:\n{}", lines.join("\n"))
}

/// Turns an [`io::Error`] into one that says what was being done, and to what.
pub(super) trait Doing<T> {
    fn doing(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, action: &'static str, path: impl Into<PathBuf>) -> Result<T, Error> {
        self.map_err(|source| Error::Io {
            action,
            path: path.into(),
            source,
        })
    }
}
