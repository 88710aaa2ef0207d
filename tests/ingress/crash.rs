//! The whole process dies: what it acknowledged is in the table.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use private_postgres::testing::database;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::free_port::free_port;
use crate::support::{Delivery, SECRET, count, try_send, until};

/// The real program, as an operator starts it, on a free port.
pub(crate) async fn start(url: &str) -> (Child, SocketAddr) {
    start_with(url, &[]).await
}

/// The same with further settings.
pub(crate) async fn start_with(url: &str, settings: &[(&str, &str)]) -> (Child, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let child = Command::new(env!("CARGO_BIN_EXE_polar-jobs"))
        .arg("ingress")
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .env_clear()
        .env("DATABASE_URL", url)
        .env("PORT", address.port().to_string())
        .env("POLAR_WEBHOOK_SECRET", SECRET)
        .envs(settings.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    until("the program answers", || async {
        try_send(address, "GET", "/health", &[], b"").await.is_ok()
    })
    .await;
    (child, address)
}

/// Delivers until the ingress is gone; returns the ids of what was acknowledged.
async fn deliver_until_gone(address: SocketAddr, accepted: Arc<AtomicUsize>) -> Vec<String> {
    let mut acknowledged = Vec::new();
    loop {
        let delivery = Delivery::grant();
        match delivery.try_send(address).await {
            Ok(answer) if answer.status == 202 => {
                accepted.fetch_add(1, Ordering::Relaxed);
                acknowledged.push(delivery.id);
            }
            Ok(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
            Err(_) => return acknowledged,
        }
    }
}

/// Lets 64 clients deliver until the ingress is gone, and returns them once more than `accepted` deliveries were.
async fn clients_with(accepted: usize, address: SocketAddr) -> Vec<JoinHandle<Vec<String>>> {
    let so_far = Arc::new(AtomicUsize::new(0));
    let clients = (0..64).map(|_| tokio::spawn(deliver_until_gone(address, Arc::clone(&so_far))));
    let clients = clients.collect();
    until("enough are accepted", || async {
        so_far.load(Ordering::Relaxed) > accepted
    })
    .await;
    clients
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_64_clients_everything_acknowledged_is_there_with_its_job() {
    let database = database(polar_jobs::migrate::migrator).await;
    let (mut child, address) = start(&database.url).await;
    let clients = clients_with(1000, address).await;
    child.kill().await.unwrap();
    let mut acknowledged = Vec::new();
    for client in clients {
        acknowledged.extend(client.await.unwrap());
    }
    let there: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM polar_jobs.stored_events WHERE external_id = ANY ($1)",
    )
    .bind(&acknowledged)
    .fetch_one(&database.pool)
    .await
    .unwrap();
    assert_eq!(there, i64::try_from(acknowledged.len()).unwrap());
    let events = count(
        &database.pool,
        "SELECT count(*) FROM polar_jobs.stored_events",
    )
    .await;
    assert_eq!(
        events,
        count(&database.pool, "SELECT count(*) FROM polar_jobs.jobs").await,
        "no event without its job"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_under_64_clients_every_request_in_flight_is_answered() {
    let database = database(polar_jobs::migrate::migrator).await;
    let (mut child, address) = start(&database.url).await;
    let clients = clients_with(200, address).await;
    let asked = Instant::now();
    let pid = child.id().unwrap().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .await
            .unwrap()
            .success()
    );
    let mut log = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .await
        .unwrap();
    let status = tokio::time::timeout(crate::wait::DEADLINE, child.wait())
        .await
        .expect("it ends")
        .unwrap();
    assert!(status.success(), "{status}: {log}");
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "{:?}",
        asked.elapsed()
    );
    let mut acknowledged = 0;
    for client in clients {
        acknowledged += client.await.unwrap().len();
    }
    // Nobody was cut off between commit and answer, so the table holds what was acknowledged, exactly.
    let events = count(
        &database.pool,
        "SELECT count(*) FROM polar_jobs.stored_events",
    )
    .await;
    assert_eq!(events, i64::try_from(acknowledged).unwrap());
}
