-- Waking workers that are idle.

-- A worker marks a queue as idle by holding this lock in share mode; whoever cannot take it exclusively
-- knows that one waits to be notified. No row is written for that.
CREATE FUNCTION polar_jobs.idle_lock(queue text) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT hashtextextended('polar_jobs.idle/' || queue, 0) $$;

-- Tries the lock and lets it go at once, which costs the same however many locks the server holds.
CREATE FUNCTION polar_jobs.anyone_is_idle(queue text) RETURNS boolean LANGUAGE sql AS $$
    SELECT CASE WHEN pg_try_advisory_lock(polar_jobs.idle_lock(queue))
                THEN NOT pg_advisory_unlock(polar_jobs.idle_lock(queue)) ELSE true END
$$;

-- Wakes a queue's workers when this transaction commits, if one is idle; asked once per transaction. Only
-- where one is: a notification makes commits queue up behind each other. Not where transactions
-- may be prepared, which a notification makes impossible: polling finds the job as well.
CREATE FUNCTION polar_jobs.wake_at_commit(queue text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    setting CONSTANT text := 'polar_jobs.woken_' || wake_at_commit.queue;
BEGIN
    IF current_setting(setting, true) IS DISTINCT FROM '1' THEN
        PERFORM set_config(setting, '1', true);
        IF current_setting('max_prepared_transactions')::integer = 0 AND polar_jobs.anyone_is_idle(wake_at_commit.queue) THEN
            PERFORM pg_notify('polar_jobs', wake_at_commit.queue);
        END IF;
    END IF;
END $$;
