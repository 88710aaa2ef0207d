-- What operators do to many jobs at once.

-- Puts finished jobs back to waiting, each with its id, its history and a new budget on top of the failures
-- that it has. One that another job waits for with the same unique key is merged into that one and stays as
-- it is, and of several with one unique key the newest counts. Returns those that wait again.
CREATE FUNCTION polar_jobs.retry_finished(ids bigint[], state text) RETURNS TABLE (id bigint, queue text, blocked boolean)
    LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    gone polar_jobs.finished_jobs[];
    rows polar_jobs.live_jobs[];
    stored bigint[];
BEGIN
    WITH chosen AS (
        SELECT DISTINCT ON (coalesce(f.unique_key, f.id::text)) f.id FROM polar_jobs.finished_jobs f
         WHERE f.id = ANY (ids) AND (retry_finished.state IS NULL OR f.state = retry_finished.state)
         ORDER BY coalesce(f.unique_key, f.id::text), f.id DESC
    ), deleted AS (
        DELETE FROM polar_jobs.finished_jobs f WHERE f.id = ANY (ARRAY(SELECT c.id FROM chosen c)) RETURNING f
    )
    SELECT array_agg(d.f) INTO gone FROM deleted d;
    IF gone IS NULL THEN
        RETURN;
    END IF;
    -- Their events are open again, but for what other jobs of theirs did.
    DELETE FROM polar_jobs.event_ends e USING unnest(gone) g
     WHERE e.event_id = ANY (g.events) AND e.job_id = g.id;
    SELECT array_agg(ROW(
               g.id, now(), g.created_at, g.started_at, NULL, g.attempt,
               jsonb_array_length(g.errors) + least(g.max_attempts, coalesce(k.max_attempts, 20)), g.priority, false,
               coalesce(g.unique_key = g.ordering_key, false), g.queue, g.kind, nullif(g.unique_key, g.ordering_key),
               NULL, g.ordering_key, g.events, 'put back by an operator', g.payload, g.errors
           )::polar_jobs.live_jobs ORDER BY g.id)
      INTO rows FROM unnest(gone) g LEFT JOIN polar_jobs.kinds k ON k.kind = g.kind;
    stored := polar_jobs.store_jobs(rows);
    INSERT INTO polar_jobs.finished_jobs SELECT g.* FROM unnest(gone) g WHERE g.id <> ALL (stored);
    RETURN QUERY SELECT l.id, l.queue::text, l.blocked FROM polar_jobs.live_jobs l
     WHERE l.id = ANY (stored) AND l.id = ANY (ids);
END $$;

-- Ends unfinished jobs; a worker that had one finds its fence broken. With `running` only such jobs end.
-- Returns for each that ended whether a worker had it.
CREATE FUNCTION polar_jobs.end_jobs(ids bigint[], state text, outcome text, note text, running boolean)
    RETURNS SETOF boolean LANGUAGE sql SET enable_seqscan = off AS $$
    WITH gone AS (
        DELETE FROM polar_jobs.live_jobs WHERE id = ANY (ARRAY(
            SELECT l.id FROM polar_jobs.live_jobs l
             WHERE l.id = ANY (ids) AND (running IS NULL OR (l.worker IS NOT NULL) = running) ORDER BY l.id FOR UPDATE))
        RETURNING *
    ), ends AS (
        INSERT INTO polar_jobs.event_ends (event_id, job_id, rank)
        SELECT e, g.id, polar_jobs.end_rank(end_jobs.state, end_jobs.outcome) FROM gone g, unnest(g.events) e
    )
    INSERT INTO polar_jobs.finished_jobs
           (id, run_at, created_at, started_at, worker, attempt, max_attempts, priority, queue, kind,
            unique_key, ordering_key, events, note, payload, errors, state, outcome)
    SELECT id, run_at, created_at, started_at, worker, attempt, max_attempts, priority, queue, kind,
           CASE WHEN coalesces THEN ordering_key ELSE coalesce(unique_key, held_unique_key) END, ordering_key, events,
           end_jobs.note, payload, errors, end_jobs.state, end_jobs.outcome
      FROM gone
    RETURNING worker IS NOT NULL
$$;
