//! `polar-jobs dev`: everything on one machine with nothing configured, and a demo scenario in it.

mod at_polar;
mod cast;
mod check;
mod door;
mod entitlements;
mod house;
mod outcome;
mod story;
mod watch;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use chrono::Utc;
use clap::Args;
use simulator::Faults;
use sqlx::PgPool;
use tokio::task::JoinHandle;

use super::process::{Process, Work};
use super::signals::Stop;
use super::{Exit, Failure, Surroundings, connect, ingress, output, worker};
use crate::schedule::Timetable;
use crate::telemetry::Metrics;
use cast::Cast;
use check::Check;
use door::Application;
use house::House;
use story::Stage;
use watch::Watch;

/// The longest that one step may take, without faults and with them.
const PATIENCE: Duration = Duration::from_secs(120);
const PATIENCE_WITH_FAULTS: Duration = Duration::from_secs(1800);
/// How long connections may take to come back at the end.
const CLOSING: Duration = Duration::from_secs(5);
/// Between two lines of the running summary.
const SUMMARY: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(super) struct Arguments {
    /// The port of the front door; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Where the database and mail are kept
    #[arg(long, value_name = "DIR", default_value = "./var")]
    data_dir: PathBuf,
    /// Play the story, wait until every job is done, check every outcome, and exit
    #[arg(long)]
    once: bool,
    /// Ids and mishaps follow from it
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Mishaps between Polar and us and how often they happen, such as 20%
    ///
    /// The local Polar sends a lost delivery again after a twentieth of Polar's real waits, which
    /// begin at seconds and double; `20%,retry-scale=1` waits as long as Polar does.
    #[arg(long, value_name = "SPEC", default_value = "", hide_default_value = true, value_parser = brisk)]
    faults: Faults,
}

pub(super) async fn run(arguments: Arguments, given: &Surroundings) -> Result<Exit, Failure> {
    let stop = Stop::on_signals()?;
    let house = House::build(
        given,
        &arguments.data_dir,
        arguments.seed,
        arguments.faults.clone(),
    )
    .await?;
    let lived = live(&arguments, &house, &stop).await;
    house.leave().await?;
    lived
}

/// Faults with shorter waits between deliveries, so that the scenario does not take minutes; what is
/// asked for wins.
fn brisk(spec: &str) -> Result<Faults, <Faults as FromStr>::Err> {
    format!("retry-scale=0.05,{spec}").parse()
}

/// Starts the ingress and the worker, runs the scenario; then stops everything in the opposite order.
async fn live(arguments: &Arguments, house: &House, stop: &Stop) -> Result<Exit, Failure> {
    let connections = house.surroundings.config.database_connections;
    let pool = connect::pool(&house.database, connections).await?;
    let Running {
        address,
        door,
        mut work,
    } = start(arguments, house, &pool, stop).await?;
    let mut worker_ended = false;
    let played = tokio::select! {
        played = perform(arguments, house, &pool, address) => played,
        () = stop.requested(), if arguments.once => Err(Failure::failed("stopped before the story was over")),
        () = stop.requested(), if !arguments.once => Ok(Exit::Done),
        ended = &mut work => {
            worker_ended = true;
            ended.context("the worker died")?.and_then(|()| Err(Failure::failed("the worker stopped unasked")))
        }
    };
    stop.request();
    door.await.context("the front door died")?;
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
    door: JoinHandle<()>,
    work: JoinHandle<Result<(), Failure>>,
}

async fn start(
    arguments: &Arguments,
    house: &House,
    pool: &PgPool,
    stop: &Stop,
) -> Result<Running, Failure> {
    let surroundings = &house.surroundings;
    let metrics = Metrics::install().context("metrics cannot be recorded")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, arguments.port));
    let door = ingress::door(&surroundings.config, &house.database, address, &metrics).await?;
    let address = door.local_addr();
    if let Some(polar) = &house.polar {
        polar.set_webhook_url(Some(format!("http://{address}/integrations/polar/webhook")));
    }
    output::line(&house.describe(address))?;
    let queues = worker::served(pool, &surroundings.config, &[]).await?;
    let process = Process::new(surroundings, &house.database, pool.clone(), metrics)?;
    let (door_stop, work_stop) = (stop.clone(), stop.clone());
    Ok(Running {
        address,
        door: tokio::spawn(async move { door.serve(door_stop.requested()).await }),
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
    house: &House,
    pool: &PgPool,
    door: SocketAddr,
) -> Result<Exit, Failure> {
    let began = Utc::now();
    let config = &house.surroundings.config;
    let cast = Cast::of_run(house.run);
    let token = config
        .http
        .app_token
        .clone()
        .context("the house has an application token")?;
    let calm = brisk("").is_ok_and(|none| none == arguments.faults);
    let watch = Watch {
        pool: pool.clone(),
        patience: if calm { PATIENCE } else { PATIENCE_WITH_FAULTS },
    };
    let application = Application::new(&format!("http://{door}"), token, cast.run())?;
    let polar = house.polar.as_ref();
    let timetable = Timetable::of(&jobs::registry()).context("a schedule cannot be used")?;
    let told = Stage {
        cast: &cast,
        application,
        watch: &watch,
        timetable: &timetable,
        polar,
    }
    .play()
    .await;
    if let (Err(error), false) = (&told, arguments.once) {
        output::line(&format!("The story broke off: {error:#}"))?;
    }
    let check = Check {
        cast: &cast,
        pool,
        polar,
        platform_fees: config.platform_fees,
        began,
    };
    let checked = outcome::report(&check.outcomes().await?);
    if arguments.once {
        told?;
        return checked.map(|()| Exit::Done);
    }
    stay_open(&watch).await
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
    use super::brisk;

    #[test]
    fn the_scenario_waits_a_twentieth_of_polars_waits_unless_set_otherwise() {
        let scale = |spec| brisk(spec).map(|faults| faults.retry_scale).ok();
        assert_eq!(scale("20%"), Some(0.05));
        assert_eq!(scale("20%,retry-scale=1"), Some(1.0));
        assert_eq!(scale("nonsense"), None);
    }
}
