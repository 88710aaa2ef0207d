//! Connection URLs that mean the same to `sqlx`, to `psql` and to a shell.

use std::{fmt::Write, path::Path};

/// Through the socket in `directory`. Port and TLS are said outright, so that no `PGPORT` or `PGSSLMODE` around us
/// changes what the URL means.
pub(super) fn of_socket(directory: &Path, port: u16, database: &str) -> String {
    let host = encoded(directory.as_os_str().as_encoded_bytes());
    format!(
        "postgresql://postgres@localhost:{port}/{}?host={host}&sslmode=disable",
        encoded(database.as_bytes())
    )
}

/// The same server, another database.
#[cfg(any(test, feature = "testing"))]
pub(super) fn with_database(url: &str, database: &str) -> String {
    let (rest, query) = url
        .split_once('?')
        .map_or((url, None), |(rest, query)| (rest, Some(query)));
    let authority = rest.find("://").map_or(0, |at| at + 3);
    let end = rest[authority..]
        .find('/')
        .map_or(rest.len(), |at| authority + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{}{query}", &rest[..end], encoded(database.as_bytes()))
}

/// The shell line that opens `url` in `psql`.
pub fn psql_line(url: &str) -> String {
    format!("psql '{}'", url.replace('\'', "'\\''"))
}

fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            write!(text, "%{byte:02X}").expect("writing to a String does not fail");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{of_socket, psql_line, with_database};
    use std::path::Path;

    #[test]
    fn everything_unusual_is_encoded() {
        assert_eq!(
            of_socket(Path::new("/a b/ü&c/s"), 5432, "my db"),
            "postgresql://postgres@localhost:5432/my%20db?host=%2Fa%20b%2F%C3%BC%26c%2Fs&sslmode=disable"
        );
    }

    #[test]
    fn a_database_is_exchanged_in_every_form_of_url() {
        assert_eq!(
            with_database("postgres://u:p@h:1/old?sslmode=require", "new"),
            "postgres://u:p@h:1/new?sslmode=require"
        );
        assert_eq!(
            with_database("postgres://u:p@h", "new"),
            "postgres://u:p@h/new"
        );
        assert_eq!(
            with_database("postgresql:///old?host=/run/pg", "new"),
            "postgresql:///new?host=/run/pg"
        );
    }

    #[test]
    fn a_quote_cannot_leave_the_shell_word() {
        assert_eq!(psql_line("a'b"), "psql 'a'\\''b'");
    }
}
