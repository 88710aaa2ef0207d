//! Who starts the server, who stops it, and what happens when nobody gets the chance to.

use crate::free_port::free_port;
use crate::scratch::{directory, options};
use private_postgres::{Options, Server, psql_line};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use std::{
    env,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    str::FromStr,
    time::{Duration, Instant},
};

/// Set for a copy of this test program that starts a server, says so, and waits to be killed.
const OWNER: &str = "POLAR_JOBS_TEST_OWNER_OF";

async fn scalar(url: &str, query: &'static str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar(query)
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

async fn execute(url: &str, statement: &'static str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query(statement)
        .execute(&mut connection)
        .await
        .unwrap();
}

/// Not a test of its own: what the copy of this program does.
#[test]
fn owner_in_another_process() {
    let Some(directory) = env::var_os(OWNER) else {
        return;
    };
    let server = Server::start(&Options::durable(Path::new(&directory))).unwrap();
    println!(
        "\nowner={} url={}",
        server.is_owner(),
        server.url("postgres")
    );
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

/// Another process that owns a durable server in `directory`, and the server's URL.
fn owner(directory: &Path) -> (Child, String) {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "lifetime::owner_in_another_process",
            "--nocapture",
        ])
        .env(OWNER, directory);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let url = lines.find_map(|line| line.strip_prefix("owner=true url=").map(str::to_owned));
    (
        child,
        url.expect("the other process says where its server is"),
    )
}

fn server_pid(directory: &Path) -> Option<String> {
    let text = std::fs::read_to_string(directory.join("data/postmaster.pid")).ok()?;
    text.lines().next().map(str::to_owned)
}

fn parent_of(pid: &str) -> String {
    let output = Command::new("ps")
        .args(["-o", "ppid=", "-p", pid])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn kill9(pid: &str) {
    assert!(
        Command::new("kill")
            .args(["-9", pid])
            .status()
            .unwrap()
            .success()
    );
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "waited in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn data_is_there_again_after_a_stop() {
    let cluster = directory();
    let server = Server::start(&options(cluster.path())).unwrap();
    assert!(server.is_owner());
    assert!(
        server.origin().starts_with("PostgreSQL "),
        "{}",
        server.origin()
    );
    assert!(server.binaries().join("initdb").is_file());
    let url = server.url("postgres");
    execute(&url, "create table kept as select 7::bigint as n").await;
    drop(server);
    assert!(
        PgConnection::connect(&url).await.is_err(),
        "a dropped server is stopped"
    );

    let again = Server::start(&options(cluster.path())).unwrap();
    assert_eq!(again.url("postgres"), url);
    assert_eq!(scalar(&url, "select n from kept").await, 7);
    again.restart().unwrap();
    assert_eq!(scalar(&url, "select n from kept").await, 7);
}

#[tokio::test]
async fn a_second_starter_is_a_guest_and_stops_nothing() {
    let cluster = directory();
    let host = Server::start(&options(cluster.path())).unwrap();
    let guest = Server::start(&options(cluster.path())).unwrap();
    assert!(host.is_owner() && !guest.is_owner());
    assert_eq!(guest.url("postgres"), host.url("postgres"));
    assert!(guest.restart().is_err() && guest.kill9().is_err());
    guest.stop().unwrap();
    drop(guest);
    assert_eq!(scalar(&host.url("postgres"), "select 1::bigint").await, 1);
}

#[tokio::test]
async fn the_server_ends_with_its_owner_even_by_kill_9_and_keeps_every_commit() {
    let cluster = directory();
    let (mut other, url) = owner(cluster.path());
    execute(&url, "create table kept as select 1::bigint as n").await;
    other.kill().unwrap();
    other.wait().unwrap();
    wait_until("the server has stopped by itself", || {
        server_pid(cluster.path()).is_none()
    });
    let server = Server::start(&Options::durable(cluster.path())).unwrap();
    assert_eq!(
        scalar(&server.url("postgres"), "select count(*) from kept").await,
        1
    );
}

#[tokio::test]
async fn everything_killed_at_once_is_recovered() {
    let cluster = directory();
    let (mut other, url) = owner(cluster.path());
    execute(&url, "create table kept as select 1::bigint as n").await;
    let pid = server_pid(cluster.path()).unwrap();
    kill9(&parent_of(&pid));
    kill9(&pid);
    other.kill().unwrap();
    other.wait().unwrap();
    let server = Server::start(&Options::durable(cluster.path())).unwrap();
    assert_eq!(
        scalar(&server.url("postgres"), "select count(*) from kept").await,
        1
    );
}

/// A session that was about to begin when its server was killed keeps the socket open for a moment.
#[tokio::test]
async fn a_killed_server_is_started_again_although_its_socket_still_answers() {
    let cluster = directory();
    let server = Server::start(&options(cluster.path())).unwrap();
    let url = server.url("postgres");
    let at = PgConnectOptions::from_str(&url).unwrap();
    let file = format!(".s.PGSQL.{}", at.get_port());
    let socket = at.get_socket().unwrap().join(file);
    server.kill9().unwrap();
    std::fs::remove_file(&socket).unwrap();
    let survivor = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let hangs_up = std::thread::spawn(move || drop(survivor.accept()));
    server.restart().unwrap();
    hangs_up.join().unwrap();
    assert_eq!(scalar(&url, "select 1::bigint").await, 1);
}

#[tokio::test]
async fn a_server_that_survived_its_owner_and_its_watch_is_replaced() {
    let cluster = directory();
    let (mut other, url) = owner(cluster.path());
    execute(&url, "create table kept as select 1::bigint as n").await;
    let orphan = server_pid(cluster.path()).unwrap();
    let watch = parent_of(&orphan);
    // The watch's other half waits for the pipe's end; it must not get to act.
    let halves = Command::new("ps")
        .args(["-o", "pid=", "--ppid", &watch])
        .output()
        .unwrap();
    let halves = String::from_utf8(halves.stdout).unwrap();
    for half in halves
        .split_whitespace()
        .filter(|pid| *pid != orphan)
        .chain([watch.as_str()])
    {
        kill9(half);
    }
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(
        scalar(&url, "select count(*) from kept").await,
        1,
        "the orphan still runs"
    );
    let server = Server::start(&Options::durable(cluster.path())).unwrap();
    assert_ne!(server_pid(cluster.path()), Some(orphan));
    assert_eq!(
        scalar(&server.url("postgres"), "select count(*) from kept").await,
        1
    );
}

#[tokio::test]
async fn long_and_odd_paths_work_for_sqlx_and_psql() {
    let parent = directory();
    let cluster = parent
        .path()
        .join("a name with blanks & an umlaut ü".repeat(3))
        .join("pg");
    let server = Server::start(&options(&cluster)).unwrap();
    assert_eq!(scalar(&server.url("postgres"), "select 1::bigint").await, 1);
    let short = parent.path().join("blank &'ü");
    let server = Server::start(&options(&short)).unwrap();
    assert_eq!(scalar(&server.url("postgres"), "select 1::bigint").await, 1);
    let psql = server.binaries().join("psql");
    if psql.is_file() {
        let line =
            psql_line(&server.url("postgres")).replacen("psql", &psql.display().to_string(), 1);
        let output = Command::new("sh")
            .args(["-c", &format!("{line} -Atc 'select 41 + 1'")])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "42");
    }
}

#[tokio::test]
async fn data_asked_for_in_a_closed_directory_is_still_served() {
    use std::{fs, os::unix::fs::PermissionsExt};
    let closed = directory();
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let server = Server::start(&options(&closed.path().join("pg"))).unwrap();
    assert_eq!(scalar(&server.url("postgres"), "select 1::bigint").await, 1);
    let place = server.directory().to_path_buf();
    drop(server);
    if !place.starts_with(closed.path().canonicalize().unwrap()) {
        fs::remove_dir_all(place).unwrap();
    }
}

#[tokio::test]
async fn a_port_is_opened_on_this_machine_alone_when_asked_for() {
    let cluster = directory();
    let free = free_port();
    let settings = vec![("work_mem".to_owned(), "7MB".to_owned())];
    let server = Server::start(&Options {
        port: Some(free),
        settings,
        ..options(cluster.path())
    })
    .unwrap();
    let tcp = format!("postgresql://postgres@127.0.0.1:{free}/postgres");
    assert_eq!(
        scalar(
            &tcp,
            "select setting::bigint from pg_settings where name = 'work_mem'"
        )
        .await,
        7 * 1024
    );
    let listens = "select count(*) from pg_settings where name = 'listen_addresses' and setting = '127.0.0.1'";
    assert_eq!(scalar(&server.url("postgres"), listens).await, 1);
}
