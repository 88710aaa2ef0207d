-- How a run ends other than well: requeued, given up, reclaimed from a dead worker, or by an operator's hand.
-- What a handler completed is stored by the statement that claims the next jobs (`src/queue/claim.rs`).

-- Moves jobs that the caller has locked to the history. `failures` become the last entries of their errors, one
-- for each job in the same order.
CREATE FUNCTION polar_jobs.move_to_history(
    jobs polar_jobs.live_jobs[], state text, outcome text, note text, failures jsonb[] DEFAULT '{}'
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH gone AS (
        DELETE FROM polar_jobs.live_jobs l WHERE l.id = ANY (ARRAY(SELECT j.id FROM unnest(jobs) j))
    ), ends AS (
        INSERT INTO polar_jobs.event_ends (event_id, job_id, rank, note)
        SELECT e, j.id, polar_jobs.end_rank(state, outcome),
               CASE WHEN polar_jobs.end_rank(state, outcome) <> 2
                    THEN coalesce(move_to_history.note, (j.errors || coalesce(failures[j.ordinality], '[]')) -> -1 ->> 'error') END
          FROM unnest(jobs) WITH ORDINALITY j, unnest(j.events) e
    )
    INSERT INTO polar_jobs.finished_jobs
           (id, run_at, created_at, started_at, worker, attempt, max_attempts, priority, queue, kind,
            unique_key, ordering_key, events, note, payload, errors, state, outcome)
    SELECT j.id, j.run_at, j.created_at, j.started_at, j.worker, j.attempt, j.max_attempts, j.priority, j.queue, j.kind,
           CASE WHEN j.coalesces THEN j.ordering_key ELSE coalesce(j.held_unique_key, j.unique_key) END,
           j.ordering_key, j.events, move_to_history.note, j.payload, j.errors || coalesce(failures[j.ordinality], '[]'),
           state, outcome
      FROM unnest(jobs) WITH ORDINALITY j;
END $$;

-- A running job waits again. A job that waits with its unique key meanwhile merges into it, not the other
-- way round: so failures stay counted, whatever news come, and the order stays. It runs when the newer one
-- would have, if that is earlier.
-- With `still_due` the work counts as due since it was due first.
CREATE FUNCTION polar_jobs.requeue_job(
    job polar_jobs.live_jobs, at timestamptz, failure jsonb, note text, still_due boolean
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    duplicate polar_jobs.live_jobs;
BEGIN
    IF job.coalesces THEN
        SELECT l.* INTO duplicate FROM polar_jobs.live_jobs l
         WHERE l.ordering_key = job.ordering_key AND l.blocked AND l.coalesces FOR UPDATE;
    ELSIF job.held_unique_key IS NOT NULL THEN
        SELECT l.* INTO duplicate FROM polar_jobs.live_jobs l WHERE l.unique_key = job.held_unique_key FOR UPDATE;
    END IF;
    UPDATE polar_jobs.live_jobs l
       SET worker = NULL, run_at = least(requeue_job.at, duplicate.run_at), note = requeue_job.note,
           due_at = CASE WHEN still_due THEN coalesce(l.due_at, l.run_at) END,
           priority = least(l.priority, duplicate.priority),
           events = polar_jobs.merge_events(l.events, duplicate.events),
           payload = polar_jobs.merge_payload(l.payload, duplicate.payload),
           errors = l.errors || coalesce(failure, '[]') || coalesce(duplicate.errors, '[]')
     WHERE l.id = job.id;
    IF duplicate.id IS NOT NULL THEN
        -- The events are the other job's now.
        duplicate.events := NULL;
        PERFORM polar_jobs.move_to_history(ARRAY[duplicate], 'cancelled', 'ignored', 'merged into job ' || job.id);
    END IF;
    IF job.held_unique_key IS NOT NULL THEN
        UPDATE polar_jobs.live_jobs l SET unique_key = l.held_unique_key, held_unique_key = NULL WHERE l.id = job.id;
    END IF;
END $$;

-- Many, each fenced by (id, attempt, worker) and each for itself: one that somebody is in the way of costs
-- the others nothing. `failures` are entries of `errors`, null where no attempt is charged. Returns those
-- that still run and must be tried again.
CREATE FUNCTION polar_jobs.requeue_jobs(
    worker bigint, ids bigint[], attempts integer[], delays double precision[], failures jsonb[], notes text[],
    still_due boolean[]
) RETURNS bigint[] LANGUAGE plpgsql SET enable_seqscan = off SET lock_timeout = '100ms' AS $$
DECLARE
    entry record;
    job polar_jobs.live_jobs;
    again bigint[] := '{}';
BEGIN
    FOR entry IN SELECT * FROM unnest(ids, attempts, delays, failures, notes, still_due)
                                d (id, attempt, delay, failure, note, still_due) LOOP
        BEGIN
            SELECT l.* INTO job FROM polar_jobs.live_jobs l
             WHERE l.id = entry.id AND l.attempt = entry.attempt AND l.worker = requeue_jobs.worker FOR NO KEY UPDATE;
            IF FOUND THEN
                PERFORM polar_jobs.requeue_job(job, now() + make_interval(secs => entry.delay), entry.failure, entry.note,
                                               entry.still_due);
            END IF;
        EXCEPTION WHEN lock_not_available OR unique_violation OR serialization_failure OR deadlock_detected THEN
            -- Waited for once: somebody may hold what hundreds of them need.
            PERFORM set_config('lock_timeout', '1ms', true);
            again := again || entry.id;
        END;
    END LOOP;
    RETURN again;
END $$;

-- Discards running jobs, each fenced by (id, attempt, worker), each with its entry of `errors`.
CREATE FUNCTION polar_jobs.discard_jobs(worker bigint, ids bigint[], attempts integer[], failures jsonb[])
RETURNS void LANGUAGE plpgsql SET enable_seqscan = off SET lock_timeout = '250ms' AS $$
BEGIN
    PERFORM polar_jobs.move_to_history(array_agg(held.job), 'discarded', 'failed', NULL, array_agg(held.failure))
       FROM (SELECT l AS job, d.failure FROM polar_jobs.live_jobs l
               JOIN unnest(ids, attempts, failures) d (id, attempt, failure) ON l.id = d.id AND l.attempt = d.attempt
              WHERE l.worker = discard_jobs.worker FOR UPDATE OF l) held
     HAVING count(*) > 0;
END $$;

-- A job that was reclaimed from a dead worker, as an operator wants to hear of it.
CREATE TYPE polar_jobs.reclaimed_job AS (id bigint, kind text, organization text, discarded boolean);

-- Requeues what workers without a row held, and removes what they recorded once nothing is left. A job
-- that an open transaction of somebody else holds stays recorded and is tried again at the next call.
CREATE FUNCTION polar_jobs.reclaim_jobs() RETURNS SETOF polar_jobs.reclaimed_job LANGUAGE plpgsql AS $$
DECLARE
    gone polar_jobs.claims;
BEGIN
    FOR gone IN SELECT c.* FROM polar_jobs.claims c
                 WHERE NOT EXISTS (SELECT 1 FROM polar_jobs.workers w WHERE w.id = c.worker)
                 ORDER BY c.worker, c.fetcher FOR UPDATE OF c SKIP LOCKED LOOP
        RETURN QUERY SELECT * FROM polar_jobs.requeue_jobs_of(gone.worker, gone.ids);
        gone.ids := ARRAY(SELECT id FROM polar_jobs.live_jobs WHERE id = ANY (gone.ids) AND worker = gone.worker);
        IF cardinality(gone.ids) = 0 THEN
            DELETE FROM polar_jobs.claims c WHERE c.worker = gone.worker AND c.fetcher = gone.fetcher;
        ELSE
            UPDATE polar_jobs.claims c SET epoch = c.epoch + 1, ids = gone.ids
             WHERE c.worker = gone.worker AND c.fetcher = gone.fetcher;
        END IF;
    END LOOP;
END $$;

-- Puts back what a dead worker held. A dead worker is a failure like any other: it adds an entry
-- to `errors`, and a spent budget discards. What somebody is in the way of is left for the next call. Without
-- `ids` the whole table is searched.
CREATE FUNCTION polar_jobs.requeue_jobs_of(dead bigint, ids bigint[] DEFAULT NULL) RETURNS SETOF polar_jobs.reclaimed_job
    LANGUAGE plpgsql SET enable_seqscan = off SET lock_timeout = '100ms' AS $$
DECLARE
    job polar_jobs.live_jobs;
    failure jsonb;
    failures integer;
BEGIN
    FOR job IN SELECT * FROM polar_jobs.live_jobs
                WHERE id = ANY (coalesce(ids, ARRAY(SELECT id FROM polar_jobs.live_jobs WHERE worker = dead)))
                  AND worker = dead ORDER BY id FOR UPDATE SKIP LOCKED LOOP
        failure := jsonb_build_object('at', now(), 'attempt', job.attempt, 'error', 'the worker died');
        failures := jsonb_array_length(job.errors) + 1;
        BEGIN
            IF failures >= job.max_attempts THEN
                PERFORM polar_jobs.move_to_history(ARRAY[job], 'discarded', 'failed', job.note, ARRAY[failure]);
            ELSE
                -- At once the first time; a job that kills one process after the other gets slower.
                PERFORM polar_jobs.requeue_job(job, now() + CASE
                    WHEN failures > 1 THEN make_interval(secs => least(3600, 2 ^ least(failures, 12))) ELSE '0' END,
                    failure, NULL, true);
            END IF;
            RETURN NEXT (job.id, job.kind, coalesce(job.payload ->> 'organization_id', job.payload ->> 'external_customer_id'),
                         failures >= job.max_attempts)::polar_jobs.reclaimed_job;
        EXCEPTION WHEN lock_not_available OR unique_violation OR serialization_failure OR deadlock_detected THEN
            PERFORM set_config('lock_timeout', '1ms', true);
            RAISE DEBUG 'job % of worker % is returned later', job.id, dead;
        END;
    END LOOP;
END $$;

-- Puts finished jobs back to waiting, each with its id, its history and a new budget on top of the failures
-- that it has. Where another job waits with the same unique key, that one answers for its events and both stay
-- as they are otherwise; of several with one unique key the newest counts. Returns those that wait again.
CREATE FUNCTION polar_jobs.retry_finished(ids bigint[], state text) RETURNS TABLE (id bigint, queue text, blocked boolean)
    LANGUAGE plpgsql SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    gone polar_jobs.finished_jobs[];
    rows polar_jobs.live_jobs[];
    stored bigint[];
BEGIN
    WITH chosen AS (
        SELECT DISTINCT ON (f.unique_key, CASE WHEN f.unique_key IS NULL THEN f.id END) f.id
          FROM polar_jobs.finished_jobs f
         WHERE f.id = ANY (ids) AND (retry_finished.state IS NULL OR f.state = retry_finished.state)
         ORDER BY f.unique_key, CASE WHEN f.unique_key IS NULL THEN f.id END, f.id DESC
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
               NULL, g.ordering_key, g.events, polar_jobs.retried_note(), g.payload, g.errors, NULL
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
    RETURNS SETOF boolean LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    jobs polar_jobs.live_jobs[] := ARRAY(
        SELECT l FROM polar_jobs.live_jobs l
         WHERE l.id = ANY (ids) AND (running IS NULL OR (l.worker IS NOT NULL) = running)
         ORDER BY l.id FOR UPDATE);
BEGIN
    PERFORM polar_jobs.move_to_history(jobs, state, outcome, note);
    RETURN QUERY SELECT j.worker IS NOT NULL FROM unnest(jobs) j;
END $$;
