//! Writes jobs by COPY, as fast as Postgres takes them. COPY cannot look for duplicates or for who goes first, so it is
//! for jobs without keys only.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use jobs::NewJob;
use sqlx::PgConnection;

/// Bytes that are sent at once.
const CHUNK: usize = 256 * 1024;

/// Writes jobs without keys and events, due at `run_at`, or at once.
///
/// # Errors
/// If the database refuses.
pub(super) async fn insert(
    connection: &mut PgConnection,
    run_at: Option<DateTime<Utc>>,
    jobs: impl IntoIterator<Item = NewJob>,
) -> Result<(), sqlx::Error> {
    let statement = match run_at {
        None => {
            "COPY polar_jobs.live_jobs (kind, queue, priority, max_attempts, payload) FROM STDIN"
        }
        Some(_) => {
            "COPY polar_jobs.live_jobs (kind, queue, priority, max_attempts, payload, run_at) FROM STDIN"
        }
    };
    let end = run_at.map_or("\n".to_owned(), |at| format!("\t{}\n", at.to_rfc3339()));
    let mut copy = connection.copy_in_raw(statement).await?;
    let mut lines = String::with_capacity(CHUNK + 4096);
    for job in jobs {
        write_line(&mut lines, &job);
        lines.push_str(&end);
        if lines.len() >= CHUNK {
            copy.send(lines.as_bytes()).await?;
            lines.clear();
        }
    }
    copy.send(lines.as_bytes()).await?;
    copy.finish().await.map(drop)
}

/// The columns up to the payload in COPY's text format. JSON text has no raw tab or line break; its backslashes are
/// doubled.
fn write_line(line: &mut String, job: &NewJob) {
    let queue = job.queue.name();
    // Writing to a String cannot fail.
    let _ = write!(
        line,
        "{}\t{queue}\t{}\t{}\t",
        job.kind, job.priority, job.max_attempts
    );
    let payload = job.payload.to_string();
    for (number, part) in payload.split('\\').enumerate() {
        if number > 0 {
            line.push_str("\\\\");
        }
        line.push_str(part);
    }
}
