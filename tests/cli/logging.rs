//! A process lives on when nobody can read what it logs.

use std::fs::File;
use std::process::Stdio;

use private_postgres::testing;

use crate::free_port::free_port;

use super::support::{Running, command, ended, get, signal, try_get, until};

/// Ways in which standard error cannot be written.
#[derive(Clone, Copy, Debug)]
enum Broken {
    DiskFull,
    ReaderGone,
}

fn spawn(settings: &[(&str, &str)], arguments: &[&str], broken: Broken) -> Running {
    let mut command = command(settings, arguments);
    let full = || File::options().write(true).open("/dev/full").unwrap();
    match broken {
        Broken::DiskFull => command
            .stdout(full())
            .stderr(full())
            .spawn()
            .unwrap()
            .into(),
        Broken::ReaderGone => {
            let (reader, writer) = std::io::pipe().unwrap();
            let child = command
                .stdout(Stdio::from(writer.try_clone().unwrap()))
                .stderr(Stdio::from(writer))
                .spawn()
                .unwrap();
            drop(reader);
            child.into()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ingress_and_worker_go_on_when_their_log_cannot_be_written() {
    for broken in [Broken::DiskFull, Broken::ReaderGone] {
        let database = testing::database(polar_jobs::migrate::migrator).await;
        let (port, page) = (free_port(), format!("127.0.0.1:{}", free_port()));
        let public = format!("127.0.0.1:{port}");
        let settings = [
            ("DATABASE_URL", database.url.as_str()),
            ("PORT", &port.to_string()),
            ("RUST_LOG", "trace"),
        ];
        let mut ingress = spawn(&settings, &["ingress"], broken);
        until(async || try_get(&public, "/health").is_some()).await;
        let lost = get(&public, "/metrics");
        assert!(lost.contains("polar_jobs_log_lines_lost_total "), "{lost}");
        assert!(
            !lost.contains("polar_jobs_log_lines_lost_total 0\n"),
            "{lost}"
        );

        let settings = [settings[0], settings[2], ("METRICS_BIND", &page)];
        let mut worker = spawn(&settings, &["worker"], broken);
        until(async || try_get(&page, "/health").is_some()).await;
        // A job that fails writes a line, and so does one that is discarded.
        sqlx::query("SELECT polar_jobs.enqueue('sync_customer', '{\"organization_id\": 7}')")
            .execute(&database.pool)
            .await
            .unwrap();
        let ended_jobs = "SELECT count(*) FROM polar_jobs.jobs WHERE finished_at IS NOT NULL AND kind = 'sync_customer'";
        until(async || {
            let count: i64 = sqlx::query_scalar(ended_jobs)
                .fetch_one(&database.pool)
                .await
                .unwrap();
            count == 1
        })
        .await;
        for child in [&mut ingress, &mut worker] {
            signal(child, "TERM");
            assert_eq!(ended(child), Some(Some(0)), "{broken:?}");
        }
    }
}

#[test]
fn a_command_whose_error_cannot_be_written_still_has_its_exit_code() {
    for broken in [Broken::DiskFull, Broken::ReaderGone] {
        let mut child = spawn(&[("PORT", "none")], &["ingress"], broken);
        assert_eq!(ended(&mut child), Some(Some(2)), "{broken:?}");
    }
}
