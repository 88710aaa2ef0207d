-- The mirror: what the application wants, and what Polar was last seen to hold. `jobs/mirror/` is
-- the only Rust that reads and writes it.
--
-- Every row remembers the change that last wrote it (`event_id`). Ids of events respect causality,
-- so an older change that comes late, or is replayed, never overwrites a newer one.

CREATE TABLE polar_jobs.organizations (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    slug text NOT NULL,
    status text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,
    -- Fees of its own, given at its creation; all three or none.
    own_fee_basis_points integer,
    own_fee_fixed integer,
    own_subscription_fee_basis_points integer,
    -- What its grants switch on.
    support_tier text CHECK (support_tier IN ('pro', 'growth', 'scale')),
    plain_tier_external_id text,
    preview_access boolean NOT NULL DEFAULT false,
    sso_enabled boolean NOT NULL DEFAULT false,
    -- The change that last wrote name, slug, status, fees or deletion.
    event_id bigint NOT NULL,
    -- The customer at Polar; null until one was seen there.
    polar_customer_id uuid,
    -- The `event_id` that Polar was last seen to agree with.
    synced_event bigint,
    -- A deletion that Polar has not carried out yet: the customer of an earlier life must go
    -- before the organization can start anew.
    erasure_event bigint,
    -- Which asking wrote last; see `asking`.
    benefits_asked bigint NOT NULL DEFAULT 0,
    subscription_asked bigint NOT NULL DEFAULT 0,
    -- Deliveries came while billing was off: ask for everything once it is configured.
    stale boolean NOT NULL DEFAULT false,
    CHECK ((own_fee_basis_points IS NULL) = (own_fee_fixed IS NULL)
       AND (own_fee_basis_points IS NULL) = (own_subscription_fee_basis_points IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX organizations_unsynced ON polar_jobs.organizations (id)
    WHERE synced_event IS DISTINCT FROM event_id OR stale;

-- A number is drawn before Polar is asked, and the answer is written only if no later asking was
-- written before: a slow reader cannot overwrite newer news.
CREATE SEQUENCE polar_jobs.asking;

CREATE TABLE polar_jobs.people (
    user_id uuid PRIMARY KEY,
    -- Null where only a name, or a membership, was announced.
    email text,
    name text,
    -- The newest change that told them, and the one that last made a difference.
    email_event bigint NOT NULL DEFAULT 0,
    name_event bigint NOT NULL DEFAULT 0,
    changed_event bigint NOT NULL DEFAULT 0,
    -- When Polar first refused this address as undeliverable.
    undeliverable_at timestamptz
);
CREATE INDEX people_email ON polar_jobs.people (lower(email));

CREATE TABLE polar_jobs.memberships (
    organization_id uuid NOT NULL,
    user_id uuid NOT NULL REFERENCES polar_jobs.people,
    role text NOT NULL CHECK (role IN ('owner', 'admin', 'finance', 'member')),
    removed_at timestamptz,
    event_id bigint NOT NULL,
    -- The newest change of membership or person that Polar was last seen to agree with.
    synced_event bigint,
    PRIMARY KEY (organization_id, user_id)
);
CREATE INDEX memberships_user ON polar_jobs.memberships (user_id) WHERE removed_at IS NULL;
CREATE UNIQUE INDEX memberships_owner ON polar_jobs.memberships (organization_id)
    WHERE role = 'owner' AND removed_at IS NULL;

CREATE VIEW polar_jobs.members AS
SELECT m.organization_id, m.user_id, p.email,
       coalesce(p.name, split_part(p.email, '@', 1)) AS name,
       m.role, m.removed_at
  FROM polar_jobs.memberships m JOIN polar_jobs.people p USING (user_id);
COMMENT ON VIEW polar_jobs.members IS 'Who belongs to which organization, as the application wants it.';

CREATE TABLE polar_jobs.accounts (
    organization_id uuid PRIMARY KEY,
    fee_basis_points integer NOT NULL CHECK (fee_basis_points BETWEEN 0 AND 10000),
    fee_fixed integer NOT NULL CHECK (fee_fixed >= 0),
    subscription_fee_basis_points integer NOT NULL CHECK (subscription_fee_basis_points BETWEEN 0 AND 10000),
    -- Whether a grant set them; else they are the organization's own, or the platform's.
    granted boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE polar_jobs.accounts IS 'Fees in force now, in basis points and cents. The application charges by this.';

-- Polar's customers by their id. Rows stay after a deletion: what Polar delivers afterwards may
-- name the customer by this id only.
CREATE TABLE polar_jobs.polar_customers (
    polar_customer_id uuid PRIMARY KEY,
    organization_id uuid NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now()
);

-- Which benefits an organization held when Polar was last asked: whom a changed benefit concerns.
CREATE TABLE polar_jobs.held_benefits (
    organization_id uuid NOT NULL REFERENCES polar_jobs.organizations,
    benefit_id uuid NOT NULL,
    PRIMARY KEY (organization_id, benefit_id)
);
CREATE INDEX held_benefits_benefit ON polar_jobs.held_benefits (benefit_id);

CREATE TABLE polar_jobs.subscriptions (
    organization_id uuid PRIMARY KEY REFERENCES polar_jobs.organizations,
    subscription_id uuid NOT NULL,
    product_id uuid NOT NULL,
    product_name text NOT NULL,
    status text NOT NULL,
    amount bigint NOT NULL,
    currency text NOT NULL,
    recurring_interval text,
    current_period_start timestamptz,
    current_period_end timestamptz,
    cancel_at_period_end boolean NOT NULL,
    canceled_at timestamptz,
    started_at timestamptz,
    ends_at timestamptz,
    ended_at timestamptz,
    past_due_at timestamptz,
    discount_id uuid,
    pending_product_id uuid,
    pending_applies_at timestamptz,
    seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX subscriptions_subscription ON polar_jobs.subscriptions (subscription_id);

-- A subscription that ended, or never began, gives no plan.
CREATE VIEW polar_jobs.entitlements AS
SELECT o.id AS organization_id, o.support_tier, o.preview_access, o.sso_enabled,
       coalesce(s.product_name, 'Free') AS plan, s.status AS subscription_status
  FROM polar_jobs.organizations o
  LEFT JOIN polar_jobs.subscriptions s
    ON s.organization_id = o.id AND s.status NOT IN ('canceled', 'unpaid', 'incomplete', 'incomplete_expired')
 WHERE o.deleted_at IS NULL;
