//! `polar-jobs dev`: everything on one machine with nothing configured, and a demo scenario in it.

mod addresses;
mod at_plain;
mod at_polar;
mod billing_page;
mod check;
mod client;
mod entitlements;
mod environment;
mod expected;
mod fixtures;
mod mails;
mod outcome;
mod scenario;
mod settings_file;
mod watch;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use chrono::{DateTime, Utc};
use clap::Args;
use jobs::mail::Transport;
use simulator::Faults;
use sqlx::PgPool;
use tokio::task::JoinHandle;

use super::process::{Process, Work};
use super::signals::Stop;
use super::{AppContext, Exit, Failure, connect, ingress, output, worker};
use crate::config::{ConfigError, Environment};
use crate::schedule::Timetable;
use crate::telemetry::Metrics;
use addresses::Addresses;
use billing_page::BillingPage;
use check::Check;
use client::Application;
use environment::DevEnvironment;
use fixtures::Fixtures;
use scenario::Scenario;
use watch::Watch;

pub(super) use settings_file::{path as settings_path, settings_for};

/// The longest that one step may take, without faults and with them.
const STEP_TIMEOUT: Duration = Duration::from_secs(120);
const STEP_TIMEOUT_WITH_FAULTS: Duration = Duration::from_secs(1800);
/// How long connections may take to come back at the end.
const CLOSING: Duration = Duration::from_secs(5);
/// Between two lines of the running summary.
const SUMMARY: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(super) struct Arguments {
    /// The port of the ingress; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Where the database and mails are kept from run to run, and `dev.env`, the settings for other shells
    #[arg(long, value_name = "DIR", default_value = "./var")]
    data_dir: PathBuf,
    /// Play the scenario, wait until every job is done, check every outcome, and exit
    #[arg(long)]
    once: bool,
    /// Ids and faults follow from it
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Faults between Polar and us and how often they happen: 20% for all of them together, or single ones, such as
    /// `lost=10%,timeout=5%`
    ///
    /// A name that is none lists those there are.
    /// The local Polar sends a lost delivery again after a twentieth of Polar's real waits, which
    /// begin at seconds and double; `20%,retry-scale=1` waits as long as Polar does.
    #[arg(long, value_name = "SPEC", default_value = "", hide_default_value = true, value_parser = faults_with_short_waits)]
    faults: Faults,
}

impl Arguments {
    /// The settings that count: a shell that has read the `dev.env` of this data directory points at what an earlier
    /// `dev` brought, which this one brings anew.
    ///
    /// # Errors
    /// Where the shell has read the `dev.env` of another one.
    pub(super) fn settings(&self, given: Environment) -> Result<Environment, ConfigError> {
        // One that cannot be read is written anew in a moment.
        let before = Environment::of_file(&settings_file::path(&self.data_dir)).unwrap_or_default();
        settings_file::refuse_of_another(given.without(&before))
    }
}

pub(super) async fn run(arguments: Arguments, given: &AppContext) -> Result<Exit, Failure> {
    let stop = Stop::on_signals()?;
    let addresses = Addresses::of_run_before(&arguments.data_dir);
    let page = addresses.start("APP_ORIGINS", BillingPage::bind).await;
    let page = page.context("there is no port for the billing page")?;
    let environment = DevEnvironment::build(given, &arguments, &addresses, &page).await?;
    let lived = live(&arguments, &environment, page, &stop).await;
    environment.leave().await?;
    lived
}

/// Faults with shorter waits between deliveries, so that the scenario does not take minutes; what is
/// asked for wins.
fn faults_with_short_waits(spec: &str) -> Result<Faults, <Faults as FromStr>::Err> {
    format!("retry-scale=0.05,{spec}").parse()
}

/// Starts the ingress and the worker, runs the scenario; then stops everything in the opposite order.
async fn live(
    arguments: &Arguments,
    environment: &DevEnvironment,
    page: BillingPage,
    stop: &Stop,
) -> Result<Exit, Failure> {
    let connections = environment.app.config.database_connections;
    let pool = connect::pool(&environment.database, connections).await?;
    let Running {
        address,
        server,
        mut work,
    } = start(arguments, environment, &pool, stop).await?;
    let fixtures = Fixtures::of_run(environment.run);
    let secret = environment.app.config.app.session_secret.clone();
    let secret = secret.context("the environment has a key for tokens")?;
    let page = tokio::spawn(async move { page.serve(address, secret, &fixtures).await });
    let mut worker_ended = false;
    let played = tokio::select! {
        played = perform(arguments, environment, &pool, address) => played,
        () = stop.requested(), if arguments.once => Err(Failure::failed("stopped before the scenario was over")),
        () = stop.requested(), if !arguments.once => Ok(Exit::Done),
        ended = &mut work => {
            worker_ended = true;
            ended.context("the worker died")?.and_then(|()| Err(Failure::failed("the worker stopped unasked")))
        }
    };
    stop.request();
    page.abort();
    server.await.context("the ingress died")?;
    if !worker_ended {
        work.await.context("the worker died")??;
    }
    // Before Postgres stops, or connections on their way back would complain.
    let _in_use = tokio::time::timeout(CLOSING, pool.close()).await;
    played
}

/// The parts that run beside the scenario.
struct Running {
    address: SocketAddr,
    server: JoinHandle<()>,
    work: JoinHandle<Result<(), Failure>>,
}

async fn start(
    arguments: &Arguments,
    environment: &DevEnvironment,
    pool: &PgPool,
    stop: &Stop,
) -> Result<Running, Failure> {
    let app = &environment.app;
    let metrics = Metrics::install().context("metrics cannot be recorded")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port));
    let server = ingress::bind(
        &app.config,
        &environment.database,
        address,
        &metrics,
        "--port takes another one, 0 a free one",
    )
    .await?;
    let address = server.local_addr();
    if let Some(polar) = &environment.polar {
        polar.set_webhook_url(Some(format!("http://{address}/integrations/polar/webhook")));
    }
    let settings = environment
        .write_settings(&arguments.data_dir, address)
        .with_context(|| format!("cannot write into {}", arguments.data_dir.display()))?;
    output::line(&environment.describe(address, &settings))?;
    let queues = worker::served(pool, &app.config, &[]).await?;
    let process = Process::new(app, &environment.database, pool.clone(), metrics)?;
    let (ingress_stop, work_stop) = (stop.clone(), stop.clone());
    Ok(Running {
        address,
        server: tokio::spawn(async move { server.serve(ingress_stop.requested()).await }),
        work: tokio::spawn(async move {
            process
                .work(
                    Work {
                        queues,
                        drain: false,
                    },
                    &work_stop,
                )
                .await
        }),
    })
}

/// Runs the scenario and checks its end; without `--once` everything stays open for visitors
/// afterwards.
async fn perform(
    arguments: &Arguments,
    environment: &DevEnvironment,
    pool: &PgPool,
    address: SocketAddr,
) -> Result<Exit, Failure> {
    let began = Utc::now();
    let fixtures = Fixtures::of_run(environment.run);
    let watch = Watch::begin(pool.clone(), step_timeout(&arguments.faults)).await?;
    let timetable = Timetable::of(&jobs::registry()).context("a schedule cannot be used")?;
    let mut scenario = Scenario {
        application: application(environment, &fixtures, address)?,
        fixtures: &fixtures,
        watch: &watch,
        timetable: &timetable,
        polar: environment.polar.as_ref(),
    };
    let played = scenario.play().await;
    if let (Err(error), false) = (&played, arguments.once) {
        output::line(&format!("The scenario broke off: {error:#}"))?;
    }
    let check = check(environment, &fixtures, pool, began);
    let checked = outcome::report(&check.outcomes().await?);
    if arguments.once {
        played?;
        return checked.map(|()| Exit::Done);
    }
    environment.bring_back_organizations(pool).await?;
    stay_open(&watch).await
}

fn step_timeout(faults: &Faults) -> Duration {
    let calm = faults_with_short_waits("").is_ok_and(|none| none == *faults);
    match calm {
        true => STEP_TIMEOUT,
        false => STEP_TIMEOUT_WITH_FAULTS,
    }
}

/// The application of the scenario, which posts changes to the ingress at `address`.
fn application(
    environment: &DevEnvironment,
    fixtures: &Fixtures,
    address: SocketAddr,
) -> anyhow::Result<Application> {
    let token = environment.app.config.http.app_token.clone();
    let token = token.context("the environment has an application token")?;
    Application::new(&format!("http://{address}"), token, fixtures.run())
}

/// What a scenario that began at `began` is held against.
fn check<'a>(
    environment: &'a DevEnvironment,
    fixtures: &'a Fixtures,
    pool: &'a PgPool,
    began: DateTime<Utc>,
) -> Check<'a> {
    let config = &environment.app.config;
    Check {
        fixtures,
        pool,
        polar: environment.polar.as_ref(),
        plain: environment.plain.as_ref(),
        platform_fees: config.platform_fees,
        mail_directory: match config.mail.as_ref().map(|mail| &mail.transport) {
            Some(Transport::Directory(directory)) => Some(directory),
            _ => None,
        },
        began,
    }
}

/// Until a signal comes: a line whenever something has changed.
async fn stay_open(watch: &Watch) -> Result<Exit, Failure> {
    output::line("Everything stays open; Ctrl-C ends it.")?;
    let mut last = None;
    loop {
        let progress = watch.progress().await?;
        if last.as_ref() != Some(&progress) {
            output::line(&progress.line())?;
            last = Some(progress);
        }
        tokio::time::sleep(SUMMARY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::faults_with_short_waits;

    #[test]
    fn the_scenario_waits_a_twentieth_of_polars_waits_unless_set_otherwise() {
        let scale = |spec| {
            faults_with_short_waits(spec)
                .map(|faults| faults.retry_scale)
                .ok()
        };
        assert_eq!(scale("20%"), Some(0.05));
        assert_eq!(scale("20%,retry-scale=1"), Some(1.0));
        assert_eq!(scale("nonsense"), None);
    }
}
