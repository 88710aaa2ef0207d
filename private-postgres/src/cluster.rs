//! A data directory: made once, and only ever opened by the version that made it.

use super::{
    Durability,
    account::Account,
    binaries::Binaries,
    error::{Doing, Error},
    place::Place,
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

/// The major version that wrote a data directory; `None` where there is no data yet.
pub(super) fn version_of(data: &Path) -> Result<Option<u32>, Error> {
    let file = data.join("PG_VERSION");
    if !file.try_exists().doing("look for", &file)? {
        return Ok(None);
    }
    let text = fs::read_to_string(&file).doing("read", &file)?;
    text.trim()
        .parse()
        .map(Some)
        .map_err(std::io::Error::other)
        .doing("read the version in", &file)
}

/// Makes the cluster beside its place and moves it there whole: a run killed half-way leaves no half cluster.
pub(super) fn create(
    place: &Place,
    binaries: &Binaries,
    account: &Account,
    durability: Durability,
) -> Result<(), Error> {
    let unfinished = place.base.join("data.unfinished");
    if unfinished.try_exists().doing("look for", &unfinished)? {
        fs::remove_dir_all(&unfinished).doing("remove", &unfinished)?;
    }
    fs::create_dir(&unfinished).doing("create", &unfinished)?;
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o700))
        .doing("close", &unfinished)?;
    account.own(&unfinished)?;
    initdb(&unfinished, binaries, account, durability)?;
    fs::rename(&unfinished, &place.data).doing("move the new cluster to", &place.data)?;
    let base = fs::File::open(&place.base).doing("open", &place.base)?;
    base.sync_all().doing("sync", &place.base)
}

fn initdb(
    data: &Path,
    binaries: &Binaries,
    account: &Account,
    durability: Durability,
) -> Result<(), Error> {
    let mut command = account.command(binaries.program("initdb"), binaries.libraries.as_deref());
    command.arg("-D").arg(data);
    // Trust is for the socket alone, which nobody else can reach. Without -E and --locale a container that sets no
    // LANG would get SQL_ASCII; "C" exists everywhere.
    command.args([
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--data-checksums",
    ]);
    if durability == Durability::Throwaway {
        command.arg("--no-sync");
    }
    let output = command.output().doing("run", binaries.program("initdb"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if said.contains("could not look up effective user ID") {
        return Err(Error::NoPasswdEntry);
    }
    Err(Error::Program {
        program: "initdb",
        directory: data.to_path_buf(),
        output: said,
    })
}
