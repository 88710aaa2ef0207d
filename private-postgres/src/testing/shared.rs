//! The one server of a test process and the databases on it.

use super::cache::{self, Copy};
use super::server::{migrated, throwaway, wait_for};
use crate::{
    Error, Server,
    database::{ensure_database, quoted},
    url::with_database,
};
use sqlx::{Connection, PgConnection, migrate::Migrator};
use std::{
    env,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Databases of tests on a server that outlives us begin so, and go on with the second of their making.
const PREFIX: &str = "polar_jobs_test_run_";
/// No test takes this long, so an older database without sessions is a leftover.
const LEFTOVER_AFTER: Duration = Duration::from_secs(3600);

/// A server with a migrated template on it.
#[derive(Debug)]
pub(super) struct Shared {
    maintenance: String,
    template: String,
    /// `STRATEGY FILE_COPY` copies files instead of logging every page; new in 15.
    file_copy: bool,
    prefix: String,
    count: AtomicU64,
    /// Ours, unless `TEST_DATABASE_URL` named one. Dropped before the copy that it runs on; in a static, never.
    _server: Option<(Server, Copy)>,
}

impl Shared {
    /// Starts (or takes) the server. Blocks.
    pub(super) fn start(migrator: &Migrator) -> Result<Shared, Error> {
        match env::var("TEST_DATABASE_URL") {
            Ok(url) if !url.is_empty() => wait_for(Shared::on(url, migrator)),
            _ => Shared::own(migrator),
        }
    }

    fn own(migrator: &Migrator) -> Result<Shared, Error> {
        let copy = cache::copy(migrator)?;
        let server = Server::start(&throwaway(copy.directory()))?;
        Ok(Shared {
            maintenance: server.url("postgres"),
            template: cache::TEMPLATE.to_owned(),
            file_copy: server.major() >= 15,
            prefix: "test".to_owned(),
            count: AtomicU64::new(0),
            _server: Some((server, copy)),
        })
    }

    async fn on(maintenance: String, migrator: &Migrator) -> Result<Shared, Error> {
        let template = format!("polar_jobs_test_{}", cache::fingerprint(migrator));
        let failed = |action: &str| {
            let action = action.to_owned();
            move |source| Error::Sql { action, source }
        };
        let mut connection = PgConnection::connect(&maintenance)
            .await
            .map_err(failed("connect to TEST_DATABASE_URL"))?;
        let read_version =
            sqlx::query_scalar::<_, i32>("select current_setting('server_version_num')::int");
        let version = read_version
            .fetch_one(&mut connection)
            .await
            .map_err(failed("read the server's version"))?;
        // Several test processes at once: one builds the template, the others wait.
        let lock = sqlx::query("select pg_advisory_lock(hashtext('polar_jobs test template'))");
        lock.execute(&mut connection)
            .await
            .map_err(failed("wait for the test template"))?;
        remove_leftovers(&mut connection).await?;
        ensure_database(&maintenance, &template).await?;
        migrated(&with_database(&maintenance, &template), migrator).await?;
        connection
            .close()
            .await
            .map_err(failed("leave the test server"))?;
        Ok(Shared {
            maintenance,
            template,
            file_copy: version >= 150_000,
            prefix: format!("{PREFIX}{}_{}_", now().as_secs(), std::process::id()),
            count: AtomicU64::new(0),
            _server: None,
        })
    }

    /// A copy of the template; its URL.
    pub(super) async fn clone_template(&self) -> Result<String, Error> {
        let strategy = if self.file_copy {
            " strategy file_copy"
        } else {
            ""
        };
        self.create(&format!("template {}{strategy}", quoted(&self.template)))
            .await
    }

    /// A database with nothing in it; its URL.
    pub(super) async fn create_empty(&self) -> Result<String, Error> {
        self.create("template template0").await
    }

    async fn create(&self, from: &str) -> Result<String, Error> {
        let name = format!(
            "{}{}",
            self.prefix,
            self.count.fetch_add(1, Ordering::Relaxed)
        );
        let failed = |source| Error::Sql {
            action: format!("create test database {name}"),
            source,
        };
        let mut connection = PgConnection::connect(&self.maintenance)
            .await
            .map_err(failed)?;
        let statement = format!("create database {} {from}", quoted(&name));
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&mut connection)
            .await
            .map_err(failed)?;
        connection.close().await.map_err(failed)?;
        Ok(with_database(&self.maintenance, &name))
    }
}

async fn remove_leftovers(connection: &mut PgConnection) -> Result<(), Error> {
    let failed = |source| Error::Sql {
        action: "remove old test databases".to_owned(),
        source,
    };
    let before = now().saturating_sub(LEFTOVER_AFTER).as_secs();
    let list = "select datname::text from pg_database d where starts_with(datname, $1)
        and not exists (select from pg_stat_activity a where a.datid = d.oid)";
    let names: Vec<String> = sqlx::query_scalar(list)
        .bind(PREFIX)
        .fetch_all(&mut *connection)
        .await
        .map_err(failed)?;
    let made = |name: &str| {
        name.strip_prefix(PREFIX)?
            .split('_')
            .next()?
            .parse::<u64>()
            .ok()
    };
    for name in names
        .iter()
        .filter(|name| made(name).is_some_and(|made| made < before))
    {
        let statement = format!("drop database if exists {}", quoted(name));
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&mut *connection)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

fn now() -> Duration {
    // A clock before 1970 makes names odd, nothing else.
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
