-- What a change may say. The rules are those of `jobs/change/`, which checks what comes in over HTTP; a test
-- sends the same table of changes through both.

-- What each type of change has in its data, in the order in which faults are listed. A field of
-- `owner`, `user` or `fees` is looked at where that object is given.
CREATE FUNCTION polar_jobs.change_fields() RETURNS TABLE (
    place integer, change text, parent text, field text, required boolean, rule text, low bigint, high bigint
) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    VALUES
    ( 1, 'organization.created', NULL, 'id', true, 'uuid', 0, 0),
    ( 2, 'organization.created', NULL, 'name', true, 'name', 1, 256),
    ( 3, 'organization.created', NULL, 'slug', true, 'text', 1, 500),
    ( 4, 'organization.created', NULL, 'status', false, 'text', 1, 200),
    ( 5, 'organization.created', NULL, 'owner', true, 'object', 0, 0),
    ( 6, 'organization.created', 'owner', 'id', true, 'uuid', 0, 0),
    ( 7, 'organization.created', 'owner', 'email', true, 'email', 0, 0),
    ( 8, 'organization.created', 'owner', 'name', false, 'name', 0, 256),
    ( 9, 'organization.created', NULL, 'fees', false, 'object', 0, 0),
    (10, 'organization.created', 'fees', 'basis_points', true, 'integer', 0, 10000),
    (11, 'organization.created', 'fees', 'fixed', true, 'integer', 0, 2147483647),
    (12, 'organization.created', 'fees', 'subscription_basis_points', true, 'integer', 0, 10000),
    ( 1, 'organization.updated', NULL, 'id', true, 'uuid', 0, 0),
    ( 2, 'organization.updated', NULL, 'name', false, 'name', 1, 256),
    ( 3, 'organization.updated', NULL, 'slug', false, 'text', 1, 500),
    ( 4, 'organization.updated', NULL, 'status', false, 'text', 1, 200),
    ( 1, 'organization.deleted', NULL, 'id', true, 'uuid', 0, 0),
    ( 1, 'member.added', NULL, 'organization_id', true, 'uuid', 0, 0),
    ( 2, 'member.added', NULL, 'user', true, 'object', 0, 0),
    ( 3, 'member.added', 'user', 'id', true, 'uuid', 0, 0),
    ( 4, 'member.added', 'user', 'email', true, 'email', 0, 0),
    ( 5, 'member.added', 'user', 'name', false, 'name', 0, 256),
    ( 6, 'member.added', NULL, 'role', true, 'role', 0, 0),
    ( 1, 'member.updated', NULL, 'organization_id', true, 'uuid', 0, 0),
    ( 2, 'member.updated', NULL, 'user_id', true, 'uuid', 0, 0),
    ( 3, 'member.updated', NULL, 'role', true, 'role', 0, 0),
    ( 1, 'member.removed', NULL, 'organization_id', true, 'uuid', 0, 0),
    ( 2, 'member.removed', NULL, 'user_id', true, 'uuid', 0, 0),
    ( 1, 'user.updated', NULL, 'id', true, 'uuid', 0, 0),
    ( 2, 'user.updated', NULL, 'email', false, 'email', 0, 0),
    ( 3, 'user.updated', NULL, 'name', false, 'name', 0, 256),
    ( 1, 'ownership.transferred', NULL, 'organization_id', true, 'uuid', 0, 0),
    ( 2, 'ownership.transferred', NULL, 'user_id', true, 'uuid', 0, 0),
    ( 1, 'usage.recorded', NULL, 'organization_id', true, 'uuid', 0, 0),
    ( 2, 'usage.recorded', NULL, 'quantity', true, 'integer', 1, 9007199254740991),
    ( 3, 'usage.recorded', NULL, 'recorded_at', false, 'time', 0, 0),
    ( 1, 'cost.recorded', NULL, 'organization_id', true, 'uuid', 0, 0),
    ( 2, 'cost.recorded', NULL, 'source', true, 'text', 1, 63),
    ( 3, 'cost.recorded', NULL, 'context', false, 'text', 1, 63),
    ( 4, 'cost.recorded', NULL, 'vendor', false, 'text', 1, 200),
    ( 5, 'cost.recorded', NULL, 'model', false, 'text', 1, 200),
    ( 6, 'cost.recorded', NULL, 'input_tokens', false, 'integer', 0, 9223372036854775807),
    ( 7, 'cost.recorded', NULL, 'output_tokens', false, 'integer', 0, 9223372036854775807),
    ( 8, 'cost.recorded', NULL, 'cost_usd', false, 'cost', 0, 10000000),
    ( 9, 'cost.recorded', NULL, 'usage_id', false, 'text', 1, 512)
$$;

-- Every character that Unicode calls white space.
CREATE FUNCTION polar_jobs.blanks() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT E'\u0009\u000A\u000B\u000C\u000D\u0020\u0085\u00A0\u1680\u2000\u2001\u2002\u2003\u2004\u2005'
        || E'\u2006\u2007\u2008\u2009\u200A\u2028\u2029\u202F\u205F\u3000'
$$;

-- Which rule a text breaks; null if none.
CREATE FUNCTION polar_jobs.text_fault(value text, low bigint, high bigint) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN translate(value, polar_jobs.blanks(), '') = '' AND low > 0 THEN 'must not be empty'
                WHEN char_length(value) > high THEN 'must have at most ' || high || ' characters' END
$$;

CREATE FUNCTION polar_jobs.is_email(value text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT value ~ '^[^@]+@[^@]+$' AND octet_length(value) <= 254
       AND translate(value, polar_jobs.blanks(), '') = value AND value !~ '[\u0001-\u001F\u007F-\u009F]'
$$;

CREATE FUNCTION polar_jobs.is_time(value text) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN value ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$'
       AND value::timestamptz IS NOT NULL;
EXCEPTION WHEN data_exception THEN
    RETURN false;
END $$;

-- Which rule a value breaks, in words that do not repeat the value; null if none.
CREATE FUNCTION polar_jobs.value_fault(value jsonb, rule text, low bigint, high bigint) RETURNS text
    LANGUAGE plpgsql STABLE AS $$
DECLARE
    given text := CASE WHEN jsonb_typeof(value) = 'string' THEN value #>> '{}' END;
BEGIN
    CASE rule
    WHEN 'object' THEN
        RETURN CASE WHEN jsonb_typeof(value) <> 'object' THEN 'must be an object' END;
    WHEN 'text' THEN
        RETURN CASE WHEN given IS NULL THEN 'must be text' ELSE polar_jobs.text_fault(given, low, high) END;
    WHEN 'name' THEN
        -- Polar strips names; what is left is stored, and counts.
        RETURN CASE WHEN given IS NULL THEN 'must be text'
                    ELSE polar_jobs.text_fault(btrim(given, polar_jobs.blanks()), low, high) END;
    WHEN 'uuid' THEN
        RETURN CASE WHEN given ~* '^[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}$' THEN NULL ELSE 'must be a UUID' END;
    WHEN 'email' THEN
        RETURN CASE WHEN polar_jobs.is_email(given) THEN NULL ELSE 'must be an email address of at most 254 bytes' END;
    WHEN 'role' THEN
        RETURN CASE WHEN given IN ('owner', 'admin', 'finance', 'member') THEN NULL
                    ELSE 'must be one of owner, admin, finance, member' END;
    WHEN 'time' THEN
        RETURN CASE WHEN polar_jobs.is_time(given) THEN NULL ELSE 'must be an RFC 3339 time' END;
    WHEN 'integer' THEN
        RETURN CASE WHEN jsonb_typeof(value) = 'number' AND value::text ~ '^-?[0-9]+$' AND value::numeric BETWEEN low AND high THEN NULL
                    WHEN high = 9223372036854775807 THEN 'must be an integer of at least ' || low
                    ELSE 'must be an integer from ' || low || ' to ' || high END;
    WHEN 'cost' THEN
        RETURN CASE WHEN given IS NULL THEN 'must be decimal text, such as "0.0123"'
                    WHEN octet_length(given) > 64 THEN 'must be at most 10000000 US dollars, written in at most 64 characters'
                    WHEN given !~ '^[0-9]+(\.[0-9]+)?$' THEN 'must be a plain decimal such as "0.0123": digits, no sign, no exponent'
                    WHEN round(given::numeric, 8) >= high AND given::numeric <> high
                        THEN 'must be at most 10000000 US dollars, written in at most 64 characters' END;
    END CASE;
END $$;

-- How many characters must be put in, taken out or replaced to make one text of the other.
CREATE FUNCTION polar_jobs.edit_distance(one text, other text) RETURNS integer
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    distances integer[] := ARRAY(SELECT generate_series(0, char_length(other)));
    diagonal integer;
    above integer;
BEGIN
    FOR i IN 1..char_length(one) LOOP
        diagonal := distances[1];
        distances[1] := i;
        FOR j IN 1..char_length(other) LOOP
            above := distances[j + 1];
            distances[j + 1] := least(above + 1, distances[j] + 1,
                                      diagonal + (substr(one, i, 1) <> substr(other, j, 1))::integer);
            diagonal := above;
        END LOOP;
    END LOOP;
    RETURN distances[char_length(other) + 1];
END $$;

-- What is said about a field that is none of `known`: the one of which at most half was mistyped, or all.
CREATE FUNCTION polar_jobs.unknown_field(name text, known text[]) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 'is unknown: ' || coalesce('did you mean ' || (
        SELECT near.field FROM (
            SELECT k.field, k.place, CASE WHEN char_length(name) <= 64 THEN polar_jobs.edit_distance(name, k.field) END AS distance
              FROM unnest(known) WITH ORDINALITY k (field, place)) near
         WHERE near.distance <= char_length(near.field) / 2
         ORDER BY near.distance, near.place LIMIT 1) || '?', 'known are ' || array_to_string(known, ', '))
$$;

-- The fields of a change's data, and of the objects in it, that its type does not have: the first twenty by their pointers.
CREATE FUNCTION polar_jobs.unknown_fields(type text, data jsonb) RETURNS SETOF text
    LANGUAGE sql STABLE AS $$
    SELECT unknown.pointer || ' ' || polar_jobs.unknown_field(unknown.name, unknown.known)
      FROM (SELECT '/data' || coalesce('/' || known.parent, '') || '/' || replace(replace(given.name, '~', '~0'), '/', '~1') AS pointer,
                   given.name, known.fields AS known
              FROM (SELECT f.parent, array_agg(f.field ORDER BY f.place) AS fields
                      FROM polar_jobs.change_fields() f WHERE f.change = type GROUP BY f.parent) known,
                   LATERAL (SELECT CASE WHEN known.parent IS NULL THEN data ELSE data -> known.parent END AS object) around,
                   LATERAL jsonb_object_keys(CASE WHEN jsonb_typeof(around.object) = 'object' THEN around.object ELSE '{}' END) given (name)
             WHERE given.name <> ALL (known.fields)) unknown
     ORDER BY unknown.pointer COLLATE "C" LIMIT 20
$$;

-- Every fault of a change, in the order of the fields; unknown ones come last.
CREATE FUNCTION polar_jobs.change_faults(type text, data jsonb, id text) RETURNS SETOF text
    LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_variable
BEGIN
    RETURN QUERY SELECT '/id ' || fault FROM polar_jobs.text_fault(id, 1, 512) fault WHERE fault IS NOT NULL;
    IF type IS NULL THEN
        RETURN NEXT '/type is missing';
    ELSIF NOT EXISTS (SELECT 1 FROM polar_jobs.change_fields() f WHERE f.change = type) THEN
        RETURN NEXT '/type must be one of organization.created, organization.updated, organization.deleted, '
            'member.added, member.updated, member.removed, user.updated, ownership.transferred, '
            'usage.recorded, cost.recorded';
    END IF;
    IF coalesce(jsonb_typeof(data), 'null') <> 'object' THEN
        RETURN NEXT '/data ' || CASE WHEN coalesce(jsonb_typeof(data), 'null') = 'null' THEN 'is missing'
                                     ELSE 'must be an object' END;
        RETURN;
    END IF;
    RETURN QUERY
    SELECT '/data' || coalesce('/' || given.parent, '') || '/' || given.field || ' ' || given.fault
      FROM (SELECT f.place, f.parent, f.field,
                   CASE WHEN coalesce(jsonb_typeof(around.object -> f.field), 'null') <> 'null'
                        THEN polar_jobs.value_fault(around.object -> f.field, f.rule, f.low, f.high)
                        WHEN f.required THEN 'is missing' END AS fault
              FROM polar_jobs.change_fields() f,
                   LATERAL (SELECT CASE WHEN f.parent IS NULL THEN data ELSE data -> f.parent END AS object) around
             WHERE f.change = type AND jsonb_typeof(around.object) = 'object') given
     WHERE given.fault IS NOT NULL
     ORDER BY given.place;
    RETURN QUERY SELECT polar_jobs.unknown_fields(type, data);
END $$;
