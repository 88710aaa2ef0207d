-- The queue: waiting and running jobs live in `live_jobs`, finished ones in `finished_jobs`.
-- People read the view `jobs`. `src/queue/` is the only Rust that names these tables.

CREATE TABLE polar_jobs.queues (
    name text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]{0,62}$'),
    paused_at timestamptz,
    -- Slots per worker process; null = the process decides (WORKER_SLOTS).
    slots integer CHECK (slots > 0)
);
INSERT INTO polar_jobs.queues (name) VALUES ('default'), ('mail'), ('bulk');

-- One row per living worker process. `id` is never used twice, so a restarted process
-- can never be taken for the one that died.
CREATE TABLE polar_jobs.workers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    host text NOT NULL,
    pid integer NOT NULL,
    version text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    leased_until timestamptz NOT NULL,
    -- True where the process also holds a session advisory lock, which Postgres drops
    -- the moment the process dies. False behind a transaction-mode pooler.
    session_lock boolean NOT NULL DEFAULT false,
    queues text[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 50);

-- `worker`, `attempt` and `started_at` stand in no index and in no index predicate, and half
-- of each page is free: a claim is a HOT update. `worker IS NULL` means available.
CREATE TABLE polar_jobs.live_jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    worker bigint,
    -- Claims so far: grows only, and is the fence together with (id, worker).
    attempt integer NOT NULL DEFAULT 0,
    -- Budget of failures, that is of entries in `errors`.
    max_attempts integer NOT NULL DEFAULT 20 CHECK (max_attempts > 0),
    priority smallint NOT NULL DEFAULT 0,
    -- True while an earlier unfinished job has the same ordering key.
    blocked boolean NOT NULL DEFAULT false,
    -- Names and keys are compared byte by byte: a language's rules of order would cost more than all
    -- else in an index.
    queue text COLLATE "C" NOT NULL DEFAULT 'default',
    kind text COLLATE "C" NOT NULL,
    -- The unique key while the job waits. A claim moves it to `held_unique_key`, so a twin
    -- that arrives while this one runs is kept.
    unique_key text COLLATE "C",
    held_unique_key text COLLATE "C",
    ordering_key text COLLATE "C",
    -- Debounce: a twin may move `run_at` until here.
    debounce_until timestamptz,
    -- The external events that caused this job.
    events bigint[],
    -- Why the job waits, in words, if it went back without a failure.
    note text,
    payload jsonb NOT NULL DEFAULT '{}',
    errors jsonb NOT NULL DEFAULT '[]'
) WITH (
    fillfactor = 50,
    toast_tuple_target = 4096,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_insert_scale_factor = 0.2,
    autovacuum_vacuum_cost_delay = 1
);
CREATE INDEX live_jobs_ready ON polar_jobs.live_jobs (queue, priority, run_at, id) WHERE NOT blocked;
CREATE UNIQUE INDEX live_jobs_unique ON polar_jobs.live_jobs (unique_key) WHERE unique_key IS NOT NULL;
CREATE INDEX live_jobs_ordering ON polar_jobs.live_jobs (ordering_key, id) WHERE ordering_key IS NOT NULL;

CREATE TABLE polar_jobs.finished_jobs (
    id bigint PRIMARY KEY,
    run_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz NOT NULL DEFAULT now(),
    worker bigint,
    attempt integer NOT NULL,
    max_attempts integer NOT NULL,
    priority smallint NOT NULL,
    state text NOT NULL CHECK (state IN ('completed', 'discarded', 'cancelled')),
    -- What became of the events that caused the job.
    outcome text NOT NULL DEFAULT 'applied' CHECK (outcome IN ('applied', 'ignored', 'failed')),
    queue text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    unique_key text COLLATE "C",
    ordering_key text COLLATE "C",
    events bigint[],
    note text,
    payload jsonb NOT NULL,
    errors jsonb NOT NULL
) WITH (toast_tuple_target = 4096, autovacuum_vacuum_insert_scale_factor = 0.5);
-- History is written in the order of time: a BRIN index costs a finish nothing and is enough to prune by.
CREATE INDEX finished_jobs_time ON polar_jobs.finished_jobs USING brin (finished_at) WITH (pages_per_range = 32);
CREATE INDEX finished_jobs_trouble ON polar_jobs.finished_jobs (state, finished_at) WHERE state <> 'completed';

CREATE VIEW polar_jobs.jobs AS
SELECT id, queue, kind, payload,
       CASE WHEN worker IS NULL THEN 'available' ELSE 'running' END AS state,
       priority, run_at, attempt, max_attempts,
       coalesce(unique_key, held_unique_key) AS unique_key, ordering_key,
       worker, (SELECT w.leased_until FROM polar_jobs.workers w WHERE w.id = worker) AS leased_until,
       errors, created_at, started_at, NULL::timestamptz AS finished_at,
       NULL::text AS outcome, note, blocked, events
FROM polar_jobs.live_jobs
UNION ALL
SELECT id, queue, kind, payload, state, priority, run_at, attempt, max_attempts,
       unique_key, ordering_key, worker, NULL::timestamptz,
       errors, created_at, started_at, finished_at, outcome, note, false, events
FROM polar_jobs.finished_jobs;
COMMENT ON VIEW polar_jobs.jobs IS
    'Every job, waiting, running or finished. run_at, priority, max_attempts and payload of a waiting job may be updated here.';

-- Operators may mend a waiting job where they see it.
CREATE FUNCTION polar_jobs.update_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE polar_jobs.live_jobs
       SET run_at = NEW.run_at, priority = NEW.priority, max_attempts = NEW.max_attempts, payload = NEW.payload
     WHERE id = OLD.id AND worker IS NULL;
    IF FOUND THEN RETURN NEW; END IF;
    UPDATE polar_jobs.finished_jobs SET finished_at = NEW.finished_at WHERE id = OLD.id;
    IF FOUND THEN RETURN NEW; END IF;
    RAISE EXCEPTION 'job % is running: only waiting jobs can be changed', OLD.id;
END $$;
CREATE TRIGGER update_job INSTEAD OF UPDATE ON polar_jobs.jobs
    FOR EACH ROW EXECUTE FUNCTION polar_jobs.update_job();

-- Ordering keys ------------------------------------------------------------------------------
-- The earliest unfinished job of a key is not blocked, all others are. An enqueue holds a lock
-- on the key until its transaction ends, so id order is commit order within a key. Whoever
-- removes the head releases the next; where an enqueue is still open (its row is invisible),
-- the release is noted here and done by `release_noted_keys` once the lock is free.
-- A key may stand here more than once: a note must never wait for another one's transaction.
CREATE TABLE polar_jobs.key_releases (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ordering_key text NOT NULL
);

-- 2048 locks stand for all keys: one per key would let a bulk load of 10 000 organizations fill the
-- server's lock table, which all sessions share. Two keys with one lock only wait for each other's
-- open enqueue. Whoever takes several takes them in the order of the locks.
CREATE FUNCTION polar_jobs.ordering_lock(ordering_key text) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT hashtextextended('polar_jobs.ordering', 0) + (hashtextextended(ordering_key, 0) & 2047)
$$;

-- Answers false where somebody holds the row: then the release must be tried again. It never waits,
-- for a worker that ends a job must not depend on an open transaction of somebody else.
CREATE FUNCTION polar_jobs.release_head(key text) RETURNS boolean LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    head polar_jobs.live_jobs;
BEGIN
    SELECT * INTO head FROM polar_jobs.live_jobs WHERE ordering_key = key ORDER BY id LIMIT 1;
    IF NOT FOUND OR NOT head.blocked THEN
        RETURN true;
    END IF;
    PERFORM 1 FROM polar_jobs.live_jobs WHERE id = head.id FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE polar_jobs.live_jobs SET blocked = false WHERE id = head.id;
    RETURN true;
END $$;

CREATE FUNCTION polar_jobs.release_ordering_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(polar_jobs.ordering_lock(OLD.ordering_key))
       OR NOT polar_jobs.release_head(OLD.ordering_key) THEN
        INSERT INTO polar_jobs.key_releases (ordering_key) VALUES (OLD.ordering_key);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER release_ordering_key AFTER DELETE ON polar_jobs.live_jobs
    FOR EACH ROW WHEN (OLD.ordering_key IS NOT NULL) EXECUTE FUNCTION polar_jobs.release_ordering_key();

CREATE FUNCTION polar_jobs.release_noted_keys() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    note polar_jobs.key_releases;
    released integer := 0;
BEGIN
    FOR note IN SELECT * FROM polar_jobs.key_releases LIMIT 1000 FOR UPDATE SKIP LOCKED LOOP
        IF pg_try_advisory_xact_lock(polar_jobs.ordering_lock(note.ordering_key))
           AND polar_jobs.release_head(note.ordering_key) THEN
            DELETE FROM polar_jobs.key_releases WHERE id = note.id;
            released := released + 1;
        END IF;
    END LOOP;
    RETURN released;
END $$;

-- True while a job with this ordering key waits or runs: somebody looks after its matter already.
CREATE FUNCTION polar_jobs.is_looked_after(key text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM polar_jobs.live_jobs WHERE ordering_key = key)
$$;

-- Wake-up ------------------------------------------------------------------------------------
-- A worker that is about to sleep on a queue holds this lock in share mode; whoever cannot take
-- it exclusively knows that somebody sleeps. No row is written for a nap.
CREATE FUNCTION polar_jobs.sleep_lock(queue text) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT hashtextextended('polar_jobs.sleep/' || queue, 0) $$;

CREATE FUNCTION polar_jobs.somebody_sleeps(queue text) RETURNS boolean LANGUAGE sql AS $$
    SELECT EXISTS (
        SELECT 1 FROM pg_catalog.pg_locks
         WHERE locktype = 'advisory' AND mode = 'ShareLock' AND granted AND objsubid = 1
           AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
           AND classid = ((polar_jobs.sleep_lock(queue) >> 32) & 4294967295)::oid
           AND objid = (polar_jobs.sleep_lock(queue) & 4294967295)::oid)
$$;

-- Enqueue ------------------------------------------------------------------------------------
-- The kinds that the installed release knows, with their defaults; kept by `migrate` and by
-- every starting worker.
CREATE TABLE polar_jobs.kinds (
    kind text PRIMARY KEY,
    queue text NOT NULL,
    priority smallint NOT NULL,
    max_attempts integer NOT NULL
);

-- Many jobs at once, keys honoured. One entry of each array per job; null entries of `queues`,
-- `run_ats`, `priorities` and `max_attempts` take the kind's default. Returns one row per job in
-- the order given: its id, or null where a waiting twin exists.
--
-- The planner settings are part of it: an application's session may plan this while the table is
-- empty and keep the plan while it grows to a million rows.
CREATE FUNCTION polar_jobs.insert_jobs(
    kinds text[], payloads jsonb[], queues text[], run_ats timestamptz[], priorities smallint[],
    unique_keys text[], ordering_keys text[], max_attempts integer[],
    debounce_untils timestamptz[], events bigint[]
) RETURNS TABLE (place bigint, id bigint) LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
    SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    keyed boolean;
    made bigint[];
    -- An older snapshot does not show who is the head now: then the releaser decides.
    blind boolean := current_setting('transaction_isolation') <> 'read committed';
BEGIN
    PERFORM pg_advisory_xact_lock(locks.lock)
       FROM (SELECT DISTINCT polar_jobs.ordering_lock(k) AS lock FROM unnest(ordering_keys) k
              WHERE k IS NOT NULL ORDER BY lock) locks;
    keyed := FOUND;
    WITH wanted AS MATERIALIZED (
        SELECT n.*, coalesce(n.queue, d.queue, 'default') AS into_queue,
               coalesce(n.priority, d.priority, 0::smallint) AS with_priority,
               coalesce(n.attempts, d.max_attempts, 20) AS with_attempts,
               -- Twins within one batch: the first one stays, and answers for the events of all.
               row_number() OVER twins > 1 AS twin,
               array_agg(n.event) FILTER (WHERE n.event IS NOT NULL) OVER twins AS all_events
          FROM (SELECT g.*, nextval('polar_jobs.live_jobs_id_seq') AS job
                  FROM unnest(kinds, payloads, queues, run_ats, priorities, unique_keys, ordering_keys,
                              max_attempts, debounce_untils, events) WITH ORDINALITY
                       AS g (kind, payload, queue, run_at, priority, unique_key, ordering_key, attempts,
                             debounce_until, event, place)) n
          LEFT JOIN polar_jobs.kinds d ON d.kind = n.kind
        WINDOW twins AS (PARTITION BY n.unique_key, CASE WHEN n.unique_key IS NULL THEN n.place END
                         ORDER BY n.place ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
    ), ranked AS (
        SELECT w.*, row_number() OVER (PARTITION BY w.ordering_key ORDER BY w.place) > 1 AS follows
          FROM wanted w WHERE NOT w.twin
    ), inserted AS (
        INSERT INTO polar_jobs.live_jobs AS waiting
               (id, kind, payload, queue, run_at, priority, unique_key, ordering_key, max_attempts,
                debounce_until, events, blocked)
        OVERRIDING SYSTEM VALUE
        SELECT r.job, r.kind, coalesce(r.payload, '{}'), r.into_queue, coalesce(r.run_at, now()), r.with_priority,
               r.unique_key, r.ordering_key, r.with_attempts, r.debounce_until, r.all_events,
               r.ordering_key IS NOT NULL AND (blind OR r.follows OR EXISTS (
                   SELECT 1 FROM polar_jobs.live_jobs l WHERE l.ordering_key = r.ordering_key))
          -- Ids are in the order given; rows go in by unique key, so that no two batches wait for each other.
          FROM ranked r ORDER BY r.unique_key COLLATE "C" NULLS FIRST, r.place
        ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO UPDATE
           SET priority = least(waiting.priority, excluded.priority),
               events = CASE WHEN excluded.events IS NULL THEN waiting.events
                             ELSE coalesce(waiting.events, '{}') || excluded.events END,
               payload = CASE WHEN waiting.debounce_until IS NULL THEN waiting.payload ELSE excluded.payload END,
               run_at = CASE WHEN waiting.debounce_until IS NULL THEN waiting.run_at
                             ELSE greatest(waiting.run_at, least(excluded.run_at, waiting.debounce_until)) END
        RETURNING waiting.id
    ), fresh AS (
        -- A waiting twin answers with its own id, so what answers with the id given is new. One look
        -- per job below, not one join per pair: a batch may hold ten thousand.
        SELECT coalesce(jsonb_object_agg(i.id, true), '{}') AS ids FROM inserted i
    )
    SELECT array_agg(CASE WHEN (SELECT f.ids FROM fresh f) ? w.job::text THEN w.job END ORDER BY w.place)
      INTO made FROM wanted w;
    -- A twin inside a batch may leave a key without a head, and what went in blind has none yet.
    IF keyed AND (blind OR cardinality(made) > 1 AND array_position(made, NULL) IS NOT NULL) THEN
        INSERT INTO polar_jobs.key_releases (ordering_key)
        SELECT DISTINCT k FROM unnest(ordering_keys) k WHERE k IS NOT NULL;
    END IF;
    RETURN QUERY SELECT m.place, m.id FROM unnest(made) WITH ORDINALITY AS m (id, place);
END $$;

CREATE FUNCTION polar_jobs.enqueue(
    kind text, payload jsonb DEFAULT '{}', queue text DEFAULT NULL, run_at timestamptz DEFAULT NULL,
    priority integer DEFAULT NULL, unique_key text DEFAULT NULL, ordering_key text DEFAULT NULL,
    max_attempts integer DEFAULT NULL
) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    job bigint;
    target text;
BEGIN
    IF coalesce(enqueue.kind, '') = '' THEN
        RAISE EXCEPTION 'enqueue: kind is missing' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF jsonb_typeof(enqueue.payload) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'enqueue: payload of % must be a JSON object', enqueue.kind
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF enqueue.max_attempts < 1 THEN
        RAISE EXCEPTION 'enqueue: max_attempts must be at least 1, got %', enqueue.max_attempts
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF enqueue.priority NOT BETWEEN -32768 AND 32767 THEN
        RAISE EXCEPTION 'enqueue: priority must be between -32768 and 32767, got %', enqueue.priority
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    target := coalesce(enqueue.queue, (SELECT k.queue FROM polar_jobs.kinds k WHERE k.kind = enqueue.kind), 'default');
    IF NOT EXISTS (SELECT 1 FROM polar_jobs.queues q WHERE q.name = target) THEN
        RAISE EXCEPTION 'enqueue: there is no queue "%"', target
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Known queues: ' || (SELECT string_agg(name, ', ' ORDER BY name) FROM polar_jobs.queues);
    END IF;
    SELECT i.id INTO job FROM polar_jobs.insert_jobs(
        ARRAY[enqueue.kind], ARRAY[enqueue.payload], ARRAY[target], ARRAY[enqueue.run_at],
        ARRAY[enqueue.priority::smallint], ARRAY[enqueue.unique_key], ARRAY[enqueue.ordering_key],
        ARRAY[enqueue.max_attempts], ARRAY[NULL::timestamptz], ARRAY[NULL::bigint]) i;
    -- Only where somebody sleeps: a notification makes commits queue up behind each other.
    IF job IS NOT NULL AND polar_jobs.somebody_sleeps(target) THEN
        PERFORM pg_notify('polar_jobs', target);
    END IF;
    RETURN job;
END $$;

-- Schedules ----------------------------------------------------------------------------------
CREATE TABLE polar_jobs.schedules (
    name text PRIMARY KEY,
    cron text NOT NULL,
    next_tick timestamptz NOT NULL,
    last_tick timestamptz,
    paused_at timestamptz
);
-- A tick is a primary key: however many workers look at the clock, one of them writes its job.
CREATE TABLE polar_jobs.schedule_ticks (
    schedule text NOT NULL,
    tick timestamptz NOT NULL,
    job_id bigint,
    PRIMARY KEY (schedule, tick)
);

-- Rescue -------------------------------------------------------------------------------------
-- Puts back what a dead worker held. A dead worker is a failure like any other: it adds an entry
-- to `errors`, and a spent budget discards. A waiting twin takes over. What an open transaction of
-- somebody else is in the way of is left for the next call: the others must not wait for it. Without `ids` the whole
-- table is searched.
CREATE FUNCTION polar_jobs.return_jobs_of(dead bigint, ids bigint[] DEFAULT NULL, OUT returned bigint, OUT discarded bigint)
    LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    job polar_jobs.live_jobs;
BEGIN
    returned := 0;
    discarded := 0;
    PERFORM set_config('lock_timeout', '100ms', true);
    FOR job IN SELECT * FROM polar_jobs.live_jobs 
                WHERE id = ANY (coalesce(ids, ARRAY(SELECT id FROM polar_jobs.live_jobs WHERE worker = dead)))
                  AND worker = dead ORDER BY id FOR UPDATE SKIP LOCKED LOOP
        job.errors := job.errors || jsonb_build_object('at', now(), 'attempt', job.attempt, 'error', 'the worker died');
        BEGIN
            IF jsonb_array_length(job.errors) >= job.max_attempts THEN
                PERFORM polar_jobs.move_to_history(job, 'discarded', 'failed', job.note);
                discarded := discarded + 1;
            ELSE
                PERFORM polar_jobs.return_job(job);
                returned := returned + 1;
            END IF;
        EXCEPTION WHEN lock_not_available OR unique_violation THEN
            RAISE DEBUG 'job % of worker % is returned later', job.id, dead;
        END;
    END LOOP;
END $$;

-- One job, its new failure already in `errors`: back to waiting, or its twin takes over.
CREATE FUNCTION polar_jobs.return_job(job polar_jobs.live_jobs) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    twin bigint;
    failures integer := jsonb_array_length(job.errors);
BEGIN
    SELECT id INTO twin FROM polar_jobs.live_jobs WHERE unique_key = job.held_unique_key FOR UPDATE;
    IF FOUND THEN
        UPDATE polar_jobs.live_jobs
           SET events = nullif(coalesce(job.events, '{}') || coalesce(events, '{}'), '{}'),
               priority = least(priority, job.priority)
         WHERE id = twin;
        job.events := NULL;
        PERFORM polar_jobs.move_to_history(job, 'cancelled', 'ignored',
            'gave way to job ' || twin || ', which waits with the same unique key');
        RETURN;
    END IF;
    UPDATE polar_jobs.live_jobs
       -- At once the first time; a job that kills one process after the other gets slower.
       SET worker = NULL, unique_key = held_unique_key, held_unique_key = NULL, errors = job.errors,
           run_at = now() + CASE WHEN failures > 1 THEN make_interval(secs => least(3600, 2 ^ least(failures, 12))) ELSE '0' END
     WHERE id = job.id;
END $$;

CREATE FUNCTION polar_jobs.move_to_history(job polar_jobs.live_jobs, state text, outcome text, note text)
    RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM polar_jobs.live_jobs l WHERE l.id = job.id;
    INSERT INTO polar_jobs.finished_jobs
           (id, run_at, created_at, started_at, worker, attempt, max_attempts, priority, queue, kind,
            unique_key, ordering_key, events, note, payload, errors, state, outcome)
    VALUES (job.id, job.run_at, job.created_at, job.started_at, job.worker, job.attempt, job.max_attempts,
            job.priority, job.queue, job.kind, coalesce(job.held_unique_key, job.unique_key), job.ordering_key,
            job.events, move_to_history.note, job.payload, job.errors, move_to_history.state, move_to_history.outcome);
END $$;
