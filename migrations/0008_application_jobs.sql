-- Writing jobs in transactions of the application, which may stay open for long. What they write stands in
-- no index that others would have to wait at: it is blocked and pending until the commit puts it in order.
-- Among themselves they wait for each other, key by key.

-- A row to wait at, for each key in use. Prune removes those that nobody uses.
CREATE TABLE polar_jobs.key_locks (
    key text COLLATE "C" PRIMARY KEY
) WITH (fillfactor = 70, autovacuum_vacuum_threshold = 1000);

-- Locks keys until the transaction ends, in one order for everybody. An upsert that changes nothing: it
-- locks the row whether it is new, old, or of an open transaction, and waits for no other key.
CREATE FUNCTION polar_jobs.lock_keys(keys text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') = 'read committed' THEN
        PERFORM polar_jobs.lock_keys_now(keys);
        RETURN;
    END IF;
    BEGIN
        PERFORM polar_jobs.lock_keys_now(keys);
    EXCEPTION WHEN serialization_failure THEN
        -- The row is newer than this transaction's snapshot. Its job is blocked and noted all the same,
        -- and the releaser decides by what is committed then.
        NULL;
    END;
END $$;

CREATE FUNCTION polar_jobs.lock_keys_now(keys text[]) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    INSERT INTO polar_jobs.key_locks AS held (key)
    SELECT DISTINCT k COLLATE "C" FROM unnest(keys) k WHERE k IS NOT NULL ORDER BY 1
    ON CONFLICT (key) DO UPDATE SET key = excluded.key WHERE false;
END $$;

-- Which open transactions hold keys, oldest first: a row's lock does not tell whose it is, but only who wrote to the
-- table has it locked in this mode.
CREATE FUNCTION polar_jobs.holders_of_keys() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce('it is ' || string_agg(coalesce('backend ' || l.pid || ' of role ' || a.usename, 'a prepared transaction'),
                                           ' or ' ORDER BY age(a.backend_xid) DESC NULLS FIRST), 'it has just ended')
      FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
     WHERE l.locktype = 'relation' AND l.relation = 'polar_jobs.key_locks'::regclass
       AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())
       AND l.mode = 'RowExclusiveLock' AND l.granted AND l.pid IS DISTINCT FROM pg_backend_pid()
$$;

-- Deletes up to `batch` rows that nobody holds; those in use are made anew. Those of organizations and people stay: a
-- transaction at REPEATABLE READ cannot lock a row that is newer than its snapshot, and changes need the lock.
-- Returns the last key that it looked at.
CREATE FUNCTION polar_jobs.prune_key_locks(after text, batch integer, OUT last text, OUT deleted bigint) LANGUAGE plpgsql
    SET enable_seqscan = off AS $$
DECLARE
    taken text[];
BEGIN
    last := (SELECT max(k.key) FROM (SELECT k.key FROM polar_jobs.key_locks k WHERE k.key > after
                                      ORDER BY k.key LIMIT batch) k);
    taken := ARRAY(SELECT k.key FROM polar_jobs.key_locks k
                    WHERE k.key > after AND k.key <= last AND k.key !~ '^ordering/(organization|user)/'
                    ORDER BY k.key FOR UPDATE SKIP LOCKED);
    DELETE FROM polar_jobs.key_locks WHERE key = ANY (taken);
    GET DIAGNOSTICS deleted = ROW_COUNT;
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

-- A pending job takes its unique key, or is merged into the one that waits with it. Those of the key that were written
-- before it go first, though their notes were not handled yet: newer news are laid over older ones. False: try
-- again later.
CREATE FUNCTION polar_jobs.take_unique_key(pending bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    key text := (SELECT l.held_unique_key FROM polar_jobs.live_jobs l WHERE l.id = pending AND l.blocked);
    next bigint;
BEGIN
    -- OFFSET 0: by their ids they would be looked for among all jobs.
    FOR next IN SELECT k.id FROM (SELECT l.id FROM polar_jobs.live_jobs l
                                   WHERE l.held_unique_key = key AND l.blocked OFFSET 0) k
                 WHERE k.id <= pending ORDER BY k.id LOOP
        IF NOT polar_jobs.take_unique_key_next(next) THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
END $$;

-- The same for the first of them.
CREATE FUNCTION polar_jobs.take_unique_key_next(pending bigint) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    job polar_jobs.live_jobs;
    duplicate bigint;
BEGIN
    SELECT l.* INTO job FROM polar_jobs.live_jobs l WHERE l.id = pending AND l.blocked FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN NOT EXISTS (SELECT FROM polar_jobs.live_jobs l
                            WHERE l.id = pending AND l.blocked AND l.held_unique_key IS NOT NULL);
    END IF;
    -- Somebody did it meanwhile.
    IF job.held_unique_key IS NULL THEN
        RETURN true;
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
       SET priority = least(l.priority, polar_jobs.news(job.note, job.priority)),
           run_at = least(l.run_at, polar_jobs.news(job.note, job.run_at)),
           events = polar_jobs.merge_events(l.events, job.events),
           payload = polar_jobs.merge_payload(l.payload, polar_jobs.news(job.note, job.payload))
     WHERE l.id = duplicate;
    -- The events are the other job's now.
    job.events := NULL;
    IF job.note = polar_jobs.duplicate_note() THEN
        DELETE FROM polar_jobs.live_jobs l WHERE l.id = job.id;
    ELSE
        PERFORM polar_jobs.move_to_history(ARRAY[job], 'cancelled', 'ignored', 'merged into job ' || duplicate);
    END IF;
END $$;

-- Marks a job whose id nobody was given, because one with its unique key waited.
CREATE FUNCTION polar_jobs.duplicate_note() RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT 'enqueued while another job waited with its unique key'
$$;

-- What a transaction of the application left blocked is put in order when it commits; the first note does
-- it for all of them. A prepared transaction would hold what it takes here for as long as it likes, and a
-- snapshot of a higher isolation level does not show who is the head now: then the releaser does it. So
-- it does with what somebody else is writing to at this moment: a commit never fails or waits for this.
CREATE FUNCTION polar_jobs.release_at_commit() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, polar_jobs, pg_temp SET enable_seqscan = off SET lock_timeout = '50ms' AS $$
DECLARE
    ids bigint[];
    done bigint[];
BEGIN
    IF current_setting('max_prepared_transactions')::integer > 0
       OR current_setting('transaction_isolation') <> 'read committed'
       OR NOT EXISTS (SELECT FROM polar_jobs.key_releases n WHERE n.id = NEW.id AND n.at_commit) THEN
        RETURN NULL;
    END IF;
    ids := ARRAY(SELECT n.id FROM polar_jobs.key_releases n
                  WHERE n.id >= NEW.id AND n.at_commit AND n.written_by = pg_current_xact_id() ORDER BY n.id);
    done := polar_jobs.handle_notes(ids);
    DELETE FROM polar_jobs.key_releases n WHERE n.id = ANY (done);
    UPDATE polar_jobs.key_releases n SET at_commit = false WHERE n.id = ANY (ids);
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER release_at_commit AFTER INSERT ON polar_jobs.key_releases
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.at_commit)
    EXECUTE FUNCTION polar_jobs.release_at_commit();

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
        PERFORM polar_jobs.check_keys(kind, unique_key, ordering_key);
        PERFORM polar_jobs.lock_keys(ARRAY['unique/' || unique_key, 'ordering/' || ordering_key]);
        duplicate := polar_jobs.is_waiting(unique_key);
    END IF;
    -- The lock before the id: within a key the order of ids is the order of commits.
    SELECT (j.job).* INTO job
      FROM polar_jobs.job_rows(ARRAY[kind], ARRAY[payload::json], ARRAY[queue], ARRAY[run_at], ARRAY[priority::smallint],
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

-- What comes by the clock or by a delivery merges into whatever waits with its unique key. So a key that begins with a
-- kind is for jobs of that kind alone: another one would take their news over and do nothing with them.
CREATE FUNCTION polar_jobs.check_keys(kind text, unique_key text, ordering_key text) RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
    fault text := (
        SELECT format('%s "%s" belongs to jobs of %s', given.name, given.key, k.kind)
          FROM (VALUES ('unique_key', unique_key), ('ordering_key', ordering_key)) given (name, key)
          JOIN polar_jobs.kinds k ON k.kind = split_part(given.key, '/', 1)
         WHERE k.kind <> check_keys.kind LIMIT 1);
BEGIN
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION 'enqueue: %', fault
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Begin it with ' || kind || '/, or with a word that is no kind of job.';
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
