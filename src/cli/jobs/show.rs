//! `jobs show`: one job, explained.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use jobs::types::Timestamp;
use serde_json::json;
use sqlx::PgPool;

use super::super::output::{self, Format};
use super::super::{Exit, Failure};
use super::failures;
use crate::queue::table::{self, Explanation, JobRow, State};

pub(super) async fn run(pool: &PgPool, id: i64, format: Format) -> Result<Exit, Failure> {
    let Some(job) = table::find(pool, id).await? else {
        return Err(Failure::failed(format!(
            "there is no job {id}; finished jobs are kept for 7 days, discarded ones for 90"
        )));
    };
    let around = table::explain(pool, &job).await?;
    let (why, fixes) = (why(&job, &around), fixes(&job, &around));
    match format {
        Format::Json => {
            let fields = [("why", json!(why)), ("what_can_be_done", json!(fixes))];
            output::json_with(&job, &fields)?;
        }
        Format::Table => output::line(page(&job, &why, &fixes).trim_end())?,
    }
    Ok(Exit::Done)
}

/// Everything that keeps a job where it is, or how it ended.
fn why(job: &JobRow, around: &Explanation) -> Vec<String> {
    match job.state {
        State::Available => why_waiting(job, around),
        State::Running => vec![match &around.holder {
            Some(worker) => format!(
                "worker {} has it (process {} on {}, lease until {})",
                job.worker.unwrap_or_default(),
                worker.pid,
                worker.host,
                output::moment(worker.leased_until)
            ),
            None => "its worker is gone; others take it over within a minute".to_owned(),
        }],
        state => {
            let failures = errors(job).len();
            let outcome = job.outcome.as_deref().unwrap_or("unknown");
            let events = match job.events.as_deref().unwrap_or_default() {
                [] => String::new(),
                _ => format!("; what caused it counts as {outcome}"),
            };
            let mut ends = vec![format!(
                "{state} after {} and {}{events}",
                output::counted(job.attempt, "claim"),
                output::counted(failures, "failure"),
            )];
            ends.extend(job.note.clone());
            ends.extend(around.acknowledged_at.map(|at| {
                let at = output::moment(at);
                format!("acknowledged at {at}: nothing warns of it any more")
            }));
            ends
        }
    }
}

fn why_waiting(job: &JobRow, around: &Explanation) -> Vec<String> {
    let mut reasons = Vec::new();
    if job.blocked {
        let key = job.ordering_key.as_deref().unwrap_or_default();
        reasons.push(match &around.behind {
            Some(head) => {
                let does = if head.running { "runs" } else { "waits" };
                format!(
                    "blocked by job {} ({}), which {does} first on the ordering key {key}",
                    head.id, head.kind
                )
            }
            None => format!("the ordering key {key} has just become free"),
        });
    }
    if let Some(since) = around.queue_paused_at {
        reasons.push(format!(
            "the queue {} is paused since {}",
            job.queue,
            output::moment(since)
        ));
    }
    if job.run_at > around.now.into() {
        let note = job
            .note
            .as_deref()
            .map(|note| format!(": {note}"))
            .unwrap_or_default();
        reasons.push(format!(
            "not before {} ({}){note}",
            output::moment(job.run_at),
            distance(around.now, job.run_at)
        ));
    }
    if around.workers == 0 {
        reasons.push(format!("no living worker serves the queue {}", job.queue));
    }
    if !around.kind_is_known {
        reasons.push(format!(
            "the installed release does not know the kind {}",
            job.kind
        ));
    }
    if reasons.is_empty() {
        reasons.push("ready: it runs as soon as a slot is free".to_owned());
    }
    reasons
}

/// What an operator can do, as commands where there is one.
fn fixes(job: &JobRow, around: &Explanation) -> Vec<String> {
    let id = job.id;
    let mut fixes = Vec::new();
    match job.state {
        State::Available => {
            if let Some(head) = &around.behind {
                fixes.push(format!(
                    "look at the job before it: polar-jobs jobs show {}",
                    head.id
                ));
            }
            if around.queue_paused_at.is_some() {
                fixes.push(format!(
                    "let the queue run: polar-jobs queues resume {}",
                    job.queue
                ));
            }
            if around.workers == 0 {
                fixes.push("start a worker: polar-jobs worker".to_owned());
            }
            if job.run_at > around.now.into() {
                fixes.push(format!("run it now: polar-jobs jobs retry {id}"));
            }
            fixes.push(format!("cancel it: polar-jobs jobs cancel {id}"));
        }
        State::Running => fixes.push(format!("cancel it: polar-jobs jobs cancel {id}")),
        state => {
            fixes.push(format!("run it again: polar-jobs jobs retry {id}"));
            if state == State::Discarded && around.acknowledged_at.is_none() {
                fixes.push(format!(
                    "leave it as it is, without warnings: polar-jobs jobs acknowledge {id}"
                ));
            }
        }
    }
    fixes
}

fn page(job: &JobRow, why: &[String], fixes: &[String]) -> String {
    let mut page = format!(
        "job {} · {} · {}\n",
        job.id,
        output::flat(&job.kind),
        job.state
    );
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            // Writing into a String cannot fail.
            let _written = writeln!(page, "  {name:<13} {}", output::flat(value));
        }
    };
    let organization = output::organization(job.organization.as_deref(), job.organization_id);
    fact("organization", &organization);
    fact("queue", &job.queue);
    fact("priority", &job.priority.to_string());
    fact("payload", job.payload.get());
    fact("unique key", job.unique_key.as_deref().unwrap_or_default());
    fact(
        "ordering key",
        job.ordering_key.as_deref().unwrap_or_default(),
    );
    fact("created at", &output::moment(job.created_at));
    fact("run at", &output::moment(job.run_at));
    fact("started at", &output::maybe_moment(job.started_at));
    fact("finished at", &output::maybe_moment(job.finished_at));
    fact(
        "attempts",
        &format!(
            "{}, {} of {} failures",
            output::counted(job.attempt, "claim"),
            errors(job).len(),
            job.max_attempts
        ),
    );
    fact(
        "events",
        &job.events
            .iter()
            .flatten()
            .map(i64::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    );
    let sections = [
        ("failures", errors(job)),
        ("why", why.to_vec()),
        ("what can be done", fixes.to_vec()),
    ];
    for (title, lines) in sections.iter().filter(|(_, lines)| !lines.is_empty()) {
        page.push_str(title);
        page.push('\n');
        for line in lines {
            page.push_str(&format!("  {}\n", output::flat(line)));
        }
    }
    page
}

/// One line per failed attempt.
fn errors(job: &JobRow) -> Vec<String> {
    failures::of(job)
        .iter()
        .map(failures::Failure::line)
        .collect()
}

fn distance(now: DateTime<Utc>, then: Timestamp) -> String {
    let Some(then) = then.to_utc() else {
        return "never".to_owned();
    };
    match (then - now).num_seconds() {
        seconds @ ..120 => format!("in {seconds} s"),
        seconds @ ..7200 => format!("in {} min", seconds / 60),
        seconds @ ..172_800 => format!("in {} h", seconds / 3600),
        seconds => format!("in {} days", seconds / 86_400),
    }
}
