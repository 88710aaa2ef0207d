//! The page that Prometheus reads: described, documented, and where it is asked for.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use polar_jobs::telemetry::catalogue::{METRICS, Type};
use private_postgres::testing;
use simulator::Options;

use crate::free_port::free_port;
use crate::local_polar::LocalPolar;

use super::support::{ended, get, signal, start, try_get, until};

fn sources(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(fs::read_to_string(path).unwrap());
        }
    }
}

/// Every name that is recorded, with the macro that records it.
fn recorded() -> BTreeSet<(String, Type)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "jobs", "polar"] {
        sources(&root.join(folder), &mut files);
    }
    let mut names = BTreeSet::new();
    for (start, kind) in [
        ("counter!(", Type::Counter),
        ("gauge!(", Type::Gauge),
        ("histogram!(", Type::Histogram),
    ] {
        for file in &files {
            let calls = file
                .match_indices(start)
                .map(|(at, _)| &file[at + start.len()..]);
            let quoted = calls.filter_map(|rest| rest.trim_start().strip_prefix('"'));
            names.extend(quoted.map(|rest| (rest[..rest.find('"').unwrap()].to_owned(), kind)));
        }
    }
    names
}

#[test]
fn every_metric_of_the_code_is_in_the_catalogue_and_in_the_documentation() {
    let listed: BTreeSet<_> = METRICS
        .iter()
        .map(|metric| (metric.name.to_owned(), metric.kind))
        .collect();
    assert_eq!(recorded(), listed);
    let operating = include_str!("../../docs/operating.md");
    for metric in METRICS {
        let row = operating
            .lines()
            .find(|line| line.starts_with(&format!("| `{}` |", metric.name)))
            .unwrap_or_else(|| panic!("{} is not documented", metric.name));
        assert!(row.contains(metric.help), "{row}");
        assert!(
            metric
                .labels
                .split_whitespace()
                .all(|label| row.contains(&format!("`{label}`"))),
            "{row}"
        );
        let counts = metric.name.ends_with("_total");
        assert_eq!(counts, metric.kind == Type::Counter, "{}", metric.name);
    }
}

/// The names of samples, without labels and without what a histogram appends.
fn samples(page: &str) -> BTreeSet<&str> {
    page.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .map(|name| {
            let ends = ["_bucket", "_sum", "_count"];
            ends.iter()
                .find_map(|end| name.strip_suffix(end))
                .unwrap_or(name)
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ingress_tells_of_the_fleet_while_no_worker_lives_where_it_is_told_to() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    sqlx::raw_sql(
        "SELECT polar_jobs.enqueue('sync_customer');
         UPDATE polar_jobs.live_jobs SET run_at = now() - interval '10 minutes';
         INSERT INTO polar_jobs.schedules (name, cron, next_tick) VALUES ('forgotten', '* * * * *', now() - interval '1 hour');
         INSERT INTO polar_jobs.usage_proofs (difference, window_faults) VALUES (5, 2)",
    )
    .execute(&database.pool)
    .await
    .unwrap();
    let (port, page) = (free_port(), format!("127.0.0.1:{}", free_port()));
    let public = format!("127.0.0.1:{port}");
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("PORT", &port.to_string()),
        ("METRICS_BIND", &page),
        ("POLAR_WEBHOOK_SECRET", "a-secret-of-the-endpoint"),
    ];
    let mut ingress = start(&settings, &["ingress"]);
    until(async || try_get(&page, "/metrics").is_some_and(|page| page.contains("workers_alive")))
        .await;
    until(async || try_get(&page, "/metrics").is_some_and(|page| page.contains("forgotten"))).await;

    assert!(get(&public, "/metrics").starts_with("HTTP/1.1 404"));
    assert!(get(&public, "/ready").starts_with("HTTP/1.1 200"));
    let answer = get(&page, "/metrics");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let value = |sample: &str| {
        let line = body.lines().find(|line| line.starts_with(sample));
        let value = line.and_then(|line| line.rsplit(' ').next());
        value
            .unwrap_or_else(|| panic!("no {sample} in {body}"))
            .parse::<f64>()
            .unwrap()
    };
    assert!(value("polar_jobs_workers_alive") < 0.5);
    assert!(value("polar_jobs_oldest_due_seconds{queue=\"default\"}") >= 600.0);
    assert!(value("polar_jobs_queue_depth{queue=\"default\"}") > 0.5);
    assert!(value("polar_jobs_schedule_overdue_seconds{schedule=\"forgotten\"}") >= 3600.0);
    assert!((value("polar_jobs_usage_difference") - 5.0).abs() < 0.5);
    assert!((value("polar_jobs_usage_window_faults") - 2.0).abs() < 0.5);
    assert!(
        value("polar_jobs_log_lines_lost_total") < 0.5,
        "a counter is there from the start"
    );
    for name in samples(body) {
        assert!(
            body.contains(&format!("# HELP {name} ")),
            "{name} has no HELP"
        );
        assert!(
            body.contains(&format!("# TYPE {name} ")),
            "{name} has no TYPE"
        );
    }
    signal(&ingress, "TERM");
    assert_eq!(ended(&mut ingress), Some(Some(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_tells_how_long_a_change_took_to_reach_polar() {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let polar = LocalPolar::start(Options::default()).await;
    let page = format!("127.0.0.1:{}", free_port());
    let organization = polar.organization_id().to_string();
    let (url, token) = (polar.url(), polar.access_token().to_owned());
    let settings = [
        ("DATABASE_URL", database.url.as_str()),
        ("METRICS_BIND", &page),
        ("POLAR_API_URL", &url),
        ("POLAR_ACCESS_TOKEN", &token),
        ("POLAR_ORGANIZATION_ID", &organization),
    ];
    let created = r#"SELECT polar_jobs.record_change('organization.created',
        '{"id": "1f0c7c1e-6a5b-4c0e-9d3a-0f6f2b1f7a11", "name": "Acme", "slug": "acme",
          "owner": {"id": "7d1e3f52-51c5-4a57-8a2f-93f1d1c9a001", "email": "ada@acme.example"}}')"#;
    let past = "UPDATE polar_jobs.stored_events SET received_at = now() - interval '30 seconds'";
    for sql in [created, past] {
        sqlx::raw_sql(sql).execute(&database.pool).await.unwrap();
    }
    let mut worker = start(&settings, &["worker"]);
    let within = |page: &str, seconds| {
        let kind = "polar_jobs_sync_lag_seconds_bucket{kind=\"sync_customer\"";
        page.contains(&format!("{kind},le=\"{seconds}\"}} 1"))
    };
    until(async || try_get(&page, "/metrics").is_some_and(|page| within(&page, 60))).await;
    assert!(
        !within(&get(&page, "/metrics"), 10),
        "half a minute had passed"
    );
    signal(&worker, "TERM");
    assert_eq!(ended(&mut worker), Some(Some(0)));
}
