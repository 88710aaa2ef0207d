//! Takes jobs: up to the free slots, due, not blocked, the most urgent first, in one statement,
//! which also stores what the worker finished meanwhile. One commit then serves both.

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::ctid::Ctid;
use super::finish::Completion;

/// A row that this process now holds. `(id, attempt, worker)` is its fence.
#[derive(Debug)]
pub struct Claimed {
    /// The row.
    pub id: i64,
    /// Claims so far, this one included.
    pub attempt: i32,
    /// Where the row is since the claim.
    pub ctid: Ctid,
    /// Which job.
    pub kind: String,
    /// JSON as stored; decoded by the job, so that a bad payload costs one job and no other.
    pub payload: String,
    /// Failures so far.
    pub failures: i32,
    /// Failures after which it is discarded.
    pub max_attempts: i32,
    /// The external events that caused it.
    pub events: Option<Vec<i64>>,
    /// Whether it has an ordering key: its end may let the next one run.
    pub ordered: bool,
    /// Jobs of a lower one are claimed first.
    pub priority: i16,
    /// Within a priority the earliest is claimed first.
    pub run_at: DateTime<Utc>,
    /// When it was claimed, by the database's clock.
    pub started_at: DateTime<Utc>,
}

/// Who claims, and what it holds already: written down by the statement that claims, so that what was
/// claimed is known in the database even if the answer is lost.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRecord<'a> {
    /// The worker.
    pub worker: i64,
    /// Which of its fetch connections.
    pub fetcher: i16,
    /// Counts the connections that the fetcher had: a claim from an older one takes nothing.
    pub epoch: i32,
    /// Counts the claims of the fetcher.
    pub turn: i64,
    /// Jobs that it claimed before and still holds.
    pub held: &'a [i64],
}

/// Where the last claim of a fetcher ended. A queue that is being emptied is full of dead index entries
/// at its head; starting behind them keeps a claim as cheap as the first one. It is only a shortcut:
/// whoever uses it must start from the head again after a moment, and before calling a queue empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimCursor {
    priority: i16,
    run_at: DateTime<Utc>,
    id: i64,
}

impl ClaimCursor {
    /// Returns the cursor behind the last of these jobs.
    #[must_use]
    pub fn last_of(jobs: &[Claimed]) -> Option<Self> {
        jobs.iter()
            .map(|job| Self {
                priority: job.priority,
                run_at: job.run_at,
                id: job.id,
            })
            .max()
    }
}

/// Which due jobs a claim behind a [`ClaimCursor`] takes. Of two claims that are under way at once each would
/// step over what the other has locked. Worse, where the other commits meanwhile, it would lock jobs that it
/// then finds claimed, and their ends would wait for it. So each takes every second job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// No other claim is under way here.
    All,
    /// Those with an even id.
    Even,
    /// Those with an odd id.
    Odd,
}

impl Share {
    /// The bits of an id that are looked at, and what they must be.
    fn mask(self) -> (i64, i64) {
        match self {
            Self::All => (0, 0),
            Self::Even => (1, 0),
            Self::Odd => (1, 1),
        }
    }
}

/// One claim, and what is stored with it.
#[derive(Clone, Copy, Debug)]
pub struct ClaimRequest<'a> {
    /// Who claims.
    pub record: ClaimRecord<'a>,
    /// From which queue.
    pub queue: &'a str,
    /// Completions to be stored in the same commit.
    pub completions: &'a [Completion],
    /// At most so many jobs; 0 = none.
    pub limit: usize,
    /// Where it starts.
    pub from: ClaimFrom,
}

/// Where a claim starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimFrom {
    /// At the head of the queue.
    Head,
    /// Behind a cursor, and then it takes a share of what is due.
    Cursor(ClaimCursor, Share),
}

/// Most rows that one claim takes: beyond it a batch gains nothing.
pub const LARGEST_CLAIM: usize = 1000;

/// Stores completions and claims due jobs of a queue, in one commit.
///
/// The picked rows go through an array: with a join or `IN`, a generic plan takes the unknown LIMIT
/// for a tenth of the table and walks all of it. Each is named by its ctid, for it is locked and stays there;
/// one that somebody changed a moment before is left for the next claim.
///
/// # Errors
/// If the database fails; then nothing was stored and nothing claimed, or the answer was lost and
/// both happened: repeating the completions is harmless, and claims without an answer are requeued by
/// [`super::recovery::release`].
pub async fn complete_and_claim(
    connection: &mut PgConnection,
    request: &ClaimRequest<'_>,
) -> Result<Vec<Claimed>, sqlx::Error> {
    match request.from {
        ClaimFrom::Head => from_head(connection, request).await,
        ClaimFrom::Cursor(cursor, share) => from_cursor(connection, request, cursor, share).await,
    }
}

impl ClaimRequest<'_> {
    fn rows(&self) -> i64 {
        i64::try_from(self.limit.min(LARGEST_CLAIM)).unwrap_or(0)
    }
}

/// Completions, as column arrays for unnest.
struct Done<'a> {
    ids: Vec<i64>,
    attempts: Vec<i32>,
    ctids: Vec<Ctid>,
    notes: Vec<Option<&'a str>>,
}

impl<'a> Done<'a> {
    fn of(completions: &'a [Completion]) -> Self {
        Self {
            ids: completions.iter().map(|done| done.id).collect(),
            attempts: completions.iter().map(|done| done.attempt).collect(),
            ctids: completions.iter().map(|done| done.ctid).collect(),
            notes: completions
                .iter()
                .map(|done| done.ignored.as_deref())
                .collect(),
        }
    }
}

/// The statement of every claim: `$ends` stores ends before, `$due` selects the ctids of due jobs.
macro_rules! claim {
    ($ends:literal, $due:literal, $record:ident, $queue:ident, $limit:ident $(, $value:expr)*) => {
        sqlx::query_as!(
            Claimed,
            "WITH "
                + $ends
                + r#"me AS MATERIALIZED (
                   SELECT 1 FROM polar_jobs.claims c
                    WHERE c.worker = $1 AND c.fetcher = $4 AND c.epoch = $5 FOR NO KEY UPDATE
               ), taken AS (
                   UPDATE polar_jobs.live_jobs j
                      SET worker = $1, attempt = j.attempt + 1, started_at = now(),
                          held_unique_key = j.unique_key, unique_key = NULL, note = NULL
                    WHERE j.ctid = ANY (ARRAY("#
                + $due
                + r#"))
                   RETURNING j.id, j.attempt, j.ctid, j.kind, j.payload,
                             jsonb_array_length(j.errors) AS failures, j.max_attempts, j.events,
                             j.ordering_key IS NOT NULL AS ordered, j.priority, j.run_at, j.started_at
               ), recorded AS (
                   UPDATE polar_jobs.claims c SET turn = $6, ids = $7::bigint[] || ARRAY(SELECT t.id FROM taken t)
                    WHERE c.worker = $1 AND c.fetcher = $4 AND EXISTS (SELECT 1 FROM taken)
               )
               SELECT id AS "id!", attempt AS "attempt!", ctid AS "ctid!: Ctid", kind AS "kind!",
                      payload::text AS "payload!", failures AS "failures!", max_attempts AS "max_attempts!", events,
                      ordered AS "ordered!", priority AS "priority!", run_at AS "run_at!", started_at AS "started_at!"
                 FROM taken"#,
            $record.worker,
            $queue,
            $limit,
            $record.fetcher,
            $record.epoch,
            $record.turn,
            $record.held
            $(, $value)*
        )
    };
}

/// The same with ends to be stored. Their arrays stand side by side in a SELECT: in FROM, Postgres would write down
/// each of them before it begins.
///
/// A job is looked for where it was claimed. Only where fewer were there than have ended, all are looked for by
/// their ids: those that are gone already end no second time. The `+ 0` keeps the first from the index of the ids,
/// all of which it would walk through with a plan made while the table was small.
macro_rules! complete_and_claim {
    ($due:literal, $record:ident, $queue:ident, $limit:ident, $done:ident $(, $value:expr)*) => {
        claim!(
            "there AS (
                 DELETE FROM polar_jobs.live_jobs j
                  USING (SELECT unnest($8::bigint[]) AS id, unnest($9::int[]) AS attempt, unnest($10::text[]) AS why,
                                unnest($11::tid[]) AS ctid) d
                  WHERE j.ctid = d.ctid AND j.id + 0 = d.id AND j.attempt = d.attempt AND j.worker = $1
                 RETURNING j.*, d.why
             ), elsewhere AS (
                 DELETE FROM polar_jobs.live_jobs j
                  USING (SELECT unnest($8::bigint[]) AS id, unnest($9::int[]) AS attempt, unnest($10::text[]) AS why) d
                  WHERE j.id = d.id AND j.attempt = d.attempt AND j.worker = $1
                    AND (SELECT count(*) FROM there) < cardinality($8::bigint[])
                 RETURNING j.*, d.why
             ), finished AS NOT MATERIALIZED (
                 SELECT * FROM there UNION ALL SELECT * FROM elsewhere
             ), kept AS (
                 INSERT INTO polar_jobs.finished_jobs
                        (id, run_at, created_at, started_at, worker, attempt, max_attempts, priority, queue, kind,
                         unique_key, ordering_key, events, note, payload, errors, state, outcome)
                 SELECT id, run_at, created_at, started_at, worker, attempt, max_attempts, priority, queue, kind,
                        CASE WHEN coalesces THEN ordering_key ELSE held_unique_key END, ordering_key, events, why, payload,
                        errors, 'completed', CASE WHEN why IS NULL THEN 'applied' ELSE 'ignored' END
                   FROM finished
             ), ends AS (
                 INSERT INTO polar_jobs.event_ends (event_id, job_id, rank, note)
                 SELECT unnest(events), id, CASE WHEN why IS NULL THEN 2 ELSE 1 END, why FROM finished
                  WHERE events IS NOT NULL
             ), ",
            $due,
            $record,
            $queue,
            $limit,
            &$done.ids,
            &$done.attempts,
            &$done.notes as &[Option<&str>],
            &$done.ctids as &[Ctid]
            $(, $value)*
        )
    };
}

/// Due jobs from the head of the queue. None of a paused queue, and none for a worker that was reclaimed: its
/// record is gone.
macro_rules! from_head {
    ($statement:ident, $($before:literal,)? $($value:ident),*) => {
        $statement!(
            $($before,)?
            "SELECT due.ctid FROM polar_jobs.priorities($2) p CROSS JOIN LATERAL (
                 SELECT c.ctid FROM polar_jobs.live_jobs c
                  WHERE polar_jobs.in_queue(c.queue, $2) AND c.priority = p.priority AND c.run_at <= now()
                    AND NOT c.blocked AND c.worker IS NULL
                  ORDER BY c.run_at, c.id LIMIT $3 FOR UPDATE SKIP LOCKED) due
              LIMIT CASE WHEN $3 > 0 AND EXISTS (SELECT 1 FROM me)
                          AND NOT EXISTS (SELECT 1 FROM polar_jobs.queues q WHERE q.name = $2 AND q.paused_at IS NOT NULL)
                         THEN $3::bigint ELSE 0 END",
            $($value),*
        )
    };
}

/// Without ends it is another statement, for its start costs less: a job that comes to an idle worker waits for it.
async fn from_head(
    connection: &mut PgConnection,
    request: &ClaimRequest<'_>,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let &ClaimRequest { record, queue, .. } = request;
    let limit = request.rows();
    if request.completions.is_empty() {
        return from_head!(claim, "", record, queue, limit)
            .fetch_all(connection)
            .await;
    }
    let done = Done::of(request.completions);
    from_head!(complete_and_claim, record, queue, limit, done)
        .fetch_all(connection)
        .await
}

/// The same from behind a cursor and within its priority: the short form for a queue that is being
/// emptied, without the questions that a look at the head asks.
async fn from_cursor(
    connection: &mut PgConnection,
    request: &ClaimRequest<'_>,
    cursor: ClaimCursor,
    share: Share,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let &ClaimRequest { record, queue, .. } = request;
    let (limit, done) = (request.rows(), Done::of(request.completions));
    let (mask, bits) = share.mask();
    complete_and_claim!(
        "SELECT c.ctid FROM polar_jobs.live_jobs c
          WHERE polar_jobs.in_queue(c.queue, $2) AND c.priority = $12 AND c.run_at <= now() AND (c.run_at, c.id) > ($13, $14)
            AND NOT c.blocked AND c.worker IS NULL AND c.id & $15 = $16
          ORDER BY c.run_at, c.id LIMIT CASE WHEN EXISTS (SELECT 1 FROM me) THEN $3::bigint ELSE 0 END
          FOR UPDATE SKIP LOCKED",
        record,
        queue,
        limit,
        done,
        cursor.priority,
        cursor.run_at,
        cursor.id,
        mask,
        bits
    )
    .fetch_all(connection)
    .await
}
