//! Which Postgres is taken, and what is said when there is none that will do.

use crate::scratch::{directory, nothing, options};
use private_postgres::{Error, Search, Server};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

fn refusal(started: Result<Server, Error>) -> Error {
    match started {
        Ok(server) => panic!("started {}", server.origin()),
        Err(error) => error,
    }
}

/// An installation that only knows its version.
fn installation(bin: &Path, version: &str) {
    fs::create_dir_all(bin).unwrap();
    for program in ["postgres", "initdb"] {
        let file = bin.join(program);
        fs::write(
            &file,
            format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n"),
        )
        .unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn nothing_anywhere_is_one_message_with_three_remedies_and_what_was_looked_at() {
    let (home, cluster) = (directory(), directory());
    let error = refusal(Server::start_from(
        &options(cluster.path()),
        &nothing(home.path()),
    ));
    let said = error.to_string();
    for part in [
        "apt-get install -y postgresql",
        "brew install postgresql@18",
        "DATABASE_URL=",
        "PATH",
        "pg_config",
    ] {
        assert!(said.contains(part), "`{part}` is missing in: {said}");
    }
}

#[test]
fn a_client_that_is_not_there_is_named() {
    let (home, cluster) = (directory(), directory());
    let search = Search {
        clients: private_postgres::Client::ALL.to_vec(),
        ..nothing(home.path())
    };
    let said = refusal(Server::start_from(&options(cluster.path()), &search)).to_string();
    for part in ["Npm: there is no `npm`", "Pip: there is no `pip`"] {
        assert!(said.contains(part), "`{part}` is missing in: {said}");
    }
}

#[test]
fn an_explicit_setting_is_used_or_refused_and_never_overruled() {
    let (home, cluster) = (directory(), directory());
    let search = Search {
        explicit: Some(home.path().join("no-such")),
        ..Search::of_environment().unwrap()
    };
    let error = refusal(Server::start_from(&options(cluster.path()), &search));
    assert!(matches!(error, Error::Setting { .. }), "{error}");
    assert!(error.to_string().contains("no-such"), "{error}");
}

#[test]
fn a_version_that_is_too_old_is_refused() {
    let (home, cluster) = (directory(), directory());
    let bin = home.path().join("13/bin");
    installation(&bin, "13.9");
    let explicit = Search {
        explicit: Some(bin),
        ..nothing(home.path())
    };
    let said = refusal(Server::start_from(&options(cluster.path()), &explicit)).to_string();
    assert!(
        said.contains("PostgreSQL 13.9 is too old, 14 or newer is needed"),
        "{said}"
    );
    let searched = Search {
        versioned: vec![home.path().to_path_buf()],
        ..nothing(home.path())
    };
    let said = refusal(Server::start_from(&options(cluster.path()), &searched)).to_string();
    assert!(said.contains("too old"), "{said}");
}

#[test]
fn data_of_another_major_version_is_named_before_the_server_sees_it() {
    let (home, cluster) = (directory(), directory());
    installation(&home.path().join("18/bin"), "18.4");
    fs::create_dir(cluster.path().join("data")).unwrap();
    fs::write(cluster.path().join("data/PG_VERSION"), "15\n").unwrap();
    let search = Search {
        versioned: vec![home.path().to_path_buf()],
        ..nothing(home.path())
    };
    let said = refusal(Server::start_from(&options(cluster.path()), &search)).to_string();
    assert!(
        said.contains("data directory is for 15, found 18"),
        "{said}"
    );
}
