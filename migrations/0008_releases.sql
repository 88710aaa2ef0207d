-- Which releases of the program declared their schedules and kinds here. During a roll-out two of them run side by
-- side, and processes of the old one may start last: the newest one that still runs has the say (`src/release.rs`).
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
