-- Schedules, and the ticks that became jobs.

CREATE TABLE polar_jobs.schedules (
    name text PRIMARY KEY,
    cron text NOT NULL,
    next_tick timestamptz NOT NULL,
    last_tick timestamptz,
    paused_at timestamptz
);

-- A tick is a primary key: however many workers look at the clock, one of them writes its job.
CREATE TABLE polar_jobs.schedule_ticks (
    schedule text NOT NULL,
    tick timestamptz NOT NULL,
    job_id bigint,
    PRIMARY KEY (schedule, tick)
);

-- Deletes ticks before a time, but never a schedule's newest, at most `batch` of them; the number deleted.
CREATE FUNCTION polar_jobs.prune_ticks(before timestamptz, batch integer) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    deleted bigint;
BEGIN
    DELETE FROM polar_jobs.schedule_ticks WHERE (schedule, tick) IN (
        SELECT t.schedule, t.tick FROM polar_jobs.schedule_ticks t
         WHERE t.tick < before
           AND EXISTS (SELECT 1 FROM polar_jobs.schedule_ticks newer
                        WHERE newer.schedule = t.schedule AND newer.tick > t.tick)
         LIMIT batch);
    GET DIAGNOSTICS deleted = ROW_COUNT;
    RETURN deleted;
END $$;
