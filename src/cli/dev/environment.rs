//! Everything that the demo scenario needs: a Postgres, a Polar, and the settings that lead to both.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use jobs::types::OrganizationId;
use secrecy::SecretString;
use simulator::{Options as PolarOptions, PlainOptions, PlainSimulator, Simulator};
use sqlx::PgPool;
use uuid::Uuid;

use super::super::{AppContext, Failure, connect, migrate, output, resync};
use super::addresses::Addresses;
use super::billing_page::BillingPage;
use super::{Arguments, settings_file};
use crate::config::{Billing, Config, DatabaseUrl, MailSettings, PlainSettings};
use crate::queue::connect::Pooler;
use crate::telemetry::Masker;
use private_postgres::{Options, Server, ensure_database, psql_line};

/// The database inside the private Postgres.
const DATABASE: &str = "polar_jobs";
/// Opens `POST /changes` where `APP_TOKEN` is not set: the ingress listens on this machine only.
const APP_TOKEN: &str = "dev-application-token";
/// Who sends the mail that goes to files.
const MAIL_FROM: &str = "billing@example.com";

/// The servers that the demo scenario runs on, and the settings that lead to them.
pub(super) struct DevEnvironment {
    pub(super) app: AppContext,
    pub(super) database: DatabaseUrl,
    /// `None`: the settings name a real Polar.
    pub(super) polar: Option<Simulator>,
    /// `None`: the settings name a support desk.
    pub(super) plain: Option<PlainSimulator>,
    /// What the ids of this run follow from.
    pub(super) run: Uuid,
    /// The organizations that live since runs before.
    known_before: Vec<OrganizationId>,
    billing_page: String,
    /// Tokens, the mail directory and the page that the settings do not name.
    brought: Vec<(&'static str, String)>,
    /// `None`: the settings name a database.
    server: Option<Server>,
}

impl DevEnvironment {
    /// Starts what the settings do not name, and brings the schema up to date.
    pub(super) async fn build(
        given: &AppContext,
        arguments: &Arguments,
        addresses: &Addresses,
        page: &BillingPage,
    ) -> Result<Self, Failure> {
        let data = &arguments.data_dir;
        let mut config = given.config.clone();
        // Before the database: a worker of the run before goes on as soon as that answers.
        let polar = match &config.polar.billing {
            Some(_) => None,
            None => Some(local_polar(&mut config, arguments, addresses).await?),
        };
        let plain = match &config.plain {
            Some(_) => None,
            None => Some(local_plain(&mut config, addresses).await?),
        };
        let (database, server) = database(given, data).await?;
        migrate::up_to_date(&database).await?;
        let known_before = living_organizations(&database).await?;
        let run = id_of_run(arguments.seed, organizations_so_far(&database).await?);
        config.database = Some(database.clone());
        let mut brought = Vec::new();
        if config.http.app_token.is_none() {
            config.http.app_token = Some(SecretString::from(APP_TOKEN));
            brought.push(("APP_TOKEN", APP_TOKEN.to_owned()));
        }
        if config.mail.is_none() {
            let directory = data.join("mail");
            let full = std::path::absolute(&directory).unwrap_or_else(|_| directory.clone());
            brought.push(("MAIL_URL", format!("file:{}", full.display())));
            brought.push(("MAIL_FROM", MAIL_FROM.to_owned()));
            config.mail = Some(MailSettings::to_directory(directory));
        }
        brought.extend(page.allow(&mut config.app));
        let masker = Masker::new(config.secrets());
        Ok(Self {
            app: AppContext {
                config,
                masker,
                actor: given.actor.clone(),
            },
            database,
            polar,
            plain,
            run,
            known_before,
            billing_page: page.url(),
            brought,
            server,
        })
    }

    /// What a person may want to open.
    pub(super) fn describe(&self, address: SocketAddr, settings: &Path) -> String {
        let postgres = self.server.as_ref().map_or("DATABASE_URL", Server::origin);
        let polar = self.polar.as_ref().map_or_else(
            || {
                format!(
                    "{} (of POLAR_API_URL, not of this command: nothing is bought there)",
                    self.app.config.polar.api_url
                )
            },
            |polar| format!("{} (local; open it in a browser)", polar.url()),
        );
        let plain = self.app.config.plain.as_ref();
        let plain = plain.map_or_else(String::new, |plain| plain.api_url.to_string());
        let mut lines = vec![
            format!("ingress     http://{address}"),
            format!("polar       {polar}"),
            format!("plain       {plain}"),
            format!(
                "billing     {} (a billing page on the organizations API)",
                self.billing_page
            ),
            format!("postgres    {} ({postgres})", self.database),
        ];
        // The URL of a database that was given to us has its password in it.
        if self.server.is_some() {
            lines.push(format!("psql        {}", psql_line(self.database.expose())));
        } else {
            lines.push("psql        psql \"$DATABASE_URL\"".to_owned());
        }
        lines.push(format!(
            "settings    {} (for another shell: {})",
            settings.display(),
            settings_file::reading(settings)
        ));
        lines.join("\n")
    }

    /// Writes the settings with which other commands and programs reach what this one brought. What it was
    /// given is left out: whoever gave it has it, and a secret is not to be copied into a file.
    pub(super) fn write_settings(&self, data: &Path, address: SocketAddr) -> io::Result<PathBuf> {
        let mut settings = vec![
            ("POLAR_JOBS_URL", format!("http://{address}")),
            ("BIND", address.ip().to_string()),
            ("PORT", address.port().to_string()),
        ];
        if self.server.is_some() {
            settings.push(("DATABASE_URL", self.database.expose().to_owned()));
        }
        if let Some(polar) = &self.polar {
            settings.push(("POLAR_API_URL", polar.url()));
            settings.push(("POLAR_ACCESS_TOKEN", polar.access_token().to_owned()));
            settings.push(("POLAR_ORGANIZATION_ID", polar.organization_id().to_string()));
            settings.push(("POLAR_WEBHOOK_SECRET", polar.webhook_secret().to_owned()));
        }
        if let Some(plain) = &self.plain {
            settings.push(("PLAIN_API_URL", plain.url()));
            settings.push(("PLAIN_TOKEN", plain.token()));
            settings.push(("PLAIN_DEFAULT_TIER_EXTERNAL_ID", "free".to_owned()));
        }
        settings.extend(self.brought.iter().cloned());
        settings_file::write(data, &settings)
    }

    /// Lets the organizations of runs before be synced: the local Polar of this run knows nothing of them. Only where
    /// the database is ours as well; what somebody else brought is not for `dev` to go through.
    pub(super) async fn bring_back_organizations(&self, pool: &PgPool) -> Result<(), Failure> {
        let ours = self.server.is_some() && self.polar.is_some();
        if self.known_before.is_empty() || !ours {
            return Ok(());
        }
        for &organization in &self.known_before {
            resync::enqueue(pool, &self.app.actor, organization).await?;
        }
        output::line(&format!(
            "The local Polar is a new one: {} of runs before come to it again, without what they bought there.",
            output::counted(self.known_before.len(), "organization")
        ))
    }

    /// Stops Polar and Plain, then Postgres.
    pub(super) async fn leave(self) -> Result<(), Failure> {
        drop((self.polar, self.plain));
        if let Some(server) = self.server {
            tokio::task::spawn_blocking(move || server.stop())
                .await
                .context("Postgres did not stop")?
                .context("Postgres did not stop")?;
        }
        Ok(())
    }
}

async fn database(
    given: &AppContext,
    data: &Path,
) -> Result<(DatabaseUrl, Option<Server>), Failure> {
    if let Some(database) = &given.config.database {
        return Ok((database.clone(), None));
    }
    let directory: PathBuf = data.join("pg");
    let started =
        tokio::task::spawn_blocking(move || Server::start(&Options::durable(directory))).await;
    let server = started
        .context("Postgres cannot be started")?
        .map_err(anyhow::Error::from)?;
    // Its worker would take our jobs to its own Polar.
    if !server.is_owner() {
        return Err(Failure::failed(format!(
            "another polar-jobs works in {}: stop it, or give this one a --data-dir of its own",
            data.display()
        )));
    }
    ensure_database(&server.url("postgres"), DATABASE)
        .await
        .map_err(anyhow::Error::from)?;
    let database =
        DatabaseUrl::parse(&server.url(DATABASE), Pooler::None).map_err(Failure::failed)?;
    Ok((database, Some(server)))
}

/// Starts a local Polar and points the settings at it.
async fn local_polar(
    config: &mut Config,
    arguments: &Arguments,
    addresses: &Addresses,
) -> Result<Simulator, Failure> {
    let options = PolarOptions {
        seed: arguments.seed,
        faults: arguments.faults.clone(),
        ..PolarOptions::default()
    };
    let start = async |address| Simulator::start(options.clone(), address).await;
    let polar = addresses.start("POLAR_API_URL", start).await;
    let polar = polar.context("the local Polar cannot start")?;
    config.polar.api_url = polar
        .url()
        .parse()
        .context("the local Polar has no address")?;
    config.polar.billing = Some(Billing {
        access_token: SecretString::from(polar.access_token()),
        organization: polar.organization_id(),
    });
    config.polar.webhook_secrets = vec![SecretString::from(polar.webhook_secret())];
    Ok(polar)
}

/// Starts a local support desk and points the settings at it.
async fn local_plain(
    config: &mut Config,
    addresses: &Addresses,
) -> Result<PlainSimulator, Failure> {
    let start = async |address| PlainSimulator::start(PlainOptions::default(), address).await;
    let plain = addresses.start("PLAIN_API_URL", start).await;
    let plain = plain.context("the local Plain cannot start")?;
    config.plain = Some(PlainSettings {
        token: SecretString::from(plain.token()),
        api_url: plain
            .url()
            .parse()
            .context("the local Plain has no address")?,
        default_tier: Some("free".to_owned()),
    });
    Ok(plain)
}

/// The same `--seed` on a fresh data directory gives the same ids, and a second run on the same data never repeats one.
fn id_of_run(seed: u64, earlier: i64) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{seed} {earlier}").as_bytes())
}

async fn organizations_so_far(database: &DatabaseUrl) -> Result<i64, Failure> {
    let mut connection = connect::connection(database).await?;
    let count = sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM polar_jobs.organizations"#);
    Ok(count.fetch_one(&mut connection).await?)
}

async fn living_organizations(database: &DatabaseUrl) -> Result<Vec<OrganizationId>, Failure> {
    let mut connection = connect::connection(database).await?;
    let ids = sqlx::query_scalar!(
        "SELECT id FROM polar_jobs.organizations WHERE deleted_at IS NULL ORDER BY created_at DESC, id"
    );
    let ids = ids.fetch_all(&mut connection).await?;
    Ok(ids.into_iter().map(OrganizationId).collect())
}
