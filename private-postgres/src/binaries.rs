//! A directory with a usable Postgres in it: the programs, their version and where they came from.

use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The oldest major version that the schema runs on.
pub(super) const OLDEST: u32 = 14;

/// Programs that belong together.
#[derive(Debug, Clone)]
pub(super) struct Binaries {
    /// Where `postgres`, `initdb` and `pg_ctl` are.
    pub(super) directory: PathBuf,
    /// `LD_LIBRARY_PATH` they need, when their libraries are not installed.
    pub(super) libraries: Option<OsString>,
    /// Major version, such as 18.
    pub(super) major: u32,
    /// One line for people: version, place and how it was found.
    pub(super) origin: String,
}

impl Binaries {
    /// Checks a directory. `found_by` completes the sentence "Postgres 18.4 from DIR, ..". The error is a clause
    /// about the directory.
    pub(super) fn inspect(
        directory: &Path,
        libraries: Option<OsString>,
        found_by: &str,
    ) -> Result<Binaries, String> {
        // Links such as /usr/local/bin/postgres lead to where the other programs and the shared files are.
        let postgres = directory.join("postgres");
        let postgres = fs::canonicalize(&postgres).map_err(|_| "no `postgres` there".to_owned())?;
        let directory = postgres.parent().unwrap_or(directory).to_path_buf();
        if !directory.join("initdb").is_file() {
            return Err("`postgres` is there, `initdb` is not".to_owned());
        }
        let (major, version) = version_of(&postgres, libraries.as_deref())?;
        if major < OLDEST {
            return Err(format!(
                "PostgreSQL {version} is too old, {OLDEST} or newer is needed"
            ));
        }
        let origin = format!(
            "PostgreSQL {version} from {}, {found_by}",
            directory.display()
        );
        Ok(Binaries {
            directory,
            libraries,
            major,
            origin,
        })
    }

    /// The path of one program.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn version_of(postgres: &Path, libraries: Option<&OsStr>) -> Result<(u32, String), String> {
    let mut command = Command::new(postgres);
    command.arg("--version");
    if let Some(libraries) = libraries {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    let output = command
        .output()
        .map_err(|error| format!("`postgres --version` cannot run: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`postgres --version` fails: {}", said.trim()));
    }
    let said = String::from_utf8_lossy(&output.stdout);
    parse_version(&said).ok_or_else(|| format!("`postgres --version` says `{}`", said.trim()))
}

/// From `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` to (15, "15.18").
fn parse_version(said: &str) -> Option<(u32, String)> {
    let version = said.split_whitespace().nth(2)?;
    let digits = version
        .split(|letter: char| !letter.is_ascii_digit())
        .next()?;
    Some((digits.parse().ok()?, version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::parse_version;

    #[test]
    fn versions_are_read_from_every_usual_form() {
        let debian = parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n");
        assert_eq!(debian, Some((15, "15.18".to_owned())));
        assert_eq!(
            parse_version("postgres (PostgreSQL) 19beta1\n"),
            Some((19, "19beta1".to_owned()))
        );
        assert_eq!(
            parse_version("postgres (PostgreSQL) 9.6.24"),
            Some((9, "9.6.24".to_owned()))
        );
        assert_eq!(parse_version("busybox"), None);
    }
}
