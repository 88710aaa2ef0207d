//! `polar-jobs backfill`: many changes, or every organization that we know, turned into jobs.
//!
//! The work is the workers', behind everything that people wait for and within the budget of calls. This
//! command writes the jobs, watches until they are done, and lists what Polar refused. Where it is stopped,
//! the next run goes on: changes carry ids, and the run over our own tables remembers its place.

mod estimate;
mod file;
mod known;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jobs::mirror::backfill::progress::{self, Clash};
use sqlx::PgPool;
use uuid::Uuid;

use self::estimate::Estimate;
use self::file::ChangesFile;
use super::output;
use super::progress::Progress;
use super::{AppContext, Exit, Failure, connect};

/// Between two looks at what is left.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(super) struct Arguments {
    /// Changes, one JSON object a line, as POST /changes takes them; without, every organization we know
    #[arg(long, value_name = "FILE.ndjson")]
    from: Option<PathBuf>,
    /// Write nothing: say how many changes, calls and minutes it would take
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(arguments: Arguments, app: &AppContext) -> Result<Exit, Failure> {
    // The file first: its faults need no database.
    let file = arguments
        .from
        .as_deref()
        .map(ChangesFile::read)
        .transpose()?;
    let pool = connect::pool(app.config.database()?, 3).await?;
    let self_organization = app.config.self_organization();
    let limit = app.config.polar.limits.per_window.get();
    if arguments.dry_run {
        let estimate = match &file {
            Some(file) => Estimate::of_file(&pool, file).await?,
            None => Estimate::of_tables(&pool, self_organization).await?,
        };
        estimate.print(limit)?;
        return Ok(Exit::Done);
    }
    let organizations = match file {
        Some(file) => {
            file.store(&pool, &app.actor).await?;
            Some(file.organizations())
        }
        None => {
            known::enqueue_all(&pool, &app.actor, self_organization).await?;
            None
        }
    };
    let left = follow(&pool, organizations.as_deref()).await?;
    if left > 0 {
        output::line(&format!(
            "{} waiting, and no worker runs: start one with `polar-jobs worker`",
            output::counted(left, "organization")
        ))?;
    }
    report(&progress::clashes(&pool, organizations.as_deref()).await?)?;
    Ok(Exit::Done)
}

/// Watches until no job about these organizations is left that runs soon, or no worker lives. Returns for
/// how many organizations jobs are left.
async fn follow(pool: &PgPool, organizations: Option<&[Uuid]>) -> Result<i64, Failure> {
    let progress = Progress::new("customers and members confirmed by Polar", 0);
    loop {
        let left = progress::unfinished(pool, organizations).await?;
        let confirmed = progress::confirmed(pool, organizations).await?;
        progress.set(confirmed.confirmed, confirmed.total);
        if left == 0 || !progress::worker_lives(pool).await? {
            progress.finish();
            return Ok(left);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// What Polar does not have as it is wanted, each with what helps.
fn report(clashes: &[Clash]) -> Result<(), Failure> {
    if clashes.is_empty() {
        return Ok(());
    }
    output::line(&format!("{}:", output::counted(clashes.len(), "clash")))?;
    for clash in clashes {
        let Clash {
            organization_id,
            subject,
            reason,
            ..
        } = clash;
        output::line(&format!(
            "organization {organization_id} {subject}: {reason}: {}",
            fix(clash)
        ))?;
    }
    Ok(())
}

fn fix(clash: &Clash) -> String {
    match (clash.holder, clash.is_refused) {
        (Some(holder), _) => {
            format!("give user {holder} or this one another address in the application")
        }
        (None, true) => "correct it in the application; the change is synced by itself".to_owned(),
        (None, false) if clash.subject == "benefits" => {
            "correct it at Polar; polar-jobs catalogue check shows how it is understood".to_owned()
        }
        (None, false) => "nothing to do; it is tried again every hour".to_owned(),
    }
}
