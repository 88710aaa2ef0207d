//! Writes many jobs by COPY: what a backfill uses.
//!
//! COPY cannot look for duplicates or predecessors, so it is for jobs without keys; keyed ones go through
//! [`super::enqueue::insert_all`].

use std::fmt::Write as _;

use jobs::NewJob;
use sqlx::PgConnection;

use super::enqueue;

/// Bytes that are sent at once.
const CHUNK: usize = 256 * 1024;
/// Keyed jobs per statement.
const KEYED_CHUNK: usize = 1000;

/// Writes jobs, inside the caller's transaction if one is open. Returns how many were written: a
/// keyed job that was merged into a waiting one is not.
///
/// # Errors
/// If the database refuses; outside a transaction keyed jobs may then be written in part.
pub async fn insert(
    connection: &mut PgConnection,
    jobs: impl IntoIterator<Item = NewJob>,
) -> Result<u64, sqlx::Error> {
    let mut keyed = Vec::new();
    let mut copy = connection
        .copy_in_raw("COPY polar_jobs.live_jobs (kind, queue, priority, max_attempts, run_at, events, payload) FROM STDIN")
        .await?;
    let mut lines = String::with_capacity(CHUNK + 4096);
    for job in jobs {
        if job.unique_key.is_some() || job.ordering_key.is_some() {
            keyed.push(job);
            continue;
        }
        write_line(&mut lines, &job);
        if lines.len() >= CHUNK {
            copy.send(lines.as_bytes()).await?;
            lines.clear();
        }
    }
    copy.send(lines.as_bytes()).await?;
    let mut written = copy.finish().await?;
    for chunk in keyed.chunks(KEYED_CHUNK) {
        written += enqueue::insert_all(connection, chunk)
            .await?
            .iter()
            .flatten()
            .count() as u64;
    }
    Ok(written)
}

/// One line of COPY's text format. JSON text has no raw tab or line break; its backslashes are
/// doubled.
fn write_line(line: &mut String, job: &NewJob) {
    let queue = job.queue.name();
    // Writing to a String cannot fail.
    let _ = write!(
        line,
        "{}\t{queue}\t{}\t{}\t",
        job.kind, job.priority, job.max_attempts
    );
    let _ = match job.run_at {
        Some(run_at) => write!(line, "{}\t", run_at.to_rfc3339()),
        None => write!(line, "now\t"),
    };
    let _ = match job.event {
        Some(event) => write!(line, "{{{event}}}\t"),
        None => write!(line, "\\N\t"),
    };
    let payload = job.payload.to_string();
    for (number, part) in payload.split('\\').enumerate() {
        if number > 0 {
            line.push_str("\\\\");
        }
        line.push_str(part);
    }
    line.push('\n');
}
