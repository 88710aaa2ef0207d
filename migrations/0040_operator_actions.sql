-- What people did by hand: one row for each command that changed something, written in the transaction
-- of the change, so that neither is there without the other.
CREATE TABLE polar_jobs.operator_actions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL,
    -- The words of the command, such as `jobs retry`.
    action text NOT NULL,
    -- What it was done to, such as `job/17` or `queue/mail`.
    target text NOT NULL,
    -- Set where the target is an organization's.
    organization_id uuid,
    -- Ids and counts, never personal data: these rows outlive an erasure.
    detail jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX operator_actions_at ON polar_jobs.operator_actions (at);
CREATE INDEX operator_actions_organization ON polar_jobs.operator_actions (organization_id, at)
    WHERE organization_id IS NOT NULL;
COMMENT ON TABLE polar_jobs.operator_actions IS 'Who did what by hand, and when.';
