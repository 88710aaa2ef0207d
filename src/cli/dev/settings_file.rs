//! `dev.env`: what `dev` brought, as settings, so that any other shell or program can talk to it. A shell reads it, and so
//! does whatever reads `.env`.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::config::{ConfigError, Environment};

/// The setting that says which `dev` wrote the others: the place of its data directory.
const WRITTEN_BY: &str = "POLAR_JOBS_DEV";

/// Refuses settings that the file of a `dev` in another place brought: this one would play into its database.
pub(super) fn refuse_of_another(settings: Environment) -> Result<Environment, ConfigError> {
    match settings.text(WRITTEN_BY)? {
        None => Ok(settings),
        Some(place) => Err(ConfigError::new(
            WRITTEN_BY,
            format!(
                "is set: this shell has read the dev.env of a `polar-jobs dev` in {place}, whose database and Polar this one would use"
            ),
            format!("another shell, which has not read it, or --data-dir {place}"),
        )),
    }
}

/// What brings a setting that is missing into a shell, where a `dev` in the usual place has written it.
pub(in crate::cli) fn settings_for(wrong: &ConfigError) -> Option<String> {
    let path = path(Path::new("./var"));
    let written = Environment::of_file(&path).ok()?;
    let helps = wrong.is_missing() && written.text(wrong.variable).ok()?.is_some();
    helps.then(|| reading(&path))
}

/// What a shell types to have the settings of the file.
pub(super) fn reading(path: &Path) -> String {
    format!("set -a; . {}; set +a", shell_path(path))
}

/// Where the file lies.
pub(in crate::cli) fn path(data: &Path) -> PathBuf {
    data.join("dev.env")
}

/// Replaces the file in one step, so that nobody reads half of it, and returns its place.
pub(super) fn write(data: &Path, settings: &[(&str, String)]) -> io::Result<PathBuf> {
    let path = path(data);
    let mut text = "# Written by `polar-jobs dev` at each start; what it was given by its environment is not repeated here.\n".to_owned();
    let place = std::path::absolute(data)?.display().to_string();
    for (name, value) in settings.iter().chain([&(WRITTEN_BY, place)]) {
        // Writing into a string cannot fail.
        let _written = writeln!(text, "{name}={}", quoted(value));
    }
    fs::create_dir_all(data)?;
    let draft = data.join(".dev.env.new");
    let mut file = private(&draft)?;
    file.write_all(text.as_bytes())?;
    drop(file);
    fs::rename(&draft, &path)?;
    Ok(path)
}

/// The path as a shell's `.` command finds it: without a slash it would look along the `PATH`.
fn shell_path(path: &Path) -> String {
    let shown = path.display().to_string();
    let shown = if shown.contains('/') {
        shown
    } else {
        format!("./{shown}")
    };
    let plain = |character: char| character.is_ascii_alphanumeric() || "/._-".contains(character);
    if shown.chars().all(plain) {
        shown
    } else {
        quoted(&shown)
    }
}

/// In single quotes nothing has a meaning but their end.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// A new file that only its owner may read.
fn private(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}
