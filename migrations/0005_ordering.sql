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
-- moment) is found by halving, so that it costs the others nothing. The caller's `lock_timeout` is waited out
-- once: somebody may hold hundreds, and each half that has one would wait again.
CREATE FUNCTION polar_jobs.handle_notes(ids bigint[]) RETURNS bigint[] LANGUAGE plpgsql
    SET enable_seqscan = off AS $$
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
    PERFORM set_config('lock_timeout', '1ms', true);
    RETURN polar_jobs.handle_notes(ids[:half]) || polar_jobs.handle_notes(ids[half + 1:]);
END $$;

-- Handles up to `batch` notes from behind `after`, oldest first. Returns the id of the last one that it
-- looked at, null if there was none, and how many it handled. Called until there are none behind: one
-- that cannot be handled yet holds up no other.
CREATE FUNCTION polar_jobs.release_noted_keys(after bigint, batch integer, OUT last bigint, OUT released integer)
    LANGUAGE plpgsql SET enable_seqscan = off SET lock_timeout = '50ms' AS $$
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
