//! The commands, thin: each one reads settings, opens what it needs, calls the part of the program
//! that does the work, and prints.

mod backfill;
mod bench;
mod catalogue;
mod clients;
mod connect;
mod costs;
mod dev;
mod doctor;
mod endpoint;
mod events;
mod exit;
mod ingress;
mod jobs;
mod mail;
mod migrate;
mod operations_page;
mod organization;
mod organizations;
mod output;
mod pooler;
mod process;
mod progress;
mod queues;
mod reconcile;
mod refused;
mod resync;
mod schedules;
mod signals;
mod simulator;
mod span;
mod startup;
mod time;
mod usage;
mod worker;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError, Environment};
use crate::operators::Actor;
use crate::telemetry::{self, Masker};

pub(crate) use exit::{Exit, Failure, causes};

/// Durable background jobs that keep an application's organizations, members, subscriptions, usage
/// and costs in step with Polar, on nothing but Postgres.
///
/// Settings come from the environment, and from `.env` in the working directory where the environment
/// says nothing; `.env.sample` lists all of them.
#[derive(Parser)]
#[command(
    name = "polar-jobs",
    version,
    max_term_width = 100,
    subcommand_required = true
)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 doctor found warnings only."
)]
struct Cli {
    /// Who does it, for the record of what was changed by hand (default: the system user)
    #[arg(long, global = true, value_name = "NAME", display_order = 900)]
    actor: Option<Actor>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything on this machine with nothing configured, and play a small scenario in it
    ///
    /// Brings its own Postgres and its own Polar, starts the ingress and a worker, and plays the life of five
    /// organizations through it. With `DATABASE_URL`, `POLAR_ACCESS_TOKEN`, `PLAIN_TOKEN`, `MAIL_URL` or `APP_WEBHOOK_URL` it uses
    /// those instead.
    Dev(dev::Arguments),
    /// Create the tables in `DATABASE_URL`, or bring them up to date
    ///
    /// Does nothing where nothing is missing; may run in several processes at once.
    Migrate,
    /// Take deliveries of Polar and changes of the application over HTTP
    ///
    /// Serves `/integrations/polar/webhook`, `/changes`, the organizations API below `/v1/organizations`,
    /// `/openapi.json`, `/health`, `/ready` and, unless `METRICS_BIND` names another place for them, `/metrics`, at `BIND` and `PORT`.
    Ingress(ingress::Arguments),
    /// Claim and run jobs, and run the schedules
    ///
    /// Any number of workers share the work, on any hosts. `METRICS_BIND` says where one serves its metrics.
    Worker(worker::Arguments),
    /// Run a local Polar that forgets everything when it ends, or let something happen in a running one
    Simulator(simulator::Arguments),
    /// Look into the job table: list, explain, retry, cancel, discard, acknowledge
    #[command(subcommand)]
    Jobs(jobs::Command),
    /// Look at the queues, pause and resume them
    #[command(subcommand)]
    Queues(queues::Command),
    /// Look at the schedules and start one now
    #[command(subcommand)]
    Schedules(schedules::Command),
    /// Look at what came in: deliveries of Polar and changes of the application
    #[command(subcommand)]
    Events(events::Command),
    /// Look at organizations: where they stand, what happened to them; erase deleted ones
    #[command(subcommand)]
    Organizations(organizations::Command),
    /// Turn changes from a file, or every organization we know, into jobs
    ///
    /// Live traffic goes first. May be stopped at any time: the next run goes on.
    Backfill(backfill::Arguments),
    /// Compare what we hold with what Polar holds, and repair it
    ///
    /// Exits with 1 where something differs and --repair is not given.
    Reconcile(reconcile::Arguments),
    /// Our webhook endpoint at Polar
    #[command(subcommand)]
    Endpoint(endpoint::Command),
    /// Ask Polar about everything of an organization again and repair what differs, whatever is believed to be in step
    ///
    /// Enqueues the jobs of its customer, members, subscription, benefits and support desk. They give way
    /// to what the application and Polar ask for.
    Resync(resync::Arguments),
    /// Measure this installation: one JSON line per result
    ///
    /// Works in a database of its own, which it drops: beside `DATABASE_URL`, or without one on a
    /// private Postgres that is kept in `./var/bench`.
    Bench(bench::Arguments),
    /// Check settings, database, workers and Polar; each fault with its fix
    ///
    /// Exits with 0 where all is well, 1 with errors, 3 with warnings only.
    Doctor(doctor::Arguments),
    /// The startup program: invite an organization, take an invitation back, show where it stands
    #[command(subcommand)]
    Startup(startup::Command),
    /// Check what polar-jobs understands of the plans at Polar, or make an example of them
    #[command(subcommand)]
    Catalogue(catalogue::Command),
    /// What was used, counted and reported, and whether it adds up
    #[command(subcommand)]
    Usage(usage::Command),
    /// Preview the mails
    #[command(subcommand)]
    Mail(mail::Command),
    /// What organizations cost us, and what of it Polar knows
    #[command(subcommand)]
    Costs(costs::Command),
}

impl Command {
    /// Whether it takes the signals itself, because there is something to finish or to remove.
    fn stops_cleanly(&self) -> bool {
        matches!(
            self,
            Self::Dev(_) | Self::Ingress(_) | Self::Worker(_) | Self::Simulator(_) | Self::Bench(_)
        )
    }
}

/// What every command stands in.
pub(crate) struct AppContext {
    pub(crate) config: Config,
    pub(crate) masker: Masker,
    /// Whom changes by hand are put down to.
    pub(crate) actor: Actor,
}

/// Runs the command line of this process to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    // clap prints help and wrong usage itself and exits with 0 and 2.
    let cli = Cli::parse();
    let config = match environment(&cli.command).and_then(|read| Config::read(&read)) {
        Ok(config) => config,
        Err(wrong) => return refuse(&cli.command, wrong),
    };
    let masker = Masker::new(config.secrets());
    telemetry::init(&config.log, masker.clone());
    let app = AppContext {
        config,
        masker: masker.clone(),
        actor: cli.actor.unwrap_or_else(Actor::of_system),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return Failure::from(error).report(&masker),
    };
    match runtime.block_on(run(cli.command, &app)) {
        Ok(exit) => exit.code(),
        Err(failure) => failure.report(&masker),
    }
}

/// The variables that a command reads its settings from.
fn environment(command: &Command) -> Result<Environment, ConfigError> {
    let settings = Environment::of_process().or(Environment::of_file(Path::new(".env"))?);
    Ok(match command {
        Command::Dev(arguments) => arguments.settings(settings)?,
        _ => settings,
    })
}

/// Settings that cannot be used. `doctor` is asked about just that, so it answers in its own form.
fn refuse(command: &Command, wrong: ConfigError) -> ExitCode {
    let ended = match command {
        Command::Doctor(arguments) => doctor::report_wrong_settings(arguments, &wrong),
        _ => Err(wrong.into()),
    };
    match ended {
        Ok(exit) => exit.code(),
        Err(failure) => failure.report(&Masker::default()),
    }
}

async fn run(command: Command, app: &AppContext) -> Result<Exit, Failure> {
    if !command.stops_cleanly() {
        signals::exit_on_signals()?;
    }
    match command {
        Command::Dev(arguments) => dev::run(arguments, app).await,
        Command::Migrate => migrate::run(app).await,
        Command::Ingress(arguments) => ingress::run(arguments, app).await,
        Command::Worker(arguments) => worker::run(arguments, app).await,
        Command::Simulator(arguments) => simulator::run(arguments, app).await,
        Command::Jobs(command) => jobs::run(command, app).await,
        Command::Queues(command) => queues::run(command, app).await,
        Command::Schedules(command) => schedules::run(command, app).await,
        Command::Events(command) => events::run(command, app).await,
        Command::Organizations(command) => organizations::run(command, app).await,
        Command::Backfill(arguments) => backfill::run(arguments, app).await,
        Command::Reconcile(arguments) => reconcile::run(arguments, app).await,
        Command::Endpoint(command) => endpoint::run(command, app).await,
        Command::Resync(arguments) => resync::run(arguments, app).await,
        Command::Bench(arguments) => bench::run(arguments, app).await,
        Command::Doctor(arguments) => doctor::run(arguments, app).await,
        Command::Startup(command) => startup::run(command, app).await,
        Command::Catalogue(command) => catalogue::run(command, app).await,
        Command::Usage(command) => usage::run(command, app).await,
        Command::Mail(command) => mail::run(command, app),
        Command::Costs(command) => costs::run(command, app).await,
    }
}
