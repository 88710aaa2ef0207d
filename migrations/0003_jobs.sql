-- The queue: waiting and running jobs live in `live_jobs`, finished ones in `finished_jobs`.
-- People read the view `jobs`. `src/queue/` is the only Rust that names these tables.

CREATE TABLE polar_jobs.queues (
    name text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]{0,62}$'),
    paused_at timestamptz,
    -- Slots per worker process; null = the process decides (WORKER_SLOTS).
    slots integer CHECK (slots > 0)
);
INSERT INTO polar_jobs.queues (name) VALUES ('default'), ('mail'), ('bulk');

-- The kinds that the installed release knows, with their defaults; kept by `migrate` and by
-- every starting worker.
CREATE TABLE polar_jobs.kinds (
    kind text PRIMARY KEY,
    queue text NOT NULL,
    priority smallint NOT NULL,
    max_attempts integer NOT NULL
);

-- A payload is kept as the text that it came as: it is written once and read once, by its job. The view shows it as
-- jsonb. As json Postgres takes texts that it cannot take as jsonb (\u0000, half of a surrogate pair): such a row would
-- be in the way of everybody who looks at the table, so it is refused with Postgres' own error.
CREATE DOMAIN polar_jobs.payload AS json CHECK (strpos(VALUE::text, '\u') = 0 OR VALUE::jsonb IS NOT NULL);

-- A job is waiting (`worker IS NULL`) or running. `worker`, `attempt` and `started_at` stand in no index
-- and in no index predicate, and half of each page is free: a claim is a HOT update.
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
    -- True while the job must not run yet: another one is the head of its ordering key, or nobody has
    -- looked whether it may be the head (then a note in `key_releases` asks for that).
    blocked boolean NOT NULL DEFAULT false,
    -- True where the unique key is the ordering key, as it is for most kinds: then the indexes of the
    -- ordering key keep it unique as well, `unique_key` stays null, and a claim changes no index.
    coalesces boolean NOT NULL DEFAULT false,
    -- Names and keys are compared byte by byte: a language's rules of order would cost more than all
    -- else in an index.
    queue text COLLATE "C" NOT NULL DEFAULT 'default',
    kind text COLLATE "C" NOT NULL,
    -- The unique key while the job waits. A claim moves it to `held_unique_key`, so a duplicate that
    -- arrives while this one runs is kept. A blocked row that holds its key there is in no unique index
    -- yet (`store_pending`).
    unique_key text COLLATE "C",
    held_unique_key text COLLATE "C",
    ordering_key text COLLATE "C",
    -- The external events that caused this job.
    events bigint[],
    -- Why the job waits, in words, if it went back without a failure.
    note text,
    payload polar_jobs.payload NOT NULL DEFAULT '{}',
    errors jsonb NOT NULL DEFAULT '[]',
    -- When the work was due before an attempt put it back: retries and waits for Polar move `run_at`. Null
    -- before that, and where the job itself put off what is not there yet.
    due_at timestamptz
) WITH (
    fillfactor = 50,
    toast_tuple_target = 4096,
    autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_insert_scale_factor = 0.2,
    autovacuum_vacuum_cost_delay = 1
);
-- A queue as a number of fixed width, for the index below: behind a text Postgres walks through each entry that it
-- compares to find the other columns.
CREATE FUNCTION polar_jobs.queue_number(queue text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.hashtext(queue)
$$;
-- Whether a job stands in a queue, as a condition that the index answers: the planner makes it a part of the statement.
-- Two names may have one number, so the names are compared as well.
CREATE FUNCTION polar_jobs.in_queue(queue text, name text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT polar_jobs.queue_number(queue) = polar_jobs.queue_number(name) AND queue = name
$$;
-- "queue IS NOT NULL" says nothing of the rows, but of the statements: only one that names a queue can use
-- this index. One that looks for a key would read all of it, where its plan was made while the table was empty.
CREATE INDEX live_jobs_ready ON polar_jobs.live_jobs (polar_jobs.queue_number(queue), priority, run_at, id)
    WHERE NOT blocked AND queue IS NOT NULL;
-- At most one job of a key is free to run, whatever operators, isolation levels or crashes do.
CREATE UNIQUE INDEX live_jobs_head ON polar_jobs.live_jobs (ordering_key)
    WHERE NOT blocked AND ordering_key IS NOT NULL;
-- Only for statements that name an ordering key: see above.
CREATE INDEX live_jobs_blocked ON polar_jobs.live_jobs (ordering_key, id) WHERE blocked AND ordering_key IS NOT NULL;
-- Behind a running head at most one job waits for all the news that came meanwhile.
CREATE UNIQUE INDEX live_jobs_follower ON polar_jobs.live_jobs (ordering_key) WHERE blocked AND coalesces;
CREATE UNIQUE INDEX live_jobs_unique ON polar_jobs.live_jobs (unique_key) WHERE unique_key IS NOT NULL;
-- Whose work is late although it runs, or waits for its next attempt. No claim changes it.
CREATE INDEX live_jobs_late ON polar_jobs.live_jobs (queue, due_at) WHERE due_at IS NOT NULL;
-- Finds out whether a job waits, or is about to, with a unique key.
CREATE INDEX live_jobs_pending ON polar_jobs.live_jobs (held_unique_key) WHERE blocked AND held_unique_key IS NOT NULL;

-- The history: completed jobs are kept for days, the others for months, so each have partitions of
-- their own. A job's id is in one of the three tables only, because whoever writes it here deletes it there.
CREATE TABLE polar_jobs.finished_jobs (
    id bigint NOT NULL,
    run_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz NOT NULL DEFAULT now(),
    worker bigint,
    attempt integer NOT NULL,
    max_attempts integer NOT NULL,
    priority smallint NOT NULL,
    -- 'completed', 'discarded' or 'cancelled': there are partitions for no others.
    state text NOT NULL,
    -- What became of the events that caused the job.
    outcome text NOT NULL DEFAULT 'applied' CHECK (outcome IN ('applied', 'ignored', 'failed')),
    queue text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    unique_key text COLLATE "C",
    ordering_key text COLLATE "C",
    events bigint[],
    note text,
    payload polar_jobs.payload NOT NULL,
    errors jsonb NOT NULL,
    -- When an operator took note of a discarded job: from then on nothing warns of it.
    acknowledged_at timestamptz
) PARTITION BY LIST (state);
CREATE INDEX finished_jobs_id ON polar_jobs.finished_jobs (id);

CREATE TABLE polar_jobs.completed_jobs PARTITION OF polar_jobs.finished_jobs FOR VALUES IN ('completed')
    PARTITION BY RANGE (finished_at);

CREATE TABLE polar_jobs.unsuccessful_jobs PARTITION OF polar_jobs.finished_jobs FOR VALUES IN ('discarded', 'cancelled')
    PARTITION BY RANGE (finished_at);
INSERT INTO polar_jobs.partitioned_tables (parent, storage) VALUES
    ('completed_jobs', 'toast_tuple_target = 4096, autovacuum_vacuum_insert_scale_factor = 0.5'),
    ('unsuccessful_jobs', 'toast_tuple_target = 4096, autovacuum_vacuum_insert_scale_factor = 0.5');

CREATE VIEW polar_jobs.jobs AS
SELECT id, queue, kind, payload::jsonb AS payload,
       CASE WHEN worker IS NULL THEN 'available' ELSE 'running' END AS state,
       priority, run_at, attempt, max_attempts,
       CASE WHEN coalesces THEN ordering_key ELSE coalesce(unique_key, held_unique_key) END AS unique_key,
       ordering_key,
       worker, (SELECT w.leased_until FROM polar_jobs.workers w WHERE w.id = worker) AS leased_until,
       errors, created_at, started_at, NULL::timestamptz AS finished_at,
       NULL::text AS outcome, note, blocked, events
FROM polar_jobs.live_jobs
UNION ALL
SELECT id, queue, kind, payload::jsonb, state, priority, run_at, attempt, max_attempts,
       unique_key, ordering_key, worker, NULL::timestamptz,
       errors, created_at, started_at, finished_at, outcome, note, false, events
FROM polar_jobs.finished_jobs;
COMMENT ON VIEW polar_jobs.jobs IS
    'Every job, waiting, running or finished. run_at, priority, max_attempts and payload of a waiting job may be updated here.';

-- Operators may correct a waiting job where they see it; nothing else, so that no update is lost in silence.
CREATE FUNCTION polar_jobs.update_job() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, polar_jobs, pg_temp AS $$
DECLARE
    editable CONSTANT text[] := ARRAY['run_at', 'priority', 'max_attempts', 'payload'];
    other text := (SELECT string_agg(n.key, ', ' ORDER BY n.key)
                     FROM jsonb_each(to_jsonb(NEW) - editable) n JOIN jsonb_each(to_jsonb(OLD) - editable) o USING (key)
                    WHERE n.value IS DISTINCT FROM o.value);
BEGIN
    IF other IS NOT NULL THEN
        RAISE EXCEPTION 'jobs: % cannot be updated', other USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = 'Of a waiting job run_at, priority, max_attempts and payload can be. '
                   'To end or repeat one: polar-jobs jobs cancel, discard or retry.';
    END IF;
    IF NOT isfinite(NEW.run_at) THEN
        RAISE EXCEPTION 'jobs: run_at must be a time, got %', NEW.run_at USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Only what changes is written: news that were merged into the job since it was looked at stay. A payload
    -- that they changed cannot be known here, so another one does not take its place.
    UPDATE polar_jobs.live_jobs l
       SET run_at = CASE WHEN NEW.run_at = OLD.run_at THEN l.run_at ELSE NEW.run_at END,
           due_at = CASE WHEN NEW.run_at = OLD.run_at THEN l.due_at END,
           priority = CASE WHEN NEW.priority = OLD.priority THEN l.priority ELSE NEW.priority END,
           max_attempts = CASE WHEN NEW.max_attempts = OLD.max_attempts THEN l.max_attempts ELSE NEW.max_attempts END,
           payload = CASE WHEN NEW.payload = OLD.payload THEN l.payload ELSE NEW.payload::json END
     WHERE l.id = OLD.id AND l.worker IS NULL AND (NEW.payload = OLD.payload OR l.payload::jsonb = OLD.payload);
    IF NOT FOUND THEN
        IF EXISTS (SELECT FROM polar_jobs.live_jobs l WHERE l.id = OLD.id AND l.worker IS NULL) THEN
            RAISE EXCEPTION 'jobs: the payload of % has just been changed by news for it', OLD.id
                USING ERRCODE = 'serialization_failure', HINT = 'Look at it and update it again.';
        END IF;
        RAISE EXCEPTION 'jobs: % is %, only waiting jobs can be updated', OLD.id,
            coalesce(nullif((SELECT j.state FROM polar_jobs.jobs j WHERE j.id = OLD.id), 'available'), 'no longer waiting')
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER update_job INSTEAD OF UPDATE ON polar_jobs.jobs
    FOR EACH ROW EXECUTE FUNCTION polar_jobs.update_job();

-- True while a job with this ordering key waits or runs: somebody looks after its matter already.
CREATE FUNCTION polar_jobs.has_unfinished_job(key text) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (SELECT 1 FROM polar_jobs.live_jobs WHERE ordering_key = key AND NOT blocked)
        OR EXISTS (SELECT 1 FROM polar_jobs.live_jobs WHERE ordering_key = key AND blocked)
$$;

-- When the first attempt of an unfinished job failed; null where none did.
CREATE FUNCTION polar_jobs.failing_since(job bigint) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT (errors #>> '{0,at}')::timestamptz FROM polar_jobs.live_jobs WHERE id = job
$$;

-- The priorities at which unblocked jobs of a queue stand, most urgent first. They are visited one by one in
-- the index, so what is scheduled far ahead, or running, costs nothing. One statement and no SET: Postgres
-- plans it as a part of whoever asks.
CREATE FUNCTION polar_jobs.priorities(queue text) RETURNS TABLE (priority smallint) LANGUAGE sql STABLE AS $$
    WITH RECURSIVE levels (priority) AS (
        (SELECT j.priority FROM polar_jobs.live_jobs j
          WHERE polar_jobs.in_queue(j.queue, priorities.queue) AND NOT j.blocked ORDER BY j.priority LIMIT 1)
        UNION ALL
        SELECT (SELECT j.priority FROM polar_jobs.live_jobs j
                 WHERE polar_jobs.in_queue(j.queue, priorities.queue) AND NOT j.blocked AND j.priority > l.priority
                 ORDER BY j.priority LIMIT 1)
          FROM levels l WHERE l.priority IS NOT NULL
    )
    SELECT l.priority FROM levels l WHERE l.priority IS NOT NULL
$$;
