//! `jobs show`: one job, explained.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::PgPool;

use super::super::output::{self, Format};
use super::super::{Exit, Failure};
use crate::queue::table::{self, Explanation, JobRow};

pub(super) async fn run(pool: &PgPool, id: i64, format: Format) -> Result<Exit, Failure> {
    let Some(job) = table::find(pool, id).await? else {
        return Err(Failure::failed(format!(
            "there is no job {id}; finished jobs are kept for 7 days, discarded ones for 90"
        )));
    };
    let around = table::explain(pool, &job).await?;
    let (why, cures) = (why(&job, &around), cures(&job, &around));
    match format {
        Format::Json => {
            let mut object = serde_json::to_value(&job)?;
            object["why"] = json!(why);
            object["what_can_be_done"] = json!(cures);
            output::json(&object)?;
        }
        Format::Table => output::line(page(&job, &why, &cures).trim_end())?,
    }
    Ok(Exit::Done)
}

/// Everything that keeps a job where it is, or how it ended.
fn why(job: &JobRow, around: &Explanation) -> Vec<String> {
    match job.state.as_str() {
        "available" => why_waiting(job, around),
        "running" => vec![match &around.holder {
            Some(worker) => format!(
                "worker {} has it (process {} on {}, lease until {})",
                job.worker.unwrap_or_default(),
                worker.pid,
                worker.host,
                output::moment(worker.leased_until)
            ),
            None => "its worker is gone; it is taken back within a minute".to_owned(),
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
                output::counted(i64::from(job.attempt), "claim"),
                output::counted(failures as i64, "failure"),
            )];
            ends.extend(job.note.clone());
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
    if job.run_at > around.now {
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
fn cures(job: &JobRow, around: &Explanation) -> Vec<String> {
    let id = job.id;
    let mut cures = Vec::new();
    match job.state.as_str() {
        "available" => {
            if let Some(head) = &around.behind {
                cures.push(format!(
                    "look at the job before it: polar-jobs jobs show {}",
                    head.id
                ));
            }
            if around.queue_paused_at.is_some() {
                cures.push(format!(
                    "let the queue run: polar-jobs queues resume {}",
                    job.queue
                ));
            }
            if around.workers == 0 {
                cures.push("start a worker: polar-jobs worker".to_owned());
            }
            if job.run_at > around.now {
                cures.push(format!("run it now: polar-jobs jobs retry {id}"));
            }
            cures.push(format!("take it back: polar-jobs jobs cancel {id}"));
        }
        "running" => cures.push(format!("take it back: polar-jobs jobs cancel {id}")),
        _ => cures.push(format!("run it again: polar-jobs jobs retry {id}")),
    }
    cures
}

fn page(job: &JobRow, why: &[String], cures: &[String]) -> String {
    let mut page = format!("job {} · {} · {}\n", job.id, job.kind, job.state);
    let mut fact = |name: &str, value: &str| {
        if !value.is_empty() {
            // Writing into a String cannot fail.
            let _written = writeln!(page, "  {name:<13} {value}");
        }
    };
    fact("queue", &job.queue);
    fact("priority", &job.priority.to_string());
    fact("payload", &job.payload.to_string());
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
            output::counted(i64::from(job.attempt), "claim"),
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
        ("what can be done", cures.to_vec()),
    ];
    for (title, lines) in sections.iter().filter(|(_, lines)| !lines.is_empty()) {
        page.push_str(title);
        page.push('\n');
        for line in lines {
            page.push_str(&format!("  {line}\n"));
        }
    }
    page
}

/// One line per failed attempt.
fn errors(job: &JobRow) -> Vec<String> {
    let line = |error: &Value| {
        let at = error["at"].as_str().unwrap_or_default();
        let at = at.parse().map_or(at.to_owned(), output::moment);
        let text = error["error"].as_str().unwrap_or_default();
        format!("{at} attempt {}: {text}", error["attempt"])
    };
    job.errors
        .as_array()
        .map(|errors| errors.iter().map(line).collect())
        .unwrap_or_default()
}

fn distance(now: DateTime<Utc>, then: DateTime<Utc>) -> String {
    match (then - now).num_seconds() {
        seconds @ ..120 => format!("in {seconds} s"),
        seconds @ ..7200 => format!("in {} min", seconds / 60),
        seconds => format!("in {} h", seconds / 3600),
    }
}
