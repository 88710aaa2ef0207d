//! A database, a local Polar, and jobs run one by one with the clock in hand.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use jobs::contract::{Fees, JobFacts, Outcome, Settings};
use jobs::mirror::usage::{Recorded, record_all};
use jobs::types::UsageReading;
use jobs::{Context, Done, Error, Job, MeterUsage, ReportCosts, ReportUsage};
use private_postgres::testing::database;
use simulator::Options;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use crate::local_polar::{LocalPolar, client_config};
use crate::wait::eventually;

pub(crate) struct TestApp {
    pub(crate) url: String,
    pub(crate) pool: PgPool,
    pub(crate) simulator: LocalPolar,
    pub(crate) polar: polar::Client,
    pub(crate) self_organization: Uuid,
}

/// A client of a simulator that nothing holds back.
pub(crate) fn client(simulator: &LocalPolar) -> polar::Client {
    client_of(simulator.url(), simulator.access_token())
}

pub(crate) fn client_of(base_url: String, access_token: &str) -> polar::Client {
    let config = client_config(base_url, access_token, Duration::from_secs(5));
    polar::Client::new(config, Arc::new(polar::Unlimited)).unwrap()
}

pub(crate) async fn local_polar(seed: u64) -> LocalPolar {
    let options = Options {
        seed,
        ..Options::default()
    };
    LocalPolar::start(options).await
}

impl TestApp {
    pub(crate) async fn start() -> Self {
        let database = database(polar_jobs::migrate::migrator).await;
        let simulator = local_polar(1).await;
        let polar = client(&simulator);
        let self_organization = simulator.organization_id();
        let pool = PgPoolOptions::new()
            .max_connections(20)
            .connect(&database.url)
            .await
            .unwrap();
        Self {
            url: database.url,
            pool,
            simulator,
            polar,
            self_organization,
        }
    }

    pub(crate) fn context(&self) -> Context {
        context(
            &self.pool,
            Some(self.polar.clone()),
            Some(self.self_organization),
        )
    }

    /// Creates an organization, as `apply_change` and `sync_customer` do.
    pub(crate) async fn organization(&self) -> Uuid {
        let id = Uuid::new_v4();
        self.create(id).await;
        id
    }

    pub(crate) async fn create(&self, id: Uuid) {
        sqlx::query(
            "INSERT INTO polar_jobs.organizations (id, name, slug, status, event_id, polar_customer_id)
             VALUES ($1, 'Acme', 'acme', 'active', 0, gen_random_uuid())",
        )
        .bind(id)
        .execute(&self.pool)
        .await
        .unwrap();
    }

    /// Deletes it as `apply_change` does; its customer is still there.
    pub(crate) async fn delete(&self, id: Uuid) {
        let delete = "UPDATE polar_jobs.organizations SET deleted_at = now(), erasure_event = 1 WHERE id = $1";
        sqlx::query(delete)
            .bind(id)
            .execute(&self.pool)
            .await
            .unwrap();
    }

    pub(crate) async fn record(&self, organization: Uuid, quantities: &[i64]) -> Recorded {
        let readings: Vec<UsageReading> = quantities
            .iter()
            .map(|&quantity| reading(organization, quantity))
            .collect();
        record_all(&mut self.pool.acquire().await.unwrap(), &readings)
            .await
            .unwrap()
    }

    /// Closes windows until everything that is committed lies in one. Other tests share the server
    /// and may hold the horizon back for a moment.
    pub(crate) async fn meter(&self) {
        eventually("all readings are counted", async || {
            run(MeterUsage {}, &self.context()).await.unwrap();
            self.uncounted().await == 0
        })
        .await;
    }

    /// The same when it is `clock` in Postgres.
    pub(crate) async fn meter_at(&self, clock: DateTime<Utc>) {
        eventually("all readings are counted", async || {
            self.close_at(clock).await;
            self.uncounted().await == 0
        })
        .await;
    }

    /// Closes a window when it is `clock` in Postgres.
    pub(crate) async fn close_at(&self, clock: DateTime<Utc>) {
        let close = "SELECT count(*) FROM polar_jobs.close_usage_window($1, $2)";
        let close = sqlx::query(close).bind(self.self_organization).bind(clock);
        close.execute(&self.pool).await.unwrap();
    }

    pub(crate) async fn uncounted(&self) -> i64 {
        sqlx::query_scalar(
            "SELECT count(*) FROM polar_jobs.usage WHERE written_by >= (SELECT from_xid FROM polar_jobs.usage_cursor)",
        )
        .fetch_one(&self.pool)
        .await
        .unwrap()
    }

    pub(crate) async fn report(&self) -> Result<Outcome, Error> {
        run(ReportUsage {}, &self.context()).await
    }

    pub(crate) async fn report_costs(&self) -> Result<Outcome, Error> {
        run(ReportCosts {}, &self.context()).await
    }

    /// What Polar holds for an organization.
    pub(crate) fn at_polar(&self, organization: Uuid) -> i64 {
        self.simulator
            .event_sum("event_ingestion", &organization.to_string())
    }

    /// Reports in a state, for an organization.
    pub(crate) async fn reports(&self, organization: Uuid, state: &str) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM polar_jobs.usage_reports WHERE organization_id = $1 AND state = $2")
            .bind(organization)
            .bind(state)
            .fetch_one(&self.pool)
            .await
            .unwrap()
    }

    /// How many requests brought events.
    pub(crate) fn ingest_requests(&self) -> usize {
        self.simulator
            .requests()
            .iter()
            .filter(|request| request.path == "/v1/events/ingest")
            .count()
    }
}

pub(crate) fn reading(organization_id: Uuid, quantity: i64) -> UsageReading {
    UsageReading {
        organization_id,
        quantity,
        recorded_at: None,
        external_id: None,
    }
}

/// On a host whose clock is ten years ahead: nothing that is counted or sent may follow it.
pub(crate) fn context(
    pool: &PgPool,
    polar: Option<polar::Client>,
    self_organization: Option<Uuid>,
) -> Context {
    let fees = Fees {
        basis_points: 500,
        fixed: 50,
        subscription_basis_points: 0,
    };
    Context {
        polar,
        mail: None,
        pool: pool.clone(),
        settings: Arc::new(Settings {
            self_organization,
            platform_fees: fees,
            early_fees: fees,
            ..Settings::default()
        }),
        job: JobFacts {
            id: 1,
            attempt: 1,
            failures: 0,
            max_attempts: 20,
            events: Vec::new(),
            started_at: Utc::now() + TimeDelta::days(3650),
        },
    }
}

/// What the worker does: runs the job and commits what it wrote.
pub(crate) async fn run<J: Job>(job: J, context: &Context) -> Result<Outcome, Error> {
    let Done {
        outcome,
        transaction,
        ..
    } = job.run(context).await?;
    if let Some(transaction) = transaction {
        transaction.commit().await?;
    }
    Ok(outcome)
}

/// A quarter of an hour ago: early enough for any clock that a test moves.
pub(crate) fn earlier() -> DateTime<Utc> {
    Utc::now() - TimeDelta::minutes(15)
}
