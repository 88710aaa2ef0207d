//! Through apt: the distribution's own packages, downloaded and unpacked without being installed, which needs neither
//! root nor any change of the system. apt verifies the signatures.

use super::{Unpacked, run};
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Only just-in-time compilation wants these, and they are larger than Postgres itself; and a C library beside the
/// system's own would not fit its loader.
const UNWANTED: [&str; 5] = ["libllvm", "libz3", "libc6", "libc-", "libperl"];

pub(super) fn unpacked(directory: &Path) -> Option<Unpacked> {
    let versions = fs::read_dir(directory.join("usr/lib/postgresql"))
        .ok()?
        .flatten();
    let bin = versions.map(|entry| entry.path().join("bin")).max()?;
    let multiarch = ["usr/lib", "lib"].map(|library| directory.join(library));
    let below = multiarch
        .iter()
        .flat_map(|library| fs::read_dir(library).into_iter().flatten().flatten());
    let libraries: Vec<PathBuf> = below
        .filter(|entry| entry.file_name().to_string_lossy().contains("-linux-"))
        .map(|entry| entry.path())
        .collect();
    let joined: OsString = std::env::join_paths(libraries).ok()?;
    Some(Unpacked {
        bin,
        libraries: (!joined.is_empty()).then_some(joined),
    })
}

pub(super) fn fetch(path: &[PathBuf], into: &Path) -> Result<(), String> {
    if !Path::new("/usr/share/zoneinfo/UTC").exists() {
        // Debian's Postgres reads the system's time zones at this place and knows not even UTC without them.
        return Err("there are no time zones in /usr/share/zoneinfo (package tzdata)".to_owned());
    }
    let mut apt = Apt::new(path, into)?;
    // The system's package lists may be missing, as in small images, or name what is no longer offered.
    if apt.download().is_err() {
        apt.use_lists_of_our_own()?;
        apt.download()?;
    }
    unpack(into)?;
    fs::remove_dir_all(&apt.state)
        .map_err(|error| format!("cannot remove {}: {error}", apt.state.display()))
}

/// apt, with a cache that we may write, and package lists of our own where the system's will not do.
struct Apt {
    path: Vec<PathBuf>,
    into: PathBuf,
    state: PathBuf,
    lists: Option<PathBuf>,
}

impl Apt {
    fn new(path: &[PathBuf], into: &Path) -> Result<Apt, String> {
        run::program(path, "dpkg")?;
        let state = into.join("state");
        fs::create_dir_all(state.join("cache/archives/partial"))
            .map_err(|error| format!("cannot write below {}: {error}", into.display()))?;
        Ok(Apt {
            path: path.to_vec(),
            into: into.to_path_buf(),
            state,
            lists: None,
        })
    }

    fn use_lists_of_our_own(&mut self) -> Result<(), String> {
        let lists = self.state.join("lists");
        fs::create_dir_all(lists.join("partial"))
            .map_err(|error| format!("cannot write below {}: {error}", self.into.display()))?;
        self.lists = Some(lists);
        self.run("apt-get", &["update", "-q", "-q"]).map(drop)
    }

    fn download(&self) -> Result<(), String> {
        let server = self.server_package()?;
        let simulated = self.run(
            "apt-get",
            &["install", "-s", "--no-install-recommends", &server],
        )?;
        let client = server.replace("postgresql-", "postgresql-client-");
        let names: Vec<String> = wanted(&simulated).chain([client, server]).collect();
        let mut arguments = vec!["download", "-q", "-q"];
        arguments.extend(names.iter().map(String::as_str));
        self.run("apt-get", &arguments).map(drop)
    }

    /// The package that `postgresql` stands for, such as `postgresql-15`.
    fn server_package(&self) -> Result<String, String> {
        let said = self.run("apt-cache", &["depends", "postgresql"])?;
        let named = said
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: postgresql-"));
        named
            .map(|version| format!("postgresql-{version}"))
            .ok_or_else(|| "apt knows no `postgresql`".to_owned())
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(run::program(&self.path, program)?);
        command
            .env("LC_ALL", "C")
            .args(["-o", "Acquire::Retries=1", "-o", "APT::Sandbox::User="]);
        command
            .arg("-o")
            .arg(format!("Dir::Cache={}", self.state.join("cache").display()));
        command.args(["-o", "Debug::NoLocking=1"]);
        if let Some(lists) = &self.lists {
            command
                .arg("-o")
                .arg(format!("Dir::State::Lists={}", lists.display()));
        }
        command.args(arguments);
        run::within(
            command,
            &self.into,
            &format!("{program} {}", arguments.first().unwrap_or(&"")),
        )
    }
}

/// The libraries that an installation would add. What is installed already is found where it is.
fn wanted(simulated: &str) -> impl Iterator<Item = String> {
    let added = simulated
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split_whitespace().next());
    let library = |name: &&str| name.starts_with("lib") || name.starts_with("zlib");
    let unwanted = |name: &str| {
        UNWANTED.iter().any(|start| name.starts_with(start)) || name.ends_with("-perl")
    };
    added
        .filter(library)
        .filter(move |name| !unwanted(name))
        .map(str::to_owned)
}

fn unpack(into: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", into.display());
    for entry in fs::read_dir(into).map_err(failed)? {
        let package = entry.map_err(failed)?.path();
        if package
            .extension()
            .is_some_and(|extension| extension == "deb")
        {
            let mut dpkg = Command::new("dpkg");
            dpkg.arg("-x").arg(&package).arg(into);
            run::to_end(dpkg, "dpkg -x")?;
            fs::remove_file(&package).map_err(failed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::wanted;

    #[test]
    fn only_the_libraries_that_the_server_loads_are_downloaded() {
        let simulated = "Reading package lists...\n\
            Inst libpq5 (15.18-0+deb12u1 Debian:12 [amd64])\n\
            Inst libllvm14 (1:14.0.6-12 Debian:12 [amd64])\n\
            Inst libjson-perl (4.10 Debian:12 [all])\n\
            Inst postgresql-common (248 Debian:12 [all])\n\
            Inst zlib1g [1:1.2] (1:1.3 Debian:12 [amd64])\n\
            Conf libpq5 (15.18-0+deb12u1 Debian:12 [amd64])\n";
        assert_eq!(wanted(simulated).collect::<Vec<_>>(), ["libpq5", "zlib1g"]);
    }
}
