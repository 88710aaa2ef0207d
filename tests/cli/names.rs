//! What people type: organizations by the name that they know, times as they think of them, and bulk forms that mean nothing.

use private_postgres::testing;
use private_postgres::testing::TestDatabase;
use serde_json::Value;

use super::support::{Said, with_database};
use super::watch::execute;

const ACME: &str = "1dbfc517-0bbf-4301-9ba8-555ca42b9737";
const ACME_AT_POLAR: &str = "9dbfc517-0bbf-4301-9ba8-555ca42b9737";
const GLOBEX: &str = "2dbfc517-0bbf-4301-9ba8-555ca42b9737";
const NAMESAKE: &str = "3dbfc517-0bbf-4301-9ba8-555ca42b9737";

/// Acme, with a customer at Polar and a job; Globex; and a deleted organization with the name of Acme.
async fn database() -> TestDatabase {
    let database = testing::database(polar_jobs::migrate::migrator).await;
    let made = format!(
        "INSERT INTO polar_jobs.organizations (id, name, slug, status, event_id, deleted_at) VALUES
            ('{ACME}', 'Acme Rockets', 'acme', 'active', 0, NULL), ('{GLOBEX}', 'Globex', 'globex', 'active', 0, NULL),
            ('{NAMESAKE}', 'Acme Rockets', 'acme', 'active', 0, now());
         INSERT INTO polar_jobs.polar_customers (polar_customer_id, organization_id) VALUES ('{ACME_AT_POLAR}', '{ACME}');
         SELECT polar_jobs.enqueue('sync_customer', '{{\"organization_id\": \"{ACME}\"}}')"
    );
    execute(&database.pool, made).await;
    database
}

fn shown(url: &str, name: &str) -> Said {
    with_database(url, &["organizations", "show", name, "--format", "json"])
}

#[tokio::test]
async fn an_organization_is_found_by_its_id_polars_id_its_slug_and_its_name() {
    let database = database().await;
    let url = &database.url;
    for name in [
        ACME,
        ACME_AT_POLAR,
        "acme",
        "ACME",
        "acme rockets",
        NAMESAKE,
    ] {
        let said = shown(url, name);
        assert_eq!(said.code, Some(0), "{name}: {}", said.err);
        let row: Value = serde_json::from_str(&said.out).unwrap();
        let expected = if name == NAMESAKE { NAMESAKE } else { ACME };
        assert_eq!(row["id"], expected, "{name}");
    }
    let jobs = ["jobs", "list", "--format", "json", "--organization"];
    for (name, count) in [("acme", 1), (ACME_AT_POLAR, 1), ("globex", 0)] {
        let said = with_database(url, &[&jobs[..], &[name]].concat());
        let rows: Vec<Value> = serde_json::from_str(&said.out).unwrap();
        assert_eq!(rows.len(), count, "{name}");
    }
    let nobody = shown(url, "acm");
    assert_eq!(nobody.code, Some(1));
    assert!(nobody.err.contains("organizations list"), "{}", nobody.err);
}

#[tokio::test]
async fn a_name_that_several_living_organizations_have_means_none_of_them() {
    let database = database().await;
    execute(
        &database.pool,
        format!("UPDATE polar_jobs.organizations SET deleted_at = NULL WHERE id = '{NAMESAKE}'"),
    )
    .await;
    let said = shown(&database.url, "acme");
    assert_eq!(said.code, Some(2));
    assert!(
        said.err.contains(ACME) && said.err.contains(NAMESAKE),
        "{}",
        said.err
    );
    // The one that changes something refuses as well.
    let bulk = ["jobs", "retry", "--organization", "acme", "--yes"];
    assert_eq!(with_database(&database.url, &bulk).code, Some(2));
}

#[tokio::test]
async fn a_slug_means_its_organization_also_where_others_have_it_for_their_name() {
    let database = database().await;
    execute(
        &database.pool,
        format!(
            "UPDATE polar_jobs.organizations SET name = 'Acme', created_at = now() + interval '1 s' WHERE id = '{GLOBEX}';
             UPDATE polar_jobs.organizations SET name = 'Acme', slug = 'other', deleted_at = NULL WHERE id = '{NAMESAKE}'"
        ),
    )
    .await;
    let said = shown(&database.url, "Acme");
    assert_eq!(said.code, Some(0), "{}", said.err);
    let row: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(row["id"], ACME);
}

#[tokio::test]
async fn a_bulk_form_that_means_nothing_has_nothing_to_ask() {
    let database = database().await;
    for arguments in [
        &["jobs", "retry", "--kind", "send_email"][..],
        &["events", "replay", "--since", "2h"],
        &[
            "events",
            "replay",
            "--since",
            "2026-11-01",
            "--until",
            "2026-11-02T08:00:00Z",
        ],
        &["usage", "retry"],
        &["costs", "retry", "--organization", "acme"],
    ] {
        let said = with_database(&database.url, arguments);
        assert_eq!(said.code, Some(0), "{arguments:?}: {}", said.err);
        assert!(!said.out.is_empty(), "{arguments:?}");
    }
    let waiting = ["jobs", "cancel", "--organization", "acme"];
    let asked = with_database(&database.url, &waiting);
    assert_eq!(asked.code, Some(2));
    assert!(asked.err.contains("1 job; add --yes"), "{}", asked.err);
}

#[tokio::test]
async fn a_time_may_be_how_long_ago() {
    let database = database().await;
    let received =
        "INSERT INTO polar_jobs.stored_events (source, external_id, type, change, received_at)
        VALUES ('app', 'old', 'user.updated', '{}', now() - interval '3 hours'),
               ('app', 'young', 'user.updated', '{}', now() - interval '1 hour')";
    execute(&database.pool, received).await;
    for (since, count) in [("30m", 0), ("2h", 1), ("1d", 2)] {
        let said = with_database(&database.url, &["events", "replay", "--since", since]);
        let words = match count {
            0 => "no such event".to_owned(),
            1 => "run 1 event again".to_owned(),
            many => format!("run {many} events again"),
        };
        assert!(
            format!("{}{}", said.out, said.err).contains(&words),
            "{since}: {}{}",
            said.out,
            said.err
        );
    }
    let wrong = with_database(&database.url, &["events", "replay", "--since", "yesterday"]);
    assert_eq!(wrong.code, Some(2));
    for form in ["2h", "2026-11-01", "2026-11-01T08:00:00Z"] {
        assert!(wrong.err.contains(form), "{}", wrong.err);
    }
}
