//! `docs/roles.sql`, run as it is, and the product under the roles that it makes.

use private_postgres::testing::empty_database;
use reqwest::Url;
use simulator::Options;
use sqlx::{Connection, PgConnection, PgPool};

use super::support::{run, with_database};
use crate::local_polar::LocalPolar;

const ROLES: &str = include_str!("../../docs/roles.sql");
const ORGANIZATION: &str = "1f0c7c1e-6a5b-4c0e-9d3a-0f6f2b1f7a11";
const CREATED: &str = r#"SELECT polar_jobs.record_change('organization.created',
    '{"id": "1f0c7c1e-6a5b-4c0e-9d3a-0f6f2b1f7a11", "name": "Acme", "slug": "acme",
      "owner": {"id": "7d1e3f52-51c5-4a57-8a2f-93f1d1c9a001", "email": "ada@acme.example", "name": "Ada"}}')"#;

/// Functions that Postgres prefers to its own where both are in the search path: their arguments match better.
const PLANTED: &str = "
    CREATE FUNCTION public.planted() RETURNS text LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'called as %', current_user;
    END $$;
    CREATE FUNCTION public.format(text, name) RETURNS text LANGUAGE sql AS 'SELECT public.planted()';
    CREATE FUNCTION public.format(text, text) RETURNS text LANGUAGE sql AS 'SELECT public.planted()';
    CREATE FUNCTION public.concat_ws(text, numeric, numeric, text) RETURNS text LANGUAGE sql AS 'SELECT public.planted()'";

/// The same database as somebody else.
fn as_role(url: &str, role: &str) -> String {
    let mut url = Url::parse(url).unwrap();
    url.set_username(role).unwrap();
    let kept: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| name != "user")
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    url.query_pairs_mut().clear().extend_pairs(kept);
    url.into()
}

async fn paste(pool: &PgPool) {
    sqlx::raw_sql(ROLES).execute(pool).await.unwrap();
}

/// The SQLSTATE with which a statement is refused.
async fn refused(connection: &mut PgConnection, statement: &'static str) -> String {
    let error = sqlx::raw_sql(statement).execute(connection).await;
    let error = error.expect_err(statement);
    error
        .as_database_error()
        .unwrap()
        .code()
        .unwrap()
        .into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_product_runs_under_the_roles_of_the_documentation_and_neither_may_more_than_it_needs()
{
    let database = empty_database(polar_jobs::migrate::migrator).await;
    let service = as_role(&database.url, "polar_jobs_service");
    let application = as_role(&database.url, "polar_jobs_app");
    paste(&database.pool).await;
    let migrated = with_database(&service, &["migrate"]);
    assert_eq!(migrated.code, Some(0), "{}", migrated.err);
    paste(&database.pool).await;
    paste(&database.pool).await;

    // An application's tables are often in `public`, and then it may make functions there.
    sqlx::raw_sql("GRANT CREATE ON SCHEMA public TO polar_jobs_app")
        .execute(&database.pool)
        .await
        .unwrap();
    let mut app = PgConnection::connect(&application).await.unwrap();
    sqlx::raw_sql(PLANTED).execute(&mut app).await.unwrap();
    paste(&database.pool).await;
    let usage = "INSERT INTO polar_jobs.usage (organization_id, quantity) VALUES ('1f0c7c1e-6a5b-4c0e-9d3a-0f6f2b1f7a11', 3)";
    for statement in [CREATED, usage, "SELECT polar_jobs.enqueue('prune')"] {
        sqlx::raw_sql(statement).execute(&mut app).await.unwrap();
    }

    let polar = LocalPolar::start(Options::default()).await;
    let organization = polar.organization_id().to_string();
    let (url, token) = (polar.url(), polar.access_token().to_owned());
    let settings = [
        ("DATABASE_URL", &*service),
        ("POLAR_API_URL", &*url),
        ("POLAR_ACCESS_TOKEN", &*token),
        ("POLAR_ORGANIZATION_ID", &*organization),
        ("RUST_LOG", "warn"),
    ];
    let worked = run(&settings, &["worker", "--drain"]);
    assert_eq!(worked.code, Some(0), "{}", worked.err);
    assert_eq!(worked.err, "");
    assert!(
        polar
            .customers()
            .iter()
            .any(|row| row.external_id.as_deref() == Some(ORGANIZATION))
    );
    for (sql, expected) in [
        ("SELECT plan FROM polar_jobs.entitlements", "Free"),
        ("SELECT email FROM polar_jobs.members", "ada@acme.example"),
        ("SELECT fee_fixed::text FROM polar_jobs.accounts", "50"),
        ("SELECT outcome FROM polar_jobs.external_events", "applied"),
        ("SELECT DISTINCT state FROM polar_jobs.jobs", "completed"),
    ] {
        let found: String = sqlx::query_scalar(sql).fetch_one(&mut app).await.unwrap();
        assert_eq!(found, expected, "{sql}");
    }

    // What a later release brings is no application's by itself.
    let mut owner = PgConnection::connect(&service).await.unwrap();
    let later = "CREATE TABLE polar_jobs.of_a_later_release (id int);
                 CREATE FUNCTION polar_jobs.of_a_later_release() RETURNS int LANGUAGE sql AS 'SELECT 1'";
    sqlx::raw_sql(later).execute(&mut owner).await.unwrap();
    for statement in [
        "SELECT * FROM polar_jobs.of_a_later_release",
        "SELECT polar_jobs.of_a_later_release()",
        "SELECT * FROM polar_jobs.live_jobs",
        "SELECT polar_jobs.create_all_partitions()",
        "UPDATE polar_jobs.jobs SET priority = 1",
        "DELETE FROM polar_jobs.usage",
        "CREATE TABLE polar_jobs.mine (id int)",
    ] {
        assert_eq!(refused(&mut app, statement).await, "42501", "{statement}");
    }
    // And what is the application's is not polar-jobs'.
    sqlx::raw_sql("CREATE SCHEMA shop; CREATE TABLE shop.orders (id int)")
        .execute(&database.pool)
        .await
        .unwrap();
    assert_eq!(
        refused(&mut owner, "SELECT * FROM shop.orders").await,
        "42501"
    );
}
