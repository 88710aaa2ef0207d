-- Which worker lives, what it claimed, and who takes its jobs over when it is gone.

-- `session` counts the connections on which the worker took its lock: a reclaimer that sees another
-- number knows that the worker came back meanwhile. `incarnation` is the server's when it did.
ALTER TABLE polar_jobs.workers
    ADD COLUMN session integer NOT NULL DEFAULT 0,
    ADD COLUMN incarnation text;

-- Changes whenever the server lost its sessions, and with them all advisory locks: at a start
-- (postmaster), after the crash of one backend (statistics are reset by crash recovery), and on a
-- promoted standby (timeline). Errors on a standby: nobody is judged from there.
CREATE FUNCTION polar_jobs.server_incarnation() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT concat_ws('/', extract(epoch FROM pg_postmaster_start_time()),
                     extract(epoch FROM (SELECT stats_reset FROM pg_catalog.pg_stat_wal)),
                     left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))
$$;

-- The advisory lock (28778 is "pj" in ASCII) that a living worker's lease session holds.
CREATE FUNCTION polar_jobs.holds_session_lock(worker bigint) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT EXISTS (
        SELECT 1 FROM pg_catalog.pg_locks
         WHERE locktype = 'advisory' AND granted AND objsubid = 2
           AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
           AND classid = 28778::oid AND objid = (worker & 2147483647)::int::oid)
$$;

-- What a fetcher holds: written by the statement that claims, so that neither a lost answer nor a dead
-- worker costs a scan of the live table. `turn` counts the fetcher's claims, `epoch` its connections: a
-- claim that comes late, from a connection that was given up, finds another epoch and takes nothing.
-- `ids` may name jobs that ended meanwhile; it never lacks one that is held.
CREATE TABLE polar_jobs.claims (
    worker bigint NOT NULL,
    fetcher smallint NOT NULL,
    epoch integer NOT NULL,
    turn bigint NOT NULL DEFAULT 0,
    ids bigint[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (worker, fetcher)
    -- A row of a few hundred ids stays in its page, and its next version beside it.
) WITH (fillfactor = 10, toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
-- Written by every claim: to compress it would cost more than to store it.
ALTER TABLE polar_jobs.claims ALTER ids SET STORAGE EXTERNAL;

-- A job that was taken back from a dead worker, as an operator wants to hear of it.
CREATE TYPE polar_jobs.reclaimed_job AS (id bigint, kind text, organization text, discarded boolean);

-- Puts back what workers without a row held, and removes what they recorded once nothing is left. A job
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
