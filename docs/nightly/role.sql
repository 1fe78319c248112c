-- The role of the nightly check, with the least rights that it needs.
-- psql -d DATABASE -f role.sql, as a superuser, in every database and in
-- template1 (new databases then have it), since rights to functions are of one
-- database; may be run again.

DO $$
BEGIN
    CREATE ROLE salvage LOGIN CONNECTION LIMIT 16;
EXCEPTION WHEN duplicate_object THEN
    NULL;
END
$$;

-- Rows. Before PostgreSQL 14 there is no such role: GRANT USAGE ON SCHEMA and
-- GRANT SELECT ON ALL TABLES IN SCHEMA do it, schema by schema, and
-- pg_catalog.pg_largeobject is to be granted, too.
GRANT pg_read_all_data TO salvage;

-- Rows of tables with row-level security. Without it they are reported as not
-- read.
ALTER ROLE salvage BYPASSRLS;

-- Pages: the files of the server, which hold all rows of all databases.
GRANT EXECUTE ON FUNCTION
    pg_catalog.pg_ls_dir(text, boolean, boolean),
    pg_catalog.pg_stat_file(text, boolean),
    pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean)
    TO salvage;

-- amcheck, where the extension is there.
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN
        SELECT d.objid FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid AND e.extname = 'amcheck'
        WHERE d.classid = 'pg_catalog.pg_proc'::regclass
            AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO salvage', f);
        EXECUTE format('GRANT USAGE ON SCHEMA %s TO salvage',
            (SELECT pronamespace::regnamespace FROM pg_catalog.pg_proc WHERE oid = f));
    END LOOP;
END
$$;
