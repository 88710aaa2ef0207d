-- Waking workers that sleep.

-- A worker that is about to sleep on a queue holds this lock in share mode; whoever cannot take
-- it exclusively knows that somebody sleeps. No row is written for a nap.
CREATE FUNCTION polar_jobs.sleep_lock(queue text) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT hashtextextended('polar_jobs.sleep/' || queue, 0) $$;

-- Tries the lock and lets it go at once, which costs the same however many locks the server holds.
CREATE FUNCTION polar_jobs.somebody_sleeps(queue text) RETURNS boolean LANGUAGE sql AS $$
    SELECT CASE WHEN pg_try_advisory_lock(polar_jobs.sleep_lock(queue))
                THEN NOT pg_advisory_unlock(polar_jobs.sleep_lock(queue)) ELSE true END
$$;

-- Wakes a queue's workers when this transaction commits, if any sleeps; asked once per transaction. Only
-- where somebody sleeps: a notification makes commits queue up behind each other. Not where transactions
-- may be prepared, which a notification makes impossible: polling finds the job as well.
CREATE FUNCTION polar_jobs.wake_at_commit(queue text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    setting CONSTANT text := 'polar_jobs.woken_' || wake_at_commit.queue;
BEGIN
    IF current_setting(setting, true) IS DISTINCT FROM '1' THEN
        PERFORM set_config(setting, '1', true);
        IF current_setting('max_prepared_transactions')::integer = 0 AND polar_jobs.somebody_sleeps(wake_at_commit.queue) THEN
            PERFORM pg_notify('polar_jobs', wake_at_commit.queue);
        END IF;
    END IF;
END $$;
