-- Which worker lives, and what it claimed: all that others need to take its jobs over when it is gone.

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
    queues text[] NOT NULL DEFAULT '{}',
    -- How many jobs of each of them it runs at once.
    slots integer[] NOT NULL DEFAULT '{}',
    -- Counts the connections on which the worker took its lock: a reclaimer that sees another number knows
    -- that the worker came back meanwhile.
    session integer NOT NULL DEFAULT 0,
    -- The server's when it took the lock last.
    incarnation text
) WITH (fillfactor = 50);

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
    -- A row of a few hundred ids, as most are, stays in its page, and its next version beside it.
) WITH (fillfactor = 10, toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
-- Written by every claim: to compress it would cost more than to store it.
ALTER TABLE polar_jobs.claims ALTER ids SET STORAGE EXTERNAL;

-- Which releases of the program declared their schedules and kinds here. During a roll-out two of them run side by
-- side, and processes of the old one may start last: the newest one that still runs decides (`src/release.rs`).
CREATE TABLE polar_jobs.releases (
    -- In the order in which they were first seen, which tells builds of one version apart.
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    version text NOT NULL,
    -- The newest migration it carries, then its version's numbers: compared from the left.
    rank bigint[] NOT NULL,
    -- Of what it declares.
    fingerprint text NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (rank, fingerprint)
) WITH (fillfactor = 50);
