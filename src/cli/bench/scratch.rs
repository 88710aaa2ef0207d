//! A database that lives as long as a measurement.

use anyhow::Context;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use uuid::Uuid;

use super::super::{Failure, connect};
use crate::config::DatabaseUrl;
use crate::queue::connect::Pooler;
use private_postgres::{Options, Server};

/// Where the private Postgres of measurements keeps its data between two of them.
const DIRECTORY: &str = "var/bench";

/// An empty database beside `DATABASE_URL`, or on a private durable Postgres.
pub(super) struct Scratch {
    beside: DatabaseUrl,
    database: DatabaseUrl,
    name: String,
    /// Stops with this value.
    server: Option<Server>,
}

impl Scratch {
    pub(super) async fn make(database: Option<&DatabaseUrl>) -> Result<Self, Failure> {
        let (beside, server) = match database {
            Some(database) => (database.clone(), None),
            None => {
                let server = private_server().await?;
                let url = server.url("postgres");
                let beside = DatabaseUrl::parse(&url, Pooler::None).map_err(Failure::failed)?;
                (beside, Some(server))
            }
        };
        let name = format!("polar_jobs_bench_{}", Uuid::new_v4().simple());
        let mut connection = connect::connection(&beside).await?;
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        let made = sqlx::query(create).execute(&mut connection).await;
        made.context("a database for the measurement cannot be made beside DATABASE_URL; the role needs CREATEDB")?;
        connection.close().await?;
        Ok(Self {
            database: beside.with_database(&name),
            beside,
            name,
            server,
        })
    }

    pub(super) fn url(&self) -> &str {
        self.database.expose()
    }

    pub(super) async fn remove(self) -> Result<(), Failure> {
        let mut connection = self.beside.options().connect().await?;
        // FORCE: a measurement that was cut short may still hold connections.
        let drop = AssertSqlSafe(format!("DROP DATABASE {} WITH (FORCE)", self.name));
        let dropped = sqlx::query(drop).execute(&mut connection).await;
        dropped.with_context(|| format!("the database {} is left behind", self.name))?;
        connection.close().await?;
        if let Some(server) = self.server {
            tokio::task::spawn_blocking(move || server.stop())
                .await
                .context("the private Postgres did not stop")?
                .context("the private Postgres did not stop")?;
        }
        Ok(())
    }
}

async fn private_server() -> Result<Server, Failure> {
    let started = tokio::task::spawn_blocking(|| Server::start(&Options::durable(DIRECTORY))).await;
    Ok(started
        .context("the private Postgres cannot be started")?
        .map_err(anyhow::Error::from)?)
}
