//! Finding a Postgres on this machine: an explicit setting first and alone, then the usual places, then what was
//! fetched before.

use super::{
    account::{Account, own_user},
    binaries::Binaries,
    error::Error,
    fetch::{self, Client},
    place,
};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where installations keep one directory per version, each with a `bin`: Debian, Homebrew on both processors,
/// Postgres.app, the packages of the Postgres project for Red Hat's family.
const VERSIONED: [&str; 5] = [
    "/usr/lib/postgresql",
    "/opt/homebrew/opt",
    "/usr/local/opt",
    "/Applications/Postgres.app/Contents/Versions",
    "/usr",
];

/// Where to look for a Postgres. [`Search::of_environment`] is what programs use; the fields are public so that the
/// search can be narrowed where the machine must not matter.
#[derive(Debug, Clone)]
pub struct Search {
    /// `POSTGRES_BIN`: used or refused, never fallen through.
    pub explicit: Option<PathBuf>,
    /// The directories of `PATH`; `pg_config` is looked for here as well.
    pub path: Vec<PathBuf>,
    /// Directories with one subdirectory per installed version, each with a `bin`.
    pub versioned: Vec<PathBuf>,
    /// Where fetched copies are kept.
    pub cache: PathBuf,
    /// Through what one may be fetched where none is found, in this order; `PATH` must hold the client.
    pub clients: Vec<Client>,
}

impl Search {
    /// The places that this process's environment and the usual installations name.
    ///
    /// # Errors
    /// When this process cannot learn who it is.
    pub fn of_environment() -> Result<Search, Error> {
        let cache = fetch::default_cache(own_user()?);
        Ok(Search {
            explicit: env::var_os("POSTGRES_BIN")
                .filter(|value| !value.is_empty())
                .map(PathBuf::from),
            path: env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect(),
            versioned: VERSIONED.map(PathBuf::from).to_vec(),
            cache,
            clients: Client::ALL.to_vec(),
        })
    }

    /// The first suitable Postgres: one of major version `wanted` where data of that version waits, else the best.
    pub(super) fn find(&self, wanted: Option<u32>, account: &Account) -> Result<Finding, Error> {
        if let Some(directory) = &self.explicit {
            let binaries =
                inspect(directory, "as POSTGRES_BIN says", account).map_err(|reason| {
                    Error::Setting {
                        directory: directory.clone(),
                        reason,
                    }
                })?;
            return Ok(Finding {
                suitable: vec![binaries],
                looked_at: Vec::new(),
            });
        }
        let mut finding = Finding {
            suitable: Vec::new(),
            looked_at: Vec::new(),
        };
        self.look_on_path(&mut finding, account);
        for parent in &self.versioned {
            finding.note_directories(
                &format!("{}/*/bin", parent.display()),
                &versions_below(parent),
                account,
            );
        }
        finding.note_cached(&self.cache, &self.clients);
        finding
            .suitable
            .sort_by_key(|found| Some(found.major) != wanted);
        Ok(finding)
    }

    fn look_on_path(&self, finding: &mut Finding, account: &Account) {
        let holds = |name: &str| {
            self.path
                .iter()
                .find(|directory| directory.join(name).is_file())
                .cloned()
        };
        finding.note_directories("PATH", holds("postgres").as_slice(), account);
        let answered =
            holds("pg_config").and_then(|directory| bindir(&directory.join("pg_config")));
        finding.note_directories("pg_config --bindir", answered.as_slice(), account);
    }
}

/// What a search came upon.
#[derive(Debug)]
pub(super) struct Finding {
    /// Usable ones, best first.
    pub(super) suitable: Vec<Binaries>,
    /// What was looked at in vain, one line each.
    pub(super) looked_at: Vec<String>,
}

impl Finding {
    fn note_cached(&mut self, cache: &Path, clients: &[Client]) {
        let cached = fetch::cached(cache, clients);
        if cached.is_empty() {
            self.looked_at.push(format!("{}: nothing", cache.display()));
        }
        for found in cached {
            match found {
                Ok(binaries) => self.suitable.push(binaries),
                Err(reason) => self
                    .looked_at
                    .push(format!("{}: {reason}", cache.display())),
            }
        }
    }

    fn note_directories(&mut self, place: &str, directories: &[PathBuf], account: &Account) {
        if directories.is_empty() {
            self.looked_at.push(format!("{place}: nothing"));
        }
        for directory in directories {
            match inspect(directory, &format!("found by {place}"), account) {
                Ok(binaries) => self.suitable.push(binaries),
                Err(reason) => self
                    .looked_at
                    .push(format!("{place}: {}: {reason}", directory.display())),
            }
        }
    }
}

fn inspect(directory: &Path, found_by: &str, account: &Account) -> Result<Binaries, String> {
    let binaries = Binaries::inspect(directory, None, found_by)?;
    if account.steps_down() && place::is_closed(&binaries.program("postgres")) {
        return Err(
            "lies in a directory closed to other users, and PostgreSQL does not run as root"
                .to_owned(),
        );
    }
    Ok(binaries)
}

/// The `bin` directories below `parent` that hold a server, highest version first.
fn versions_below(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<(u32, PathBuf)> = entries
        .map(|entry| {
            (
                number_in(&entry.file_name().to_string_lossy()),
                entry.path().join("bin"),
            )
        })
        .filter(|(_, bin)| bin.join("postgres").is_file())
        .collect();
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, bin)| bin).collect()
}

/// The version in a name such as `18`, `postgresql@18`, `pgsql-18` or `9.6`; 0 without one.
fn number_in(name: &str) -> u32 {
    let from_digit = name.trim_start_matches(|letter: char| !letter.is_ascii_digit());
    from_digit
        .split(|letter: char| !letter.is_ascii_digit())
        .next()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

fn bindir(pg_config: &Path) -> Option<PathBuf> {
    let output = Command::new(pg_config).arg("--bindir").output().ok()?;
    let directory = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    directory.join("postgres").is_file().then_some(directory)
}

#[cfg(test)]
mod tests {
    use super::number_in;

    #[test]
    fn directory_names_are_ordered_as_numbers() {
        assert_eq!(
            ["18", "postgresql@17", "pgsql-16", "9.6", "postgresql"].map(number_in),
            [18, 17, 16, 9, 0]
        );
    }
}
