//! Behind a transaction-mode pooler: nothing that it refuses, and nothing that needs a session.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use private_postgres::testing;
use serde_json::{Value, json};

use super::detour::Detour;
use super::support::{DEADLINE, Said, ended, line_with, run, signal, start};

/// What `PgBouncer` takes at the start of a connection; it refuses the rest.
/// <https://www.pgbouncer.org/config.html#ignore_startup_parameters>
const TAKEN: [&str; 7] = [
    "user",
    "database",
    "application_name",
    "client_encoding",
    "DateStyle",
    "TimeZone",
    "standard_conforming_strings",
];
/// What lives in a session: it would stay with a server connection that others get next.
const OF_SESSIONS: [&str; 7] = [
    "pg_advisory_lock",
    "pg_try_advisory_lock",
    "pg_advisory_unlock",
    "LISTEN \"",
    "SET SESSION",
    "TEMP TABLE",
    "', false)",
];

/// Stands where a pooler stands, and notes what one could not bear.
struct Pooler {
    url: String,
    complaints: Arc<Mutex<Vec<String>>>,
    _directory: tempfile::TempDir,
}

impl Pooler {
    fn before(pool: &sqlx::PgPool) -> Self {
        let Detour {
            url,
            entrance,
            server,
            directory,
        } = Detour::before(pool);
        let listener = UnixListener::bind(entrance).unwrap();
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&complaints);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (server, noted) = (UnixStream::connect(&server).unwrap(), Arc::clone(&noted));
                std::thread::spawn(move || pass(client.unwrap(), server, &noted));
            }
        });
        Self {
            url,
            complaints,
            _directory: directory,
        }
    }

    fn settings<'a>(&'a self, others: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let ours = [
            ("DATABASE_URL", self.url.as_str()),
            ("DATABASE_POOLER", "transaction"),
        ];
        [&ours, others].concat()
    }

    fn run(&self, arguments: &[&str]) -> Said {
        run(&self.settings(&[]), arguments)
    }
}

fn pass(mut client: UnixStream, mut server: UnixStream, complaints: &Mutex<Vec<String>>) {
    let Some(startup) = startup(&mut client) else {
        return;
    };
    let body = String::from_utf8_lossy(&startup[8..]).into_owned();
    let mut fields = body.split('\0');
    while let (Some(name), Some(_)) = (fields.next().filter(|name| !name.is_empty()), fields.next())
    {
        if !TAKEN.contains(&name) {
            complaints.lock().unwrap().push(format!("parameter {name}"));
            let what = format!("SFATAL\0C08P01\0Munsupported startup parameter: {name}\0\0");
            let length = u32::try_from(what.len() + 4).unwrap().to_be_bytes();
            drop(client.write_all(&[b"E", &length[..], what.as_bytes()].concat()));
            return;
        }
    }
    server.write_all(&startup).unwrap();
    let (mut answers, mut back) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    std::thread::spawn(move || std::io::copy(&mut answers, &mut back));
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = client.read(&mut buffer) {
        let sent = String::from_utf8_lossy(&buffer[..read]);
        // What a migration defines runs within one statement later, so on one connection of the server.
        let sent = sent.split("CREATE FUNCTION").next().unwrap_or_default();
        let mut complaints = complaints.lock().unwrap();
        complaints.extend(
            OF_SESSIONS
                .iter()
                .filter(|words| sent.contains(**words))
                .map(|words| format!("{words} in {sent}")),
        );
        drop(complaints);
        if server.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    drop(server.shutdown(std::net::Shutdown::Both));
}

/// The first message: its length, the protocol, and names with their values.
fn startup(client: &mut UnixStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    client.read_exact(&mut length).ok()?;
    let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
    client.read_exact(&mut rest).ok()?;
    Some([&length[..], &rest].concat())
}

#[tokio::test]
async fn every_command_works_through_a_pooler_that_gives_no_session() {
    let database = testing::empty_database(polar_jobs::migrate::migrator).await;
    let pooler = Pooler::before(&database.pool);
    for (arguments, code) in [
        (&["migrate"][..], 0),
        (&["schedules", "run", "prune"], 0),
        (&["worker", "--drain"], 0),
        (&["jobs", "list"], 0),
        // Billing is off, and no worker lives any more.
        (&["doctor"], 3),
    ] {
        let said = pooler.run(arguments);
        assert_eq!(
            said.code,
            Some(code),
            "{arguments:?}: {}{}",
            said.out,
            said.err
        );
    }
    let done = "SELECT count(*) FROM polar_jobs.jobs WHERE state = 'completed'";
    let done: i64 = sqlx::query_scalar(done)
        .fetch_one(&database.pool)
        .await
        .unwrap();
    assert_eq!(done, 1);

    let settings = pooler.settings(&[("APP_TOKEN", "a-token")]);
    let mut ingress = start(&settings, &["ingress", "--port", "0"]);
    let listens = line_with(ingress.stderr.take().unwrap(), "\"address\"");
    let logged: Value = serde_json::from_str(&listens).unwrap();
    let mut caller = TcpStream::connect(logged["address"].as_str().unwrap()).unwrap();
    let change =
        json!({"type": "organization.deleted", "data": {"id": uuid::Uuid::nil()}}).to_string();
    write!(
        caller,
        "POST /changes HTTP/1.1\r\nhost: here\r\nconnection: close\r\nauthorization: Bearer a-token\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{change}",
        change.len(),
    )
    .unwrap();
    caller.set_read_timeout(Some(DEADLINE)).unwrap();
    let answer = std::io::read_to_string(caller).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    signal(&ingress, "TERM");
    assert_eq!(ended(&mut ingress), Some(Some(0)));
    assert_eq!(*pooler.complaints.lock().unwrap(), [""; 0]);
}
