//! `.env` of the working directory: settings of a checkout, which every command reads so that no shell has to be prepared.

use std::io::ErrorKind;
use std::path::Path;

use super::{ConfigError, Environment};

/// What the messages call the file.
const NAME: &str = ".env";
const ALLOWED: &str = "lines NAME=value, the value in single quotes where it holds blanks, #, $ or \\; comments begin with #";

/// Reads a file of `NAME=value` lines; one that does not exist says nothing.
pub(super) fn read(path: &Path) -> Result<Environment, ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Environment::default()),
        Err(error) => {
            return Err(ConfigError::new(
                NAME,
                format!("cannot be read: {error}"),
                "a text file that this user may read, or none",
            ));
        }
    };
    dotenvy::from_read_iter(text.as_bytes())
        .collect::<Result<Environment, _>>()
        .map_err(|error| ConfigError::new(NAME, fault(&text, &error), ALLOWED))
}

/// Where the text is wrong. The line itself stays out of the message: it may hold a secret.
fn fault(text: &str, error: &dotenvy::Error) -> String {
    let dotenvy::Error::LineParse(line, _) = error else {
        return "is not understood".to_owned();
    };
    let first = line.lines().next().unwrap_or_default().trim_end();
    // The error holds the line, or only its value.
    match text
        .lines()
        .position(|line| line.trim_end().ends_with(first))
    {
        Some(place) => format!("is not understood at line {}", place + 1),
        None => "has a line that is not understood".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::read;
    use crate::config::Environment;

    fn file(text: &str) -> Result<Environment, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|wrong| wrong.to_string())
    }

    #[test]
    fn quotes_comments_and_export_are_read_as_a_shell_reads_them() {
        let read =
            file("# settings\nexport PORT=9\nAPP_TOKEN='a # b'\nBIND=\"::1\" # here\nMAIL_URL=\n")
                .unwrap();
        assert_eq!(read.text("PORT").unwrap(), Some("9"));
        assert_eq!(read.text("APP_TOKEN").unwrap(), Some("a # b"));
        assert_eq!(read.text("BIND").unwrap(), Some("::1"));
        assert_eq!(read.text("MAIL_URL").unwrap(), None);
    }

    #[test]
    fn a_line_that_is_no_setting_is_named_by_its_number_and_never_repeated() {
        let wrong = file("PORT=9\n\nAPP_TOKEN=one secret word\n").err().unwrap();
        assert!(
            wrong.starts_with(".env is not understood at line 3"),
            "{wrong}"
        );
        assert!(!wrong.contains("secret"), "{wrong}");
    }

    #[test]
    fn no_file_is_no_setting() {
        let directory = tempfile::tempdir().unwrap();
        let read = read(&directory.path().join(".env")).unwrap();
        assert_eq!(read.text("PORT").unwrap(), None);
    }
}
