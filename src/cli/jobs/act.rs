//! `jobs retry`, `jobs cancel`, `jobs discard`, `jobs acknowledge`

use sqlx::PgPool;

use super::super::{Exit, Failure, output};
use super::Which;
use crate::operators::Actor;
use crate::queue::table::{self, Acted, Action};

pub(super) async fn run(
    pool: &PgPool,
    actor: &Actor,
    action: Action,
    which: Which,
) -> Result<Exit, Failure> {
    if which.ids.is_empty() {
        in_bulk(pool, actor, action, which).await
    } else {
        by_id(pool, actor, action, &which.ids).await
    }
}

async fn by_id(pool: &PgPool, actor: &Actor, action: Action, ids: &[i64]) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    for &id in ids {
        let acted = table::act(pool, actor, action, id).await?;
        if !acted.happened() {
            exit = Exit::ChecksFailed;
        }
        output::line(&format!("job {id}: {}", words(action, &acted)))?;
    }
    Ok(exit)
}

/// A bulk form names what it means and is confirmed: a slip must not run a million jobs again.
async fn in_bulk(
    pool: &PgPool,
    actor: &Actor,
    action: Action,
    which: Which,
) -> Result<Exit, Failure> {
    let filter = which.filters.with_limit(which.limit, pool).await?;
    let verb = action.verb();
    if filter.is_everything() {
        let filters = "--state, --kind, --queue or --organization";
        return Err(Failure::usage(format!(
            "jobs {verb} needs ids, or at least one of {filters}"
        )));
    }
    if let Some(state) = filter.state.filter(|state| !action.applies_to(*state)) {
        return Err(Failure::usage(format!(
            "jobs that are {} cannot be {}",
            state.name(),
            past(action)
        )));
    }
    if !which.yes {
        let count = table::count(pool, action, &filter).await?;
        if count == 0 {
            output::line(&format!("there is no such job to {verb}"))?;
            return Ok(Exit::Done);
        }
        return Err(Failure::usage(format!(
            "jobs {verb} would touch {}; add --yes to do it",
            output::counted(count, "job")
        )));
    }
    let done = table::act_on_all(pool, actor, action, &filter).await?;
    output::line(&format!(
        "{} {}",
        output::counted(done, "job"),
        past(action)
    ))?;
    Ok(Exit::Done)
}

fn words(action: Action, acted: &Acted) -> String {
    let behind = |blocked: bool| {
        if blocked {
            ", once the job before it on its ordering key has ended"
        } else {
            ""
        }
    };
    match acted {
        Acted::RunsNow { blocked } => format!("runs as soon as a slot is free{}", behind(*blocked)),
        Acted::WaitsAgain { blocked } => {
            format!(
                "waits again with a new budget of attempts and runs as soon as a slot is free{}",
                behind(*blocked)
            )
        }
        Acted::Ended { running: false } => past(action).to_owned(),
        Acted::Acknowledged => "acknowledged: nothing warns of it any more".to_owned(),
        Acted::Ended { running: true } => {
            format!(
                "{}; its worker may still be at it, but nothing of that is stored",
                past(action)
            )
        }
        Acted::DuplicateWaits { duplicate } => {
            format!("not needed: job {duplicate} waits with the same unique key")
        }
        Acted::Refused { state } => format!("is {state}, so there is nothing to {}", action.verb()),
        Acted::Unknown => "there is no such job, or no longer".to_owned(),
    }
}

fn past(action: Action) -> &'static str {
    match action {
        Action::Retry => "retried",
        Action::Cancel => "cancelled",
        Action::Discard => "discarded",
        Action::Acknowledge => "acknowledged",
    }
}
