-- What a comparison with Polar found: one row from the time that a difference is first seen until it is gone.
CREATE TABLE polar_jobs.differences (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Null for a customer at Polar whose external id is no organization's.
    organization_id uuid,
    -- `customer`, `member/` and the user's id, `benefits`, `subscription`; for what is at Polar and is none
    -- of ours `stranger/customer/` or `stranger/member/` and Polar's id.
    subject text NOT NULL,
    -- The fields that differ, on both sides; null where the side has nothing, and after an erasure.
    wanted jsonb,
    found jsonb,
    cause text NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT now(),
    last_seen timestamptz NOT NULL DEFAULT now(),
    -- When it was first seen no longer.
    repaired_at timestamptz
);
CREATE UNIQUE INDEX differences_open
    ON polar_jobs.differences (subject, coalesce(organization_id, '00000000-0000-0000-0000-000000000000'))
    WHERE repaired_at IS NULL;
CREATE INDEX differences_organization ON polar_jobs.differences (organization_id, first_seen);
CREATE INDEX differences_oldest ON polar_jobs.differences (first_seen) WHERE repaired_at IS NULL;
COMMENT ON TABLE polar_jobs.differences IS
    'What differs between our tables and Polar, as comparisons found it; repaired_at is null while it does.';

-- When each organization was last compared, so that a run that stopped goes on where it was.
CREATE TABLE polar_jobs.comparisons (
    organization_id uuid PRIMARY KEY,
    -- The last try, also one that Polar did not answer.
    tried_at timestamptz NOT NULL,
    -- The last try of a run that repairs; one that only looks leaves the organization to it.
    repair_tried_at timestamptz,
    -- The last one that came to an end.
    compared_at timestamptz
) WITH (fillfactor = 80);
