-- Daily partitions: old days are dropped as whole tables, which costs the same however many rows they
-- hold. Partitions are made ahead of time by `migrate` and by the daily prune job; where none was made,
-- a default partition takes the rows, so that an insert never fails. Whatever needs a strong lock gives
-- up soon and is tried again the next time: nobody queues up behind it.

-- Tables that are partitioned by day (UTC) of a timestamptz column, and what their partitions look like.
CREATE TABLE polar_jobs.partitioned_tables (
    parent text PRIMARY KEY,
    -- Storage parameters of a partition, as in CREATE TABLE .. WITH (..): a partitioned table has none.
    storage text NOT NULL,
    -- Whether rows that the default partition took may move now, as an expression.
    movable text NOT NULL DEFAULT 'true'
);

-- The column by whose day a table is partitioned.
CREATE FUNCTION polar_jobs.partition_column(parent text) RETURNS name LANGUAGE sql STABLE AS $$
    SELECT a.attname FROM pg_catalog.pg_partitioned_table p
      JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
     WHERE p.partrelid = format('polar_jobs.%I', parent)::regclass
$$;

-- Its partitions by their days, without the default one.
CREATE FUNCTION polar_jobs.daily_partitions(parent text) RETURNS TABLE (partition name, day date) LANGUAGE sql STABLE AS $$
    SELECT c.relname, to_date(right(c.relname, 8), 'YYYYMMDD')
      FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = format('polar_jobs.%I', parent)::regclass AND c.relname ~ '_[0-9]{8}$'
$$;

-- Held while its partitions are made, and shared by whoever must not meet that.
CREATE FUNCTION polar_jobs.partitions_lock(parent text) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT hashtextextended('polar_jobs.partitions/' || parent, 0)
$$;

-- What has no primary key is published as whole rows: where somebody publishes all tables, as for a logical replica or an
-- upgrade without downtime, Postgres refuses to change rows that it could not name. (A subscriber cannot find a finished job
-- again, for json cannot be compared: docs/operating.md says what to leave alone meanwhile.)
CREATE FUNCTION polar_jobs.identify_rows(relation text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE polar_jobs.%I REPLICA IDENTITY FULL', relation);
END $$;

-- Makes a table's default partition and the partitions of today and `ahead` days more, where they are
-- missing. Returns how many it made, null where somebody holds the table. Rows that the default partition took
-- meanwhile move over.
CREATE FUNCTION polar_jobs.create_partitions(parent text, ahead integer) RETURNS integer LANGUAGE plpgsql
    SET lock_timeout = '200ms' SET timezone = 'UTC' AS $$
#variable_conflict use_variable
DECLARE
    storage text := (SELECT t.storage FROM polar_jobs.partitioned_tables t WHERE t.parent = create_partitions.parent);
    key name := polar_jobs.partition_column(parent);
    day date;
    made integer := 0;
BEGIN
    IF storage IS NULL OR key IS NULL THEN
        RAISE EXCEPTION '% is not listed in partitioned_tables', parent;
    END IF;
    PERFORM pg_advisory_xact_lock(polar_jobs.partitions_lock(parent));
    IF to_regclass(format('polar_jobs.%I', parent || '_default')) IS NULL THEN
        EXECUTE format('CREATE TABLE polar_jobs.%I PARTITION OF polar_jobs.%I DEFAULT WITH (%s)',
                       parent || '_default', parent, storage);
        PERFORM polar_jobs.identify_rows(parent || '_default');
        made := 1;
    END IF;
    FOR day IN SELECT d::date FROM generate_series(current_date, current_date + ahead, '1 day') d LOOP
        made := made + polar_jobs.create_partition(parent, storage, key, day)::integer;
    END LOOP;
    RETURN made;
EXCEPTION WHEN lock_not_available THEN
    RAISE LOG 'partitions of % are made later: somebody holds the table', parent;
    RETURN NULL;
END $$;

-- ATTACH lets others read and write the table meanwhile, which CREATE TABLE .. PARTITION OF does not.
-- A day whose rows may not move now gets none.
CREATE FUNCTION polar_jobs.create_partition(parent text, storage text, key name, day date) RETURNS boolean
    LANGUAGE plpgsql AS $$
DECLARE
    partition text := parent || to_char(day, '"_"YYYYMMDD');
    fallback text := parent || '_default';
    movable text := (SELECT t.movable FROM polar_jobs.partitioned_tables t WHERE t.parent = create_partition.parent);
    stays boolean;
BEGIN
    IF to_regclass(format('polar_jobs.%I', partition)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('LOCK TABLE polar_jobs.%I IN ACCESS EXCLUSIVE MODE', fallback);
    EXECUTE format('SELECT NOT (%s) AND EXISTS (SELECT FROM polar_jobs.%I WHERE %I >= %L AND %I < %L)',
                   movable, fallback, key, day, key, day + 1) INTO stays;
    IF stays THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE polar_jobs.%I (LIKE polar_jobs.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS
                    INCLUDING STORAGE INCLUDING COMPRESSION INCLUDING GENERATED) WITH (%s)', partition, parent, storage);
    PERFORM polar_jobs.identify_rows(partition);
    EXECUTE format('WITH moved AS (DELETE FROM polar_jobs.%I WHERE %I >= %L AND %I < %L RETURNING *)
                    INSERT INTO polar_jobs.%I SELECT * FROM moved', fallback, key, day, key, day + 1, partition);
    EXECUTE format('ALTER TABLE polar_jobs.%I ATTACH PARTITION polar_jobs.%I FOR VALUES FROM (%L) TO (%L)',
                   parent, partition, day, day + 1);
    RETURN true;
END $$;

-- Drops the partitions whose days lie before `before`, and deletes such rows of the default partition.
-- Returns how many partitions it dropped, null where somebody holds the table. With `keep`, a condition on a row named r, a partition that
-- holds such a row stays whole, and such rows of the default partition stay.
CREATE FUNCTION polar_jobs.drop_partitions(parent text, before timestamptz, keep text DEFAULT 'false') RETURNS integer
    LANGUAGE plpgsql SET lock_timeout = '200ms' SET timezone = 'UTC' AS $$
DECLARE
    partition name;
    kept boolean;
    old name[] := '{}';
BEGIN
    EXECUTE format('DELETE FROM polar_jobs.%I r WHERE %I < %L AND NOT coalesce(%s, false)',
                   parent || '_default', polar_jobs.partition_column(parent), before, keep);
    FOR partition IN SELECT d.partition FROM polar_jobs.daily_partitions(parent) d WHERE d.day + 1 <= before ORDER BY d.day LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM polar_jobs.%I r WHERE %s)', partition, keep) INTO kept;
        CONTINUE WHEN kept;
        old := old || partition;
    END LOOP;
    -- After all that takes time: the first one locks the whole table until the commit.
    FOREACH partition IN ARRAY old LOOP
        EXECUTE format('DROP TABLE polar_jobs.%I', partition);
    END LOOP;
    RETURN cardinality(old);
EXCEPTION WHEN lock_not_available THEN
    RAISE LOG 'old partitions of % are dropped later: somebody holds the table', parent;
    RETURN NULL;
END $$;

-- The first day of which a table has a partition, or a row without one; null where it has neither.
CREATE FUNCTION polar_jobs.oldest_day(parent text) RETURNS timestamptz LANGUAGE plpgsql STABLE SET timezone = 'UTC' AS $$
DECLARE
    oldest timestamptz;
BEGIN
    EXECUTE format('SELECT min(%I) FROM polar_jobs.%I', polar_jobs.partition_column(parent), parent || '_default') INTO oldest;
    RETURN least(oldest, (SELECT min(d.day) FROM polar_jobs.daily_partitions(parent) d));
END $$;

-- Makes the partitions of every table ahead of time. Returns whether nobody held one.
CREATE FUNCTION polar_jobs.create_all_partitions(ahead integer DEFAULT 7) RETURNS boolean LANGUAGE sql AS $$
    SELECT bool_and(polar_jobs.create_partitions(t.parent, ahead) IS NOT NULL) FROM polar_jobs.partitioned_tables t
$$;
