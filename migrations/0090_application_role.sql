-- What an application's role may do is granted to it by name: USAGE on the schema, EXECUTE on
-- `record_change` and `enqueue`, INSERT on the columns of `usage` that it fills, SELECT on the tables
-- that it reads. Nothing comes with being anybody: all else here is the queue's own.
REVOKE ALL ON ALL TABLES IN SCHEMA polar_jobs FROM PUBLIC;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA polar_jobs FROM PUBLIC;
-- The view of events calls it as whoever reads the view; it reads and writes nothing.
GRANT EXECUTE ON FUNCTION polar_jobs.storable_json(bytea) TO PUBLIC;

-- The partitions of the first week; `migrate` and the daily prune job make the next ones.
SELECT polar_jobs.create_all_partitions();
