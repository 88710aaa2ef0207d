//! `polar-jobs events replay`: stored events once more.

use chrono::{DateTime, Utc};
use clap::Args;
use jobs::contract::Settings;
use serde::Serialize;
use sqlx::PgPool;

use super::super::clients::{call_failed, command_client, job_settings};
use super::super::organization::{self, OrganizationName};
use super::super::output::{self, Format, counted};
use super::super::{AppContext, Exit, Failure, time};
use crate::replay::{self, Difference, Filter, Replayed, Shadow, ShadowJob, Shadows};

#[derive(Args)]
pub(in crate::cli) struct Replay {
    /// The events' ids; without them a range
    #[arg(value_name = "ID")]
    ids: Vec<i64>,
    /// Only events of this type, such as subscription.updated
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only events that name this organization: its id, Polar's customer id, its slug or its name
    #[arg(long)]
    organization: Option<OrganizationName>,
    /// Only events that came at this time or later: 2h (so long ago), 2026-08-01 (UTC) or 2026-08-01T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time::moment_or_ago)]
    since: Option<DateTime<Utc>>,
    /// Only events that came before this time, written in the same ways
    #[arg(long, value_name = "TIME", value_parser = time::moment_or_ago)]
    until: Option<DateTime<Utc>>,
    /// Say what would change, and change nothing: neither here nor at Polar or the support desk
    #[arg(long)]
    shadow: bool,
    /// Do it, where a range is meant
    #[arg(long)]
    yes: bool,
    /// Lines for people, or one JSON array
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) async fn run(
    arguments: Replay,
    pool: &PgPool,
    app: &AppContext,
) -> Result<Exit, Failure> {
    let filter = Filter {
        ids: arguments.ids.clone(),
        event_type: arguments.event_type.clone(),
        organization: organization::id_of(arguments.organization.as_ref(), pool).await?,
        since: arguments.since,
        until: arguments.until,
    };
    if filter.is_everything() {
        return Err(Failure::usage(
            "events replay needs ids, or at least one of --type, --organization, --since or --until",
        ));
    }
    require_ids(pool, &arguments.ids).await?;
    if arguments.shadow {
        return shadow(&arguments, pool, app, &filter).await;
    }
    if arguments.ids.is_empty() && !arguments.yes {
        let count = filter.count(pool).await?;
        if count == 0 {
            match arguments.format {
                Format::Json => output::json(&[(); 0])?,
                Format::Table => output::line("there is no such event to run again")?,
            }
            return Ok(Exit::Done);
        }
        let count = counted(count, "event");
        return Err(Failure::usage(format!(
            "events replay would run {count} again; add --yes to do it, or --shadow to see what would change"
        )));
    }
    let replayed = replay::replay(pool, &app.actor, &filter).await?;
    match arguments.format {
        Format::Json => output::json(&rows(&replayed))?,
        Format::Table => say(&replayed)?,
    }
    let asked_for_by_name = !arguments.ids.is_empty() && !replayed.left_alone.is_empty();
    Ok(if asked_for_by_name {
        Exit::ChecksFailed
    } else {
        Exit::Done
    })
}

/// What became of one event, as programs read it.
#[derive(Serialize)]
struct Row<'a> {
    event: i64,
    replayed: bool,
    reason: Option<&'a str>,
}

/// In the order of the events.
fn rows(done: &Replayed) -> Vec<Row<'_>> {
    let replayed = done.replayed.iter().map(|&event| Row {
        event,
        replayed: true,
        reason: None,
    });
    let left_alone = done.left_alone.iter().map(|(event, reason)| Row {
        event: *event,
        replayed: false,
        reason: Some(reason),
    });
    let mut rows: Vec<_> = replayed.chain(left_alone).collect();
    rows.sort_by_key(|row| row.event);
    rows
}

fn say(done: &Replayed) -> Result<(), Failure> {
    for (reason, events) in by_reason(&done.left_alone) {
        output::line(&match events.as_slice() {
            [event] => format!("event {event}: not replayed, {reason}"),
            [first, ..] => format!(
                "{} events, of which {first} is the first: not replayed, {reason}",
                events.len()
            ),
            [] => continue,
        })?;
    }
    output::line(&format!(
        "{} replayed",
        counted(done.replayed.len(), "event")
    ))
}

/// The events of each reason, in the order of the events: a range may hold thousands that start nothing.
fn by_reason(left_alone: &[(i64, String)]) -> Vec<(&str, Vec<i64>)> {
    let mut reasons: Vec<(&str, Vec<i64>)> = Vec::new();
    for (event, reason) in left_alone {
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, events)) => events.push(*event),
            None => reasons.push((reason, vec![*event])),
        }
    }
    reasons
}

/// An id that means nothing is a slip.
async fn require_ids(pool: &PgPool, ids: &[i64]) -> Result<(), Failure> {
    let unknown = sqlx::query_scalar!(
        r#"SELECT given.id AS "id!" FROM unnest($1::bigint[]) AS given (id)
            WHERE NOT EXISTS (SELECT 1 FROM polar_jobs.stored_events s WHERE s.id = given.id)"#,
        ids,
    )
    .fetch_optional(pool)
    .await?;
    match unknown {
        None => Ok(()),
        Some(id) => Err(Failure::failed(format!(
            "there is no event {id}; events are kept for 90 days"
        ))),
    }
}

async fn shadow(
    arguments: &Replay,
    pool: &PgPool,
    app: &AppContext,
    filter: &Filter,
) -> Result<Exit, Failure> {
    let config = &app.config;
    let shadows = Shadows {
        options: config.database()?.options(),
        registry: jobs::registry(),
        polar: command_client(&config.polar, pool)?,
        mail: config.mailer(),
        // Nobody is told of what only would happen.
        settings: Settings {
            app_webhook: None,
            ..job_settings(config)?
        },
    };
    let shadows = shadows.of(pool, filter).await.map_err(call_failed)?;
    match arguments.format {
        Format::Json => output::json(&shadows)?,
        Format::Table => {
            for shadow in &shadows {
                show(shadow)?;
            }
        }
    }
    Ok(Exit::Done)
}

fn show(shadow: &Shadow) -> Result<(), Failure> {
    let named = shadow.event_type.as_deref().unwrap_or("(unreadable)");
    output::line(&output::flat(&format!("event {} {named}", shadow.event)))?;
    for ShadowJob {
        kind,
        outcome,
        note,
    } in &shadow.jobs
    {
        let note = note.as_deref().map(|note| format!(": {note}"));
        let line = format!("{kind} {}{}", outcome.name(), note.unwrap_or_default());
        output::line(&format!("  {}", output::flat(&line)))?;
    }
    for Difference {
        subject,
        field,
        before,
        after,
    } in &shadow.changes
    {
        let line = format!("{subject}: {field} {before} -> {after}");
        output::line(&format!("  {}", output::flat(&line)))?;
    }
    if shadow.changes.is_empty() {
        output::line("  nothing would change in our tables")?;
    }
    Ok(())
}
