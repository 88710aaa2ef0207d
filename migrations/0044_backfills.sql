-- Runs that turn every organization that we know into jobs: where a run stopped the next one goes on.
CREATE TABLE polar_jobs.backfills (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    actor text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    -- The last organization whose jobs are written.
    position uuid,
    organizations bigint NOT NULL DEFAULT 0,
    finished_at timestamptz
);
CREATE UNIQUE INDEX backfills_open ON polar_jobs.backfills ((true)) WHERE finished_at IS NULL;
