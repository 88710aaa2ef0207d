-- Ordering keys: jobs of one key run one at a time, in the order in which they were committed.
--
-- The unique index `live_jobs_head` allows one unblocked job per key, the head; all others are blocked.
-- Whoever deletes the head lets the next one run. That needs no lock on the key: whoever adds a job
-- behind a head either holds the head's row until its commit, so that the deletion comes after and sees
-- the new job, or it leaves a note here, which is handled once both are visible.

-- A key may stand here more than once: a note must never wait for another one's transaction. When a
-- note is visible, so is the row that it is about.
CREATE TABLE polar_jobs.key_releases (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ordering_key text COLLATE "C",
    -- A blocked job that is not in the index of its unique key yet.
    pending_job bigint,
    -- Handled by its own transaction when that commits, if it can be.
    at_commit boolean NOT NULL DEFAULT false,
    written_by xid8 NOT NULL DEFAULT pg_current_xact_id()
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0);

-- The lowest blocked job of a key becomes its head. False where that must be tried again later: the job is
-- locked, for nobody waits here, or it is pending, for its own note gives it its unique key first. Only for
-- a caller who knows that the key has no head.
CREATE FUNCTION polar_jobs.promote_next(key text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    next bigint;
    pending boolean;
BEGIN
    SELECT l.id, l.held_unique_key IS NOT NULL INTO next, pending
      FROM polar_jobs.live_jobs l WHERE l.ordering_key = key AND l.blocked ORDER BY l.id LIMIT 1;
    IF next IS NULL THEN
        RETURN true;
    END IF;
    IF pending THEN
        RETURN false;
    END IF;
    PERFORM FROM polar_jobs.live_jobs l WHERE l.id = next AND l.blocked FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE polar_jobs.live_jobs SET blocked = false WHERE id = next;
    RETURN true;
END $$;

-- Makes sure that a key's jobs go on: it has a head afterwards, or the head that is there is held until
-- the caller commits, so that its end sees what the caller sees. False: try again later.
CREATE FUNCTION polar_jobs.release_key(key text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM polar_jobs.live_jobs WHERE ordering_key = key AND NOT blocked FOR KEY SHARE SKIP LOCKED;
    IF FOUND THEN
        RETURN true;
    END IF;
    -- No head, or one that somebody has locked, perhaps to delete it.
    IF EXISTS (SELECT FROM polar_jobs.live_jobs WHERE ordering_key = key AND NOT blocked) THEN
        RETURN false;
    END IF;
    RETURN polar_jobs.promote_next(key);
END $$;

-- The head was deleted. The row that follows may be held by somebody, and a snapshot of a higher
-- isolation level may not show it: then the releaser does it.
CREATE FUNCTION polar_jobs.release_ordering_key() RETURNS trigger LANGUAGE plpgsql
    SET enable_seqscan = off AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' OR NOT polar_jobs.promote_next(OLD.ordering_key) THEN
        INSERT INTO polar_jobs.key_releases (ordering_key) VALUES (OLD.ordering_key);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER release_ordering_key AFTER DELETE ON polar_jobs.live_jobs
    FOR EACH ROW WHEN (OLD.ordering_key IS NOT NULL AND NOT OLD.blocked)
    EXECUTE FUNCTION polar_jobs.release_ordering_key();

-- One note. False: try again later.
CREATE FUNCTION polar_jobs.handle_note(note polar_jobs.key_releases) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN (note.pending_job IS NULL OR polar_jobs.take_unique_key(note.pending_job))
       AND (note.ordering_key IS NULL OR polar_jobs.release_key(note.ordering_key));
END $$;

-- Returns the ids of the notes that are done with. One that fails (somebody else writes to its key at this
-- moment) is found by halving, so that it costs the others nothing.
CREATE FUNCTION polar_jobs.handle_notes(ids bigint[]) RETURNS bigint[] LANGUAGE plpgsql
    SET enable_seqscan = off SET lock_timeout = '50ms' AS $$
DECLARE
    half CONSTANT integer := cardinality(ids) / 2;
    note polar_jobs.key_releases;
    done bigint[] := '{}';
BEGIN
    FOR note IN SELECT n.* FROM polar_jobs.key_releases n WHERE n.id = ANY (ids) ORDER BY n.id LOOP
        IF polar_jobs.handle_note(note) THEN
            done := done || note.id;
        END IF;
    END LOOP;
    RETURN done;
EXCEPTION WHEN lock_not_available OR unique_violation OR serialization_failure OR deadlock_detected THEN
    IF half = 0 THEN
        RETURN '{}';
    END IF;
    RETURN polar_jobs.handle_notes(ids[:half]) || polar_jobs.handle_notes(ids[half + 1:]);
END $$;

-- Handles up to `batch` notes from behind `after`, oldest first. Returns the id of the last one that it
-- looked at, null if there was none, and how many it handled. Called until there are none behind: one
-- that cannot be handled yet holds up no other.
CREATE FUNCTION polar_jobs.release_noted_keys(after bigint, batch integer, OUT last bigint, OUT released integer)
    LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    taken bigint[] := ARRAY(SELECT n.id FROM polar_jobs.key_releases n WHERE n.id > after ORDER BY n.id
                             LIMIT batch FOR UPDATE SKIP LOCKED);
    done bigint[];
BEGIN
    released := 0;
    IF cardinality(taken) > 0 THEN
        last := taken[cardinality(taken)];
        done := polar_jobs.handle_notes(taken);
        DELETE FROM polar_jobs.key_releases WHERE id = ANY (done);
        released := cardinality(done);
    END IF;
END $$;

-- Keys with blocked jobs, but no head and no note: nothing of ours leaves such a key behind, so a number
-- above zero asks for attention. Visits one entry per key that has blocked jobs.
CREATE FUNCTION polar_jobs.headless_keys() RETURNS SETOF text LANGUAGE sql STABLE
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off AS $$
    WITH RECURSIVE keys (key) AS (
        (SELECT l.ordering_key FROM polar_jobs.live_jobs l WHERE l.blocked AND l.ordering_key IS NOT NULL
          ORDER BY l.ordering_key LIMIT 1)
        UNION ALL
        SELECT (SELECT l.ordering_key FROM polar_jobs.live_jobs l WHERE l.blocked AND l.ordering_key > k.key
                 ORDER BY l.ordering_key LIMIT 1)
          FROM keys k WHERE k.key IS NOT NULL
    ), noted AS MATERIALIZED (
        SELECT coalesce(jsonb_object_agg(n.ordering_key, true), '{}') AS keys
          FROM polar_jobs.key_releases n WHERE n.ordering_key IS NOT NULL
    )
    SELECT k.key FROM keys k
     WHERE k.key IS NOT NULL AND NOT (SELECT n.keys FROM noted n) ? k.key
       AND NOT EXISTS (SELECT FROM polar_jobs.live_jobs h WHERE h.ordering_key = k.key AND NOT h.blocked)
$$;

-- Notes every such key for the releaser; the number of them.
CREATE FUNCTION polar_jobs.note_headless_keys() RETURNS bigint LANGUAGE sql AS $$
    WITH noted AS (
        INSERT INTO polar_jobs.key_releases (ordering_key) SELECT polar_jobs.headless_keys() RETURNING 1)
    SELECT count(*) FROM noted
$$;

-- Transactions of the application -------------------------------------------------------------------
-- They may stay open for long, so what they write stands in no index that others would have to wait
-- at. Among themselves they wait for each other key by key at a row of this table. Prune removes
-- rows that nobody uses.
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

-- Deletes up to `batch` rows that nobody holds; those in use are made anew. Returns how many it looked at.
CREATE FUNCTION polar_jobs.prune_key_locks(after text, batch integer, OUT last text, OUT deleted bigint) LANGUAGE plpgsql
    SET enable_seqscan = off AS $$
DECLARE
    taken text[] := ARRAY(SELECT k.key FROM polar_jobs.key_locks k WHERE k.key > after ORDER BY k.key
                           LIMIT batch FOR UPDATE SKIP LOCKED);
BEGIN
    last := (SELECT max(k.key) FROM (SELECT k.key FROM polar_jobs.key_locks k WHERE k.key > after
                                      ORDER BY k.key LIMIT batch) k);
    DELETE FROM polar_jobs.key_locks WHERE key = ANY (taken);
    GET DIAGNOSTICS deleted = ROW_COUNT;
END $$;

-- What a transaction of the application left blocked is put in order when it commits; the first note does
-- it for all of them. A prepared transaction would hold what it takes here for as long as it likes, and a
-- snapshot of a higher isolation level does not show who is the head now: then the releaser does it. So
-- it does with what somebody else is writing to at this moment: a commit never fails or waits for this.
CREATE FUNCTION polar_jobs.release_at_commit() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, polar_jobs, pg_temp SET enable_seqscan = off AS $$
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
