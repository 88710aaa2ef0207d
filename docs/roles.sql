-- Roles for polar-jobs in a database that it shares with an application. Run it as a superuser, or where there is none as the
-- database's owner with CREATEROLE, after `CREATE ROLE polar_jobs_service LOGIN; GRANT polar_jobs_service TO CURRENT_USER`
-- (from Postgres 16 on `… WITH INHERIT TRUE`). Run it before the first `polar-jobs migrate` and once more after it: what is
-- there already stays, and what could not be granted before the tables were there is granted then. To run it again later
-- harms nothing.
--
--   psql "$ADMIN_URL" -f docs/roles.sql
--   DATABASE_URL=postgres://polar_jobs_service@… polar-jobs migrate
--   psql "$ADMIN_URL" -f docs/roles.sql
--
-- Neither role has a password yet: `\password polar_jobs_service`, or what your provider offers.

DO $roles$
BEGIN
    -- Whoever may make functions in `public` could otherwise put their own in the place of those that are called here, and
    -- in the place of those that polar-jobs calls.
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'polar_jobs_service') THEN
        CREATE ROLE polar_jobs_service LOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'polar_jobs_app') THEN
        CREATE ROLE polar_jobs_app LOGIN;
    END IF;

    -- The processes of polar-jobs. They make the tables, so all of it is theirs, with what later releases add; nothing
    -- else in the database is.
    ALTER ROLE polar_jobs_service SET search_path = pg_catalog, pg_temp;
    EXECUTE format('GRANT CREATE ON DATABASE %I TO polar_jobs_service', current_database());
    -- Functions are anybody's to call in Postgres unless their maker says otherwise: none of these are, today and later.
    ALTER DEFAULT PRIVILEGES FOR ROLE polar_jobs_service REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
    -- Lets `polar-jobs doctor` name the session of an application that keeps usage from being counted. Where you may not
    -- grant it, it says that there is one, without its name.
    BEGIN
        GRANT pg_read_all_stats TO polar_jobs_service;
    EXCEPTION WHEN insufficient_privilege THEN
        RAISE NOTICE 'pg_read_all_stats is not yours to grant: doctor will not name sessions';
    END;

    -- The application.
    IF to_regclass('polar_jobs.usage') IS NULL THEN
        RAISE NOTICE 'no tables yet: run polar-jobs migrate as polar_jobs_service, then this file again';
        RETURN;
    END IF;
    GRANT USAGE ON SCHEMA polar_jobs TO polar_jobs_app;
    -- It tells of changes and enqueues jobs in its own transactions; both functions check what they are given.
    GRANT EXECUTE ON FUNCTION polar_jobs.record_change, polar_jobs.enqueue TO polar_jobs_app;
    GRANT INSERT (organization_id, quantity, recorded_at, external_id) ON polar_jobs.usage TO polar_jobs_app;
    -- What it reads. Tables of later releases are added here by name, or not at all.
    GRANT SELECT ON polar_jobs.organizations, polar_jobs.members, polar_jobs.accounts, polar_jobs.entitlements,
                    polar_jobs.subscriptions, polar_jobs.jobs, polar_jobs.external_events TO polar_jobs_app;
END
$roles$;
