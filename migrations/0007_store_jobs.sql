-- Writing jobs in our own transactions, which end soon: `store_jobs`.
--
-- News for a key that already waits merge into the waiting job: it runs at the earlier of both times,
-- with the more urgent priority, answers for the events of both, and its payload is the waiting one with
-- the newcomer's fields over it. So a field that is only written where it is true
-- survives every merge. An old job that an operator retries only gives its events to it.

CREATE FUNCTION polar_jobs.merge_events(waiting bigint[], newcomer bigint[]) RETURNS bigint[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN newcomer IS NULL THEN waiting WHEN waiting IS NULL THEN newcomer ELSE waiting || newcomer END
$$;

CREATE FUNCTION polar_jobs.merge_payload(waiting json, newcomer json) RETURNS json
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN newcomer IS NULL THEN waiting ELSE (waiting::jsonb || newcomer::jsonb)::json END
$$;

-- Marks a job that an operator retried. It brings no news: what waits with its unique key was told later.
CREATE FUNCTION polar_jobs.retried_note() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 'retried by an operator'
$$;

-- A value of a job that is merged into one that waits; null, which changes nothing there, of one that was retried.
CREATE FUNCTION polar_jobs.news(note text, value anyelement) RETURNS anyelement
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN note IS DISTINCT FROM polar_jobs.retried_note() THEN value END
$$;

CREATE AGGREGATE polar_jobs.merge_payloads(json) (SFUNC = polar_jobs.merge_payload, STYPE = json, INITCOND = '{}');

-- Many jobs at once, keys honoured. One entry of each array per job; null entries of `queues`,
-- `run_ats`, `priorities` and `max_attempts` take the kind's default. Returns one row per job in
-- the order given: its id, or null where it was merged into a job that waits with its unique key.
CREATE FUNCTION polar_jobs.insert_jobs(
    kinds text[], payloads json[], queues text[], run_ats timestamptz[], priorities smallint[],
    unique_keys text[], ordering_keys text[], max_attempts integer[], events bigint[]
) RETURNS TABLE (place bigint, id bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    places bigint[];
    rows polar_jobs.live_jobs[];
    ids bigint[] := polar_jobs.draw_ids(cardinality(kinds));
    stored jsonb;
BEGIN
    IF polar_jobs.store_first(ids, kinds, payloads, queues, run_ats, priorities, unique_keys, ordering_keys,
                              max_attempts, events) THEN
        RETURN QUERY SELECT j.place, j.id FROM unnest(ids) WITH ORDINALITY AS j (id, place);
        RETURN;
    END IF;
    SELECT array_agg(j.place), array_agg(j.job), array_agg((j.job).id)
      INTO places, rows, ids
      FROM polar_jobs.job_rows(kinds, payloads, queues, run_ats, priorities, unique_keys, ordering_keys,
                               max_attempts, events) j;
    SELECT coalesce(jsonb_object_agg(s, true), '{}') INTO stored FROM unnest(polar_jobs.store_jobs(rows)) s;
    -- By place: a join would be a loop in a loop, for our sessions have the other joins switched off.
    SELECT coalesce(jsonb_object_agg(p.place, p.id), '{}') INTO stored
      FROM unnest(places, ids) p (place, id) WHERE stored ? p.id::text;
    RETURN QUERY
    SELECT g.place, (stored ->> g.place::text)::bigint FROM generate_series(1::bigint, cardinality(kinds)) g (place);
END $$;

-- Ids of jobs that are about to be written.
CREATE FUNCTION polar_jobs.draw_ids(many integer) RETURNS bigint[] LANGUAGE plpgsql AS $$
BEGIN
    RETURN ARRAY(SELECT nextval('polar_jobs.live_jobs_id_seq') FROM generate_series(1, many));
END $$;

-- Jobs whose keys nobody has, in one statement: most of what comes. One entry of each array per job, as for
-- `insert_jobs`, and its id. False where some key is taken, or two of the jobs have the same: then nothing is
-- written, and `store_jobs` looks at each of them.
CREATE FUNCTION polar_jobs.store_first(
    ids bigint[], kinds text[], payloads json[], queues text[], run_ats timestamptz[], priorities smallint[],
    unique_keys text[], ordering_keys text[], max_attempts integer[], events bigint[]
) RETURNS boolean LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
    -- Whoever has a key and is not done yet will most likely keep it: `store_jobs` waits, not this.
    SET plan_cache_mode = force_generic_plan SET lock_timeout = '1ms'
AS $$
BEGIN
    -- At a higher isolation level a look at others' keys can end a transaction that shares none with them.
    IF current_setting('transaction_isolation') <> 'read committed'
       OR (SELECT count(g.key) > count(DISTINCT g.key COLLATE "C")
                  OR bool_or(g.unique_key IS NOT NULL AND g.unique_key IS DISTINCT FROM g.key)
             FROM (SELECT unnest(unique_keys) AS unique_key, unnest(ordering_keys) AS key) g) THEN
        RETURN false;
    END IF;
    -- OFFSET 0 keeps Postgres from reading all such rows at once, as it would after a plan for an empty table.
    IF (SELECT bool_or(EXISTS (SELECT FROM polar_jobs.live_jobs h WHERE h.ordering_key = key AND NOT h.blocked OFFSET 0)
                       OR EXISTS (SELECT FROM polar_jobs.live_jobs b WHERE b.ordering_key = key AND b.blocked OFFSET 0))
          FROM unnest(ordering_keys) key) THEN
        RETURN false;
    END IF;
    INSERT INTO polar_jobs.live_jobs
           (id, run_at, max_attempts, priority, coalesces, queue, kind, ordering_key, events, payload)
    OVERRIDING SYSTEM VALUE
    SELECT g.id, coalesce(g.run_at, now()), coalesce(g.attempts, d.max_attempts, 20), coalesce(g.priority, d.priority, 0),
           g.unique_key IS NOT NULL, coalesce(g.queue, d.queue, 'default'), g.kind, g.key,
           CASE WHEN g.event IS NOT NULL THEN ARRAY[g.event] END, coalesce(g.payload, '{}')
      -- Arrays side by side: with `unnest` of several in FROM, Postgres writes down each of them first.
      FROM (SELECT unnest(ids) AS id, unnest(kinds) AS kind, unnest(payloads) AS payload, unnest(queues) AS queue,
                   unnest(run_ats) AS run_at, unnest(priorities) AS priority, unnest(unique_keys) AS unique_key,
                   unnest(ordering_keys) AS key, unnest(max_attempts) AS attempts, unnest(events) AS event) g
      -- Looked up only where something is missing.
      LEFT JOIN LATERAL (SELECT k.* FROM polar_jobs.kinds k
                          WHERE k.kind = g.kind AND (g.attempts IS NULL OR g.priority IS NULL OR g.queue IS NULL)
                         OFFSET 0) d ON true
     -- In the order of the keys, so that no two batches wait for each other.
     ORDER BY g.key COLLATE "C";
    RETURN true;
-- Somebody took a key meanwhile, or is about to.
EXCEPTION WHEN lock_not_available OR unique_violation OR serialization_failure OR deadlock_detected THEN
    RETURN false;
END $$;

-- The rows of jobs that are about to be written, in the order given, and so are their ids. Those of one
-- unique key are merged into the first of them. PL/pgSQL, like all that is called often here: Postgres plans
-- the statements of an SQL function again at every call.
CREATE FUNCTION polar_jobs.job_rows(
    kinds text[], payloads json[], queues text[], run_ats timestamptz[], priorities smallint[],
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
               CASE WHEN g.event IS NOT NULL THEN ARRAY[g.event] END, NULL, coalesce(g.payload, '{}'), '[]', NULL
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
    kinds text[], payloads json[], queues text[], run_ats timestamptz[], priorities smallint[],
    unique_keys text[], ordering_keys text[], max_attempts integer[], events bigint[]
) RETURNS TABLE (place bigint, job polar_jobs.live_jobs) LANGUAGE sql AS $$
    SELECT n.place, ROW(
               n.id, n.run_at, now(), NULL, NULL, 0,
               coalesce(n.attempts, d.max_attempts, 20), coalesce(n.priority, d.priority, 0), false,
               coalesce(n.unique_key = n.ordering_key, false), coalesce(n.queue, d.queue, 'default'), n.kind,
               nullif(n.unique_key, n.ordering_key), NULL, n.ordering_key, n.events, NULL, n.payload, '[]', NULL
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
                -- OFFSET 0: see `store_first`.
                OR EXISTS (SELECT FROM polar_jobs.live_jobs b WHERE b.ordering_key = r.ordering_key AND b.blocked OFFSET 0)
                   AND NOT (r.coalesces AND EXISTS (
                       SELECT FROM polar_jobs.live_jobs h WHERE h.ordering_key = r.ordering_key AND NOT h.blocked OFFSET 0))));
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
           SET priority = least(head.priority, polar_jobs.news(excluded.note, excluded.priority)),
               run_at = least(head.run_at, polar_jobs.news(excluded.note, excluded.run_at)),
               events = polar_jobs.merge_events(head.events, excluded.events),
               payload = polar_jobs.merge_payload(head.payload, polar_jobs.news(excluded.note, excluded.payload))
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
           SET priority = least(waiting.priority, polar_jobs.news(excluded.note, excluded.priority)),
               run_at = least(waiting.run_at, polar_jobs.news(excluded.note, excluded.run_at)),
               events = polar_jobs.merge_events(waiting.events, excluded.events),
               payload = polar_jobs.merge_payload(waiting.payload, polar_jobs.news(excluded.note, excluded.payload))
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
           SET priority = least(waiting.priority, polar_jobs.news(excluded.note, excluded.priority)),
               run_at = least(waiting.run_at, polar_jobs.news(excluded.note, excluded.run_at)),
               events = polar_jobs.merge_events(waiting.events, excluded.events),
               payload = polar_jobs.merge_payload(waiting.payload, polar_jobs.news(excluded.note, excluded.payload))
        RETURNING id
    )
    SELECT array_agg(b.id) INTO stored FROM behind b;
    RETURN stored;
END $$;
