-- Writing jobs. One path for everybody: `store_jobs` for our own short transactions, `store_pending` for
-- transactions of the application, which may stay open.
--
-- News for a key that already waits merge into the waiting job: it runs at the earlier of both times,
-- with the more urgent priority, answers for the events of both, and its payload is the waiting one with
-- the newcomer's fields over it (`waiting || newcomer`). So a field that is only written where it is true
-- survives every merge.

CREATE FUNCTION polar_jobs.merge_events(waiting bigint[], newcomer bigint[]) RETURNS bigint[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN newcomer IS NULL THEN waiting WHEN waiting IS NULL THEN newcomer ELSE waiting || newcomer END
$$;

CREATE AGGREGATE polar_jobs.merge_payloads(jsonb) (SFUNC = jsonb_concat, STYPE = jsonb, INITCOND = '{}');

-- Many jobs at once, keys honoured. One entry of each array per job; null entries of `queues`,
-- `run_ats`, `priorities` and `max_attempts` take the kind's default. Returns one row per job in
-- the order given: its id, or null where it was merged into a job that waits with its unique key.
CREATE FUNCTION polar_jobs.insert_jobs(
    kinds text[], payloads jsonb[], queues text[], run_ats timestamptz[], priorities smallint[],
    unique_keys text[], ordering_keys text[], max_attempts integer[], events bigint[]
) RETURNS TABLE (place bigint, id bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    places bigint[];
    rows polar_jobs.live_jobs[];
    ids bigint[];
    stored jsonb;
BEGIN
    SELECT array_agg(j.place), array_agg(j.job), array_agg((j.job).id)
      INTO places, rows, ids
      FROM polar_jobs.job_rows(kinds, payloads, queues, run_ats, priorities, unique_keys, ordering_keys,
                               max_attempts, events) j;
    SELECT coalesce(jsonb_object_agg(s, true), '{}') INTO stored FROM unnest(polar_jobs.store_jobs(rows)) s;
    RETURN QUERY
    SELECT g.place, j.id
      FROM generate_series(1::bigint, cardinality(kinds)) g (place)
      LEFT JOIN (SELECT * FROM unnest(places, ids) p (place, id) WHERE stored ? p.id::text) j ON j.place = g.place;
END $$;

-- The rows of jobs that are about to be written, in the order given, and so are their ids. Those of one
-- unique key are merged into the first of them. PL/pgSQL, like all that is called often here: Postgres plans
-- the statements of an SQL function again at every call.
CREATE FUNCTION polar_jobs.job_rows(
    kinds text[], payloads jsonb[], queues text[], run_ats timestamptz[], priorities smallint[],
    unique_keys text[], ordering_keys text[], max_attempts integer[], events bigint[]
) RETURNS TABLE (place bigint, job polar_jobs.live_jobs) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    repeated boolean := cardinality(kinds) > 1 AND (
        SELECT count(k) > count(DISTINCT k COLLATE "C") FROM unnest(unique_keys) k);
BEGIN
    IF repeated THEN
        RETURN QUERY SELECT m.place, m.job FROM polar_jobs.merged_job_rows(
            kinds, payloads, queues, run_ats, priorities, unique_keys, ordering_keys, max_attempts, events) m ORDER BY m.place;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT g.place, ROW(
               nextval('polar_jobs.live_jobs_id_seq'), coalesce(g.run_at, now()), now(), NULL, NULL, 0,
               coalesce(g.attempts, d.max_attempts, 20), coalesce(g.priority, d.priority, 0), false,
               coalesce(g.unique_key = g.ordering_key, false), coalesce(g.queue, d.queue, 'default'), g.kind,
               nullif(g.unique_key, g.ordering_key), NULL, g.ordering_key,
               CASE WHEN g.event IS NOT NULL THEN ARRAY[g.event] END, NULL, coalesce(g.payload, '{}'), '[]'
           )::polar_jobs.live_jobs
      FROM unnest(kinds, payloads, queues, run_ats, priorities, unique_keys, ordering_keys,
                  max_attempts, events) WITH ORDINALITY
           AS g (kind, payload, queue, run_at, priority, unique_key, ordering_key, attempts, event, place)
      -- Looked up one by one, for a join could change the order, and only where something is missing.
      LEFT JOIN LATERAL (SELECT k.* FROM polar_jobs.kinds k
                          WHERE k.kind = g.kind AND (g.attempts IS NULL OR g.priority IS NULL OR g.queue IS NULL)
                         OFFSET 0) d ON true;
END $$;

-- The same where unique keys are repeated.
CREATE FUNCTION polar_jobs.merged_job_rows(
    kinds text[], payloads jsonb[], queues text[], run_ats timestamptz[], priorities smallint[],
    unique_keys text[], ordering_keys text[], max_attempts integer[], events bigint[]
) RETURNS TABLE (place bigint, job polar_jobs.live_jobs) LANGUAGE sql AS $$
    SELECT n.place, ROW(
               n.id, n.run_at, now(), NULL, NULL, 0,
               coalesce(n.attempts, d.max_attempts, 20), coalesce(n.priority, d.priority, 0), false,
               coalesce(n.unique_key = n.ordering_key, false), coalesce(n.queue, d.queue, 'default'), n.kind,
               nullif(n.unique_key, n.ordering_key), NULL, n.ordering_key, n.events, NULL, n.payload, '[]'
           )::polar_jobs.live_jobs
      FROM (SELECT nextval('polar_jobs.live_jobs_id_seq') AS id, m.* FROM (
            SELECT min(g.place) AS place, (array_agg(g.kind ORDER BY g.place))[1] AS kind,
                   polar_jobs.merge_payloads(coalesce(g.payload, '{}') ORDER BY g.place) AS payload,
                   (array_agg(g.queue ORDER BY g.place))[1] AS queue, min(coalesce(g.run_at, now())) AS run_at,
                   min(g.priority) AS priority, g.unique_key,
                   (array_agg(g.ordering_key ORDER BY g.place))[1] AS ordering_key,
                   (array_agg(g.attempts ORDER BY g.place))[1] AS attempts,
                   array_agg(g.event ORDER BY g.place) FILTER (WHERE g.event IS NOT NULL) AS events
              FROM unnest(kinds, payloads, queues, run_ats, priorities, unique_keys, ordering_keys,
                          max_attempts, events) WITH ORDINALITY
                   AS g (kind, payload, queue, run_at, priority, unique_key, ordering_key, attempts, event, place)
             GROUP BY g.unique_key, CASE WHEN g.unique_key IS NULL THEN g.place END
             ORDER BY 1) m) n
      LEFT JOIN polar_jobs.kinds d ON d.kind = n.kind
$$;

-- Writes rows of jobs in a transaction of ours that ends soon. Returns the ids of the rows that they are
-- in now: their own, or that of the waiting one that they were merged into.
--
-- It waits for nobody longer than a moment: where somebody holds a key (a prepared transaction, an
-- operator's), all that has keys is stored blocked, with notes for the releaser.
--
-- The planner settings are part of it: a session may plan this while the table is empty and keep the
-- plan while it grows to a million rows.
CREATE FUNCTION polar_jobs.store_jobs(rows polar_jobs.live_jobs[]) RETURNS bigint[] LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
    SET plan_cache_mode = force_generic_plan SET lock_timeout = '50ms'
AS $$
BEGIN
    RETURN polar_jobs.store_ordered(rows);
EXCEPTION WHEN lock_not_available OR unique_violation OR serialization_failure OR deadlock_detected THEN
    RETURN polar_jobs.store_pending(rows, false);
END $$;

-- Jobs of one key that are treated differently (one coalesces, another does not) go in one by one.
CREATE FUNCTION polar_jobs.store_ordered(rows polar_jobs.live_jobs[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    mixed jsonb := (
        SELECT jsonb_object_agg(m.ordering_key, true)
          FROM (SELECT r.ordering_key FROM unnest(rows) r WHERE r.ordering_key IS NOT NULL
                 GROUP BY r.ordering_key HAVING count(*) > 1 AND bool_or(r.coalesces)) m);
    row polar_jobs.live_jobs;
    stored bigint[];
BEGIN
    IF mixed IS NULL THEN
        RETURN polar_jobs.store_now(rows);
    END IF;
    stored := polar_jobs.store_now(ARRAY(SELECT r::polar_jobs.live_jobs FROM unnest(rows) r
                                          WHERE r.ordering_key IS NULL OR NOT mixed ? r.ordering_key));
    FOR row IN SELECT r.* FROM unnest(rows) r WHERE mixed ? r.ordering_key ORDER BY r.id LOOP
        stored := stored || polar_jobs.store_now(ARRAY[row]);
    END LOOP;
    RETURN stored;
END $$;

CREATE FUNCTION polar_jobs.store_now(rows polar_jobs.live_jobs[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    -- Keys whose first job here may not simply become the head: others are blocked before it, or it must
    -- first find room in the index of unique keys. One that coalesces may, unless the key waits to be released.
    unsure jsonb := (
        SELECT coalesce(jsonb_object_agg(r.ordering_key, true), '{}') FROM unnest(rows) r
         WHERE r.ordering_key IS NOT NULL
           AND (r.unique_key IS NOT NULL
                OR EXISTS (SELECT FROM polar_jobs.live_jobs b WHERE b.ordering_key = r.ordering_key AND b.blocked)
                   AND NOT (r.coalesces AND EXISTS (
                       SELECT FROM polar_jobs.live_jobs h WHERE h.ordering_key = r.ordering_key AND NOT h.blocked))));
    uniques bigint[];
    stored bigint[];
    behind bigint[];
    key text;
BEGIN
    -- A statement of its own: a row that it merges into may be the head that the next one holds.
    IF EXISTS (SELECT FROM unnest(rows) r WHERE r.unique_key IS NOT NULL) THEN
        uniques := polar_jobs.store_unique(rows);
    END IF;
    WITH given AS MATERIALIZED (
        SELECT r.*, row_number() OVER (PARTITION BY r.ordering_key ORDER BY r.id) = 1
                    AND NOT unsure ? r.ordering_key AS first
          FROM unnest(rows) r
    ), plain AS (
        INSERT INTO polar_jobs.live_jobs
               (id, run_at, created_at, started_at, attempt, max_attempts, priority, queue, kind, events, note, payload, errors)
        OVERRIDING SYSTEM VALUE
        SELECT g.id, g.run_at, g.created_at, g.started_at, g.attempt, g.max_attempts, g.priority, g.queue, g.kind,
               g.events, g.note, g.payload, g.errors
          FROM given g WHERE g.ordering_key IS NULL AND g.unique_key IS NULL
        RETURNING id
    ), heads AS (
        -- Where there is a head that it cannot merge into, that one is held until the commit: its end then
        -- sees what is stored behind it.
        INSERT INTO polar_jobs.live_jobs AS head
               (id, run_at, created_at, started_at, attempt, max_attempts, priority, coalesces, queue, kind,
                ordering_key, events, note, payload, errors)
        OVERRIDING SYSTEM VALUE
        SELECT g.id, g.run_at, g.created_at, g.started_at, g.attempt, g.max_attempts, g.priority, g.coalesces, g.queue,
               g.kind, g.ordering_key, g.events, g.note, g.payload, g.errors
          FROM given g WHERE g.first AND g.ordering_key IS NOT NULL ORDER BY g.ordering_key
        ON CONFLICT (ordering_key) WHERE NOT blocked AND ordering_key IS NOT NULL DO UPDATE
           SET priority = least(head.priority, excluded.priority), run_at = least(head.run_at, excluded.run_at),
               events = polar_jobs.merge_events(head.events, excluded.events),
               payload = head.payload || excluded.payload
         WHERE head.coalesces AND excluded.coalesces AND head.worker IS NULL
        RETURNING id, ordering_key
    ), head_keys AS (
        SELECT coalesce(jsonb_object_agg(h.ordering_key, true), '{}') AS keys FROM heads h
    )
    SELECT ARRAY(SELECT id FROM plain UNION ALL SELECT id FROM heads),
           ARRAY(SELECT g.id FROM given g
                  WHERE g.ordering_key IS NOT NULL AND g.unique_key IS NULL
                    AND NOT (g.first AND (SELECT h.keys FROM head_keys h) ? g.ordering_key))
      INTO stored, behind;

    IF cardinality(behind) > 0 THEN
        stored := stored || polar_jobs.store_behind(rows, behind);
    END IF;
    FOR key IN SELECT jsonb_object_keys(unsure) LOOP
        IF NOT polar_jobs.release_key(key) THEN
            INSERT INTO polar_jobs.key_releases (ordering_key) VALUES (key);
        END IF;
    END LOOP;
    RETURN stored || uniques;
END $$;

-- Those of the rows that stand in the index of unique keys. One with an ordering key as well is blocked
-- until it is known whether it may be the head.
CREATE FUNCTION polar_jobs.store_unique(rows polar_jobs.live_jobs[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    ids bigint[];
BEGIN
    WITH stored AS (
        INSERT INTO polar_jobs.live_jobs AS waiting
               (id, run_at, created_at, started_at, attempt, max_attempts, priority, blocked, queue, kind, unique_key,
                ordering_key, events, note, payload, errors)
        OVERRIDING SYSTEM VALUE
        SELECT r.id, r.run_at, r.created_at, r.started_at, r.attempt, r.max_attempts, r.priority,
               r.ordering_key IS NOT NULL, r.queue, r.kind, r.unique_key, r.ordering_key, r.events, r.note, r.payload, r.errors
          -- In the order of the keys, so that no two batches wait for each other.
          FROM unnest(rows) r WHERE r.unique_key IS NOT NULL ORDER BY r.unique_key
        ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO UPDATE
           SET priority = least(waiting.priority, excluded.priority), run_at = least(waiting.run_at, excluded.run_at),
               events = polar_jobs.merge_events(waiting.events, excluded.events),
               payload = waiting.payload || excluded.payload
        RETURNING id
    )
    SELECT array_agg(s.id) INTO ids FROM stored s;
    RETURN ids;
END $$;

-- Those of the rows that somebody is before: they wait blocked, or merge into the one that does.
CREATE FUNCTION polar_jobs.store_behind(rows polar_jobs.live_jobs[], ids bigint[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    wanted jsonb := (SELECT jsonb_object_agg(i, true) FROM unnest(ids) i);
    stored bigint[];
BEGIN
    WITH behind AS (
        INSERT INTO polar_jobs.live_jobs AS waiting
               (id, run_at, created_at, started_at, attempt, max_attempts, priority, blocked, coalesces, queue, kind,
                ordering_key, events, note, payload, errors)
        OVERRIDING SYSTEM VALUE
        SELECT r.id, r.run_at, r.created_at, r.started_at, r.attempt, r.max_attempts, r.priority, true, r.coalesces,
               r.queue, r.kind, r.ordering_key, r.events, r.note, r.payload, r.errors
          FROM unnest(rows) r WHERE wanted ? r.id::text ORDER BY r.ordering_key, r.id
        ON CONFLICT (ordering_key) WHERE blocked AND coalesces DO UPDATE
           SET priority = least(waiting.priority, excluded.priority), run_at = least(waiting.run_at, excluded.run_at),
               events = polar_jobs.merge_events(waiting.events, excluded.events),
               payload = waiting.payload || excluded.payload
        RETURNING id
    )
    SELECT array_agg(b.id) INTO stored FROM behind b;
    RETURN stored;
END $$;

-- Writes rows so that nobody has to wait for this transaction: what has a key is blocked and in no unique
-- index, with a note that asks to put it in order. `at_commit`: this transaction does that itself when it ends.
CREATE FUNCTION polar_jobs.store_pending(rows polar_jobs.live_jobs[], at_commit boolean) RETURNS bigint[]
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    ids bigint[];
BEGIN
    WITH stored AS (
        INSERT INTO polar_jobs.live_jobs
               (id, run_at, created_at, started_at, attempt, max_attempts, priority, blocked, queue, kind, held_unique_key,
                ordering_key, events, note, payload, errors)
        OVERRIDING SYSTEM VALUE
        SELECT r.id, r.run_at, r.created_at, r.started_at, r.attempt, r.max_attempts, r.priority,
               r.ordering_key IS NOT NULL OR r.unique_key IS NOT NULL, r.queue, r.kind,
               CASE WHEN r.coalesces THEN r.ordering_key ELSE r.unique_key END,
               r.ordering_key, r.events, r.note, r.payload, r.errors
          FROM unnest(rows) r ORDER BY r.id
        RETURNING id, ordering_key, held_unique_key
    ), notes AS (
        INSERT INTO polar_jobs.key_releases (ordering_key, pending_job, at_commit)
        SELECT s.ordering_key, CASE WHEN s.held_unique_key IS NOT NULL THEN s.id END, at_commit
          FROM stored s WHERE s.ordering_key IS NOT NULL OR s.held_unique_key IS NOT NULL ORDER BY s.id
    )
    SELECT array_agg(s.id) INTO ids FROM stored s;
    RETURN coalesce(ids, '{}');
END $$;
-- Finds out whether a job waits, or is about to, with a unique key.
CREATE INDEX live_jobs_pending ON polar_jobs.live_jobs (held_unique_key) WHERE blocked AND held_unique_key IS NOT NULL;

-- A pending job takes its unique key, or is merged into the one that waits with it. False: try again later.
CREATE FUNCTION polar_jobs.take_unique_key(pending bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    job polar_jobs.live_jobs;
    duplicate bigint;
BEGIN
    SELECT l.* INTO job FROM polar_jobs.live_jobs l
     WHERE l.id = pending AND l.blocked AND l.held_unique_key IS NOT NULL FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NOT EXISTS (SELECT FROM polar_jobs.live_jobs l
                            WHERE l.id = pending AND l.blocked AND l.held_unique_key IS NOT NULL);
    END IF;
    IF job.held_unique_key = job.ordering_key THEN
        -- The head if it still waits, else the one behind it. A head that ends at this moment has locked its row.
        SELECT l.id INTO duplicate FROM polar_jobs.live_jobs l
         WHERE l.ordering_key = job.ordering_key AND NOT l.blocked AND l.coalesces AND l.worker IS NULL FOR NO KEY UPDATE;
        IF duplicate IS NULL THEN
            SELECT l.id INTO duplicate FROM polar_jobs.live_jobs l
             WHERE l.ordering_key = job.ordering_key AND l.blocked AND l.coalesces FOR NO KEY UPDATE;
        END IF;
    ELSE
        SELECT l.id INTO duplicate FROM polar_jobs.live_jobs l
         WHERE l.unique_key = job.held_unique_key FOR NO KEY UPDATE;
    END IF;
    IF duplicate IS NOT NULL THEN
        PERFORM polar_jobs.merge_into_duplicate(job, duplicate);
    ELSE
        UPDATE polar_jobs.live_jobs l
           SET unique_key = nullif(job.held_unique_key, job.ordering_key), held_unique_key = NULL,
               coalesces = coalesce(job.held_unique_key = job.ordering_key, false),
               blocked = job.ordering_key IS NOT NULL
         WHERE l.id = pending;
    END IF;
    RETURN true;
END $$;

-- A job that waits hands its news over to the one that waits with the same unique key, and ends.
CREATE FUNCTION polar_jobs.merge_into_duplicate(job polar_jobs.live_jobs, duplicate bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE polar_jobs.live_jobs l
       SET priority = least(l.priority, job.priority), run_at = least(l.run_at, job.run_at),
           events = polar_jobs.merge_events(l.events, job.events), payload = l.payload || job.payload
     WHERE l.id = duplicate;
    -- The events are the other job's now.
    job.events := NULL;
    IF job.note = polar_jobs.duplicate_note() THEN
        DELETE FROM polar_jobs.live_jobs l WHERE l.id = job.id;
    ELSE
        PERFORM polar_jobs.move_to_history(job, 'cancelled', 'ignored', 'merged into job ' || duplicate);
    END IF;
END $$;

-- Marks a job whose id nobody was given, because one with its unique key waited.
CREATE FUNCTION polar_jobs.duplicate_note() RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT 'enqueued while another job waited with its unique key'
$$;

-- Wake-up --------------------------------------------------------------------------------------------
-- A worker that is about to sleep on a queue holds this lock in share mode; whoever cannot take
-- it exclusively knows that somebody sleeps. No row is written for a nap.
CREATE FUNCTION polar_jobs.sleep_lock(queue text) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT hashtextextended('polar_jobs.sleep/' || queue, 0) $$;

-- Tries the lock and lets it go at once, which costs the same however many locks the server holds.
CREATE FUNCTION polar_jobs.somebody_sleeps(queue text) RETURNS boolean LANGUAGE sql AS $$
    SELECT CASE WHEN pg_try_advisory_lock(polar_jobs.sleep_lock(queue))
                THEN NOT pg_advisory_unlock(polar_jobs.sleep_lock(queue)) ELSE true END
$$;

-- Wakes a queue's workers when this transaction commits, if any sleeps; asked once per transaction. Only
-- where somebody sleeps: a notification makes commits queue up behind each other. Not where transactions
-- may be prepared, which a notification makes impossible: polling finds the job as well.
CREATE FUNCTION polar_jobs.wake_at_commit(queue text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    setting CONSTANT text := 'polar_jobs.woken_' || wake_at_commit.queue;
BEGIN
    IF current_setting(setting, true) IS DISTINCT FROM '1' THEN
        PERFORM set_config(setting, '1', true);
        IF current_setting('max_prepared_transactions')::integer = 0 AND polar_jobs.somebody_sleeps(wake_at_commit.queue) THEN
            PERFORM pg_notify('polar_jobs', wake_at_commit.queue);
        END IF;
    END IF;
END $$;

-- For the application --------------------------------------------------------------------------------
-- One job in the caller's transaction. Returns its id, or null where a job waits with the same unique key;
-- that one then takes the news over when the transaction commits, or, if it was claimed meanwhile, this
-- one runs after all. A duplicate of a transaction that is still open is waited for.
CREATE FUNCTION polar_jobs.enqueue(
    kind text, payload jsonb DEFAULT '{}', queue text DEFAULT NULL, run_at timestamptz DEFAULT NULL,
    priority integer DEFAULT NULL, unique_key text DEFAULT NULL, ordering_key text DEFAULT NULL,
    max_attempts integer DEFAULT NULL
) RETURNS bigint LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, polar_jobs, pg_temp AS $$
DECLARE
    job polar_jobs.live_jobs;
    duplicate boolean := false;
BEGIN
    PERFORM polar_jobs.check_enqueue(kind, payload, run_at, priority, max_attempts);
    IF unique_key IS NOT NULL OR ordering_key IS NOT NULL THEN
        PERFORM polar_jobs.lock_keys(ARRAY['unique/' || unique_key, 'ordering/' || ordering_key]);
        duplicate := polar_jobs.is_waiting(unique_key);
    END IF;
    -- The lock before the id: within a key the order of ids is the order of commits.
    SELECT (j.job).* INTO job
      FROM polar_jobs.job_rows(ARRAY[kind], ARRAY[payload], ARRAY[queue], ARRAY[run_at], ARRAY[priority::smallint],
                               ARRAY[unique_key], ARRAY[ordering_key], ARRAY[max_attempts], ARRAY[NULL::bigint]) j;
    IF NOT EXISTS (SELECT 1 FROM polar_jobs.queues q WHERE q.name = job.queue) THEN
        RAISE EXCEPTION 'enqueue: there is no queue "%"', job.queue
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Known queues: ' || (SELECT string_agg(q.name, ', ' ORDER BY q.name) FROM polar_jobs.queues q);
    END IF;
    job.note := CASE WHEN duplicate THEN polar_jobs.duplicate_note() END;
    PERFORM polar_jobs.store_pending(ARRAY[job], true);
    PERFORM polar_jobs.wake_at_commit(job.queue);
    RETURN CASE WHEN NOT duplicate THEN job.id END;
END $$;

CREATE FUNCTION polar_jobs.check_enqueue(
    kind text, payload jsonb, run_at timestamptz, priority integer, max_attempts integer
) RETURNS void LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    fault text := CASE
        WHEN coalesce(kind, '') = '' THEN 'kind is missing'
        WHEN jsonb_typeof(payload) IS DISTINCT FROM 'object' THEN 'payload of ' || kind || ' must be a JSON object'
        WHEN NOT isfinite(run_at) THEN 'run_at must be a time, got ' || run_at
        WHEN max_attempts < 1 THEN 'max_attempts must be at least 1, got ' || max_attempts
        WHEN priority NOT BETWEEN -32768 AND 32767 THEN 'priority must be between -32768 and 32767, got ' || priority
    END;
BEGIN
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION 'enqueue: %', fault USING ERRCODE = 'invalid_parameter_value';
    END IF;
END $$;

-- True where a job waits with this unique key, one of this transaction included.
CREATE FUNCTION polar_jobs.is_waiting(key text) RETURNS boolean LANGUAGE plpgsql
    SET enable_seqscan = off AS $$
BEGIN
    RETURN EXISTS (SELECT FROM polar_jobs.live_jobs l WHERE l.unique_key = key)
        OR EXISTS (SELECT FROM polar_jobs.live_jobs l WHERE l.ordering_key = key AND l.blocked AND l.coalesces)
        OR EXISTS (SELECT FROM polar_jobs.live_jobs l WHERE l.ordering_key = key AND NOT l.blocked AND l.coalesces AND l.worker IS NULL)
        OR EXISTS (SELECT FROM polar_jobs.live_jobs l WHERE l.held_unique_key = key AND l.blocked);
END $$;
