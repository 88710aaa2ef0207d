-- The mirror: what the application wants, and what Polar was last seen to hold. `jobs/mirror/` is
-- the only Rust that reads and writes it.
--
-- Every row remembers the newest change that wrote it (`event_id`). Ids of events respect causality,
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
    -- Fees that a grant gives; all three or none.
    granted_fee_basis_points integer,
    granted_fee_fixed integer,
    granted_subscription_fee_basis_points integer,
    -- The newest change that wrote name, slug, status, fees or deletion, and the one that last wrote each field that may be
    -- changed by itself.
    event_id bigint NOT NULL,
    name_event bigint NOT NULL DEFAULT 0,
    slug_event bigint NOT NULL DEFAULT 0,
    status_event bigint NOT NULL DEFAULT 0,
    -- The customer at Polar; null until one was seen there. Kept when it is found missing, so that
    -- the next one is known for another.
    polar_customer_id uuid,
    -- Since when Polar has that customer no longer although we want it; what it used waits for the next.
    customer_lost_at timestamptz,
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
       AND (own_fee_basis_points IS NULL) = (own_subscription_fee_basis_points IS NULL)),
    CHECK ((granted_fee_basis_points IS NULL) = (granted_fee_fixed IS NULL)
       AND (granted_fee_basis_points IS NULL) = (granted_subscription_fee_basis_points IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX organizations_unsynced ON polar_jobs.organizations (id)
    WHERE synced_event IS DISTINCT FROM event_id OR stale;
CREATE INDEX organizations_customer ON polar_jobs.organizations (polar_customer_id)
    WHERE polar_customer_id IS NOT NULL;

-- A number is drawn before Polar is asked, and the answer is written only if no later asking was
-- written before: a slow reader cannot overwrite newer news.
CREATE SEQUENCE polar_jobs.asking;

CREATE TABLE polar_jobs.people (
    user_id uuid PRIMARY KEY,
    -- Null where only a name, or a membership, was announced.
    email text,
    -- Empty where a blank one was given: then the part of the address before `@` is used.
    name text,
    -- The newest change that named them, and the one that last made a difference.
    email_event bigint NOT NULL DEFAULT 0,
    name_event bigint NOT NULL DEFAULT 0,
    changed_event bigint NOT NULL DEFAULT 0,
    -- When Polar first refused this address as undeliverable.
    undeliverable_at timestamptz
);
CREATE INDEX people_email ON polar_jobs.people (lower(email));
-- Whoever was erased is not in it: so is found who still has, or was given again, a name or an address.
CREATE INDEX people_changed ON polar_jobs.people (changed_event) WHERE email IS NOT NULL OR name IS NOT NULL;

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
CREATE INDEX memberships_user ON polar_jobs.memberships (user_id);
CREATE UNIQUE INDEX memberships_owner ON polar_jobs.memberships (organization_id)
    WHERE role = 'owner' AND removed_at IS NULL;

-- The newest change that says how Polar and the support desk should hold a person of an organization. Of who left only the
-- membership counts: what is told of the person afterwards changes nothing there.
CREATE FUNCTION polar_jobs.member_version(event_id bigint, removed_at timestamptz, changed_event bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT greatest(event_id, CASE WHEN removed_at IS NULL THEN changed_event END)
$$;

-- What stays confirmed of a row when change `event` is applied, perhaps after newer ones: what was confirmed for those did
-- not have it. 0 and not null, for Polar confirmed it once.
CREATE FUNCTION polar_jobs.confirmed_before(synced_event bigint, event bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN synced_event >= event THEN 0 ELSE synced_event END
$$;

-- The newest change of an organization, or of who owns it: what Polar is asked to make a customer of.
CREATE FUNCTION polar_jobs.customer_version(organization uuid) RETURNS bigint LANGUAGE sql STABLE AS $$
    SELECT greatest(o.event_id, m.event_id, p.changed_event)
      FROM polar_jobs.organizations o
      LEFT JOIN polar_jobs.memberships m ON m.organization_id = o.id AND m.role = 'owner' AND m.removed_at IS NULL
      LEFT JOIN polar_jobs.people p USING (user_id)
     WHERE o.id = organization
$$;

-- What is known to differ at Polar although nobody works on it: since when, and why. A row goes when
-- the subject was synced, or its customer is gone. What is unsynced without a row here was never
-- tried, or an attempt is under way.
CREATE TABLE polar_jobs.out_of_step (
    organization_id uuid NOT NULL,
    -- `customer`, `member/` and the user's id, `benefits`, `subscription`.
    subject text NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    -- The last time that it was tried in vain.
    tried_at timestamptz NOT NULL DEFAULT now(),
    reason text NOT NULL,
    -- The version of what is wanted that Polar refuses for good: only a newer version, or an address
    -- that becomes free, is worth another try. Null: the reason may pass, so it is tried again.
    refused_version bigint,
    -- The user who has what is wanted: the address; or the member itself, the ownership that nobody else is
    -- to have.
    holder uuid,
    -- How often it waited for another subject of ours; waits for Polar are not among them.
    waits integer NOT NULL DEFAULT 0,
    PRIMARY KEY (organization_id, subject)
);
COMMENT ON TABLE polar_jobs.out_of_step IS 'What is known to differ between our tables and Polar, since when, and why.';

-- Notes that a subject could not be brought in step; how often it has waited since it was last
-- given up. Of a deleted organization only its customer is noted, which is still to go; of anything
-- else nothing is written, and null is returned: nobody would ever take such a note back. The row of
-- the organization is held, so that a deletion that comes at the same time waits until it sees the
-- note and takes it along, or is waited for.
CREATE FUNCTION polar_jobs.note_out_of_step(
    organization uuid, subject text, reason text,
    refused_version bigint DEFAULT NULL, holder uuid DEFAULT NULL, waited boolean DEFAULT false
) RETURNS integer LANGUAGE sql AS $$
    INSERT INTO polar_jobs.out_of_step AS noted (organization_id, subject, reason, refused_version, holder, waits)
    SELECT o.id, $2, $3, $4, $5, $6::int
      FROM polar_jobs.organizations o
     WHERE o.id = $1 AND (o.deleted_at IS NULL OR $2 = 'customer')
       FOR SHARE
    ON CONFLICT (organization_id, subject) DO UPDATE
       SET reason = excluded.reason, refused_version = excluded.refused_version, holder = excluded.holder,
           tried_at = now(),
           waits = CASE WHEN noted.refused_version IS NOT NULL THEN 0 ELSE noted.waits END + excluded.waits
    RETURNING waits
$$;

CREATE VIEW polar_jobs.members AS
SELECT m.organization_id, m.user_id, p.email,
       coalesce(nullif(p.name, ''), split_part(p.email, '@', 1)) AS name,
       m.role, m.removed_at
  FROM polar_jobs.memberships m JOIN polar_jobs.people p USING (user_id);
COMMENT ON VIEW polar_jobs.members IS 'Who belongs to which organization, as the application wants it.';

-- What an organization pays that has neither a grant nor fees of its own: the settings of the worker
-- that started last, and until one starts the defaults of those settings. One row, which no account
-- copies, so that a changed default holds for everybody at once.
CREATE TABLE polar_jobs.platform_fees (
    is_only_row boolean PRIMARY KEY DEFAULT true CHECK (is_only_row),
    fee_basis_points integer NOT NULL CHECK (fee_basis_points BETWEEN 0 AND 10000),
    fee_fixed integer NOT NULL CHECK (fee_fixed >= 0),
    subscription_fee_basis_points integer NOT NULL CHECK (subscription_fee_basis_points BETWEEN 0 AND 10000),
    changed_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO polar_jobs.platform_fees (fee_basis_points, fee_fixed, subscription_fee_basis_points) VALUES (500, 50, 0);

CREATE VIEW polar_jobs.accounts AS
SELECT o.id AS organization_id,
       coalesce(o.granted_fee_basis_points, o.own_fee_basis_points, p.fee_basis_points) AS fee_basis_points,
       coalesce(o.granted_fee_fixed, o.own_fee_fixed, p.fee_fixed) AS fee_fixed,
       coalesce(o.granted_subscription_fee_basis_points, o.own_subscription_fee_basis_points,
                p.subscription_fee_basis_points) AS subscription_fee_basis_points,
       CASE WHEN o.granted_fee_fixed IS NOT NULL THEN 'grant'
            WHEN o.own_fee_fixed IS NOT NULL THEN 'organization'
            ELSE 'platform' END AS source
  FROM polar_jobs.organizations o CROSS JOIN polar_jobs.platform_fees p;
COMMENT ON VIEW polar_jobs.accounts IS 'Fees in force now, in basis points and cents. The application charges by this.';

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

-- The subscription in force, else the newest one that ended.
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

-- A subscription in force gives the plan, a paused one too; one that ended, is not paid for, or never
-- began gives none.
CREATE VIEW polar_jobs.entitlements AS
SELECT o.id AS organization_id, o.support_tier, o.preview_access, o.sso_enabled,
       coalesce(s.product_name, 'Free') AS plan, s.status AS subscription_status
  FROM polar_jobs.organizations o
  LEFT JOIN polar_jobs.subscriptions s
    ON s.organization_id = o.id AND s.status IN ('trialing', 'active', 'past_due', 'paused')
 WHERE o.deleted_at IS NULL;
