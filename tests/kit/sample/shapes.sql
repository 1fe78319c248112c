-- Relations of every kind and shape.
CREATE TABLE by_range (id int NOT NULL, at date NOT NULL, v text) PARTITION BY RANGE (at);
CREATE TABLE by_range_2024 PARTITION OF by_range FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE by_range_2025 PARTITION OF by_range FOR VALUES FROM ('2025-01-01') TO ('2026-01-01') PARTITION BY LIST (id);
CREATE TABLE by_range_2025_odd PARTITION OF by_range_2025 FOR VALUES IN (1, 3, 5, 7, 9);
-- Its columns stand in another order than the parent's.
CREATE TABLE by_range_2025_rest (v text, at date NOT NULL, gone int, id int NOT NULL);
ALTER TABLE by_range_2025_rest DROP gone;
ALTER TABLE by_range_2025 ATTACH PARTITION by_range_2025_rest DEFAULT; -- since 11
ALTER TABLE by_range_2025 ATTACH PARTITION by_range_2025_rest FOR VALUES IN (0, 2, 4, 6, 8); -- before 11
CREATE TABLE by_range_default PARTITION OF by_range DEFAULT; -- since 11
CREATE TABLE by_range_default PARTITION OF by_range FOR VALUES FROM ('2026-01-01') TO (MAXVALUE); -- before 11
CREATE TABLE by_range_2023 PARTITION OF by_range FOR VALUES FROM (MINVALUE) TO ('2024-01-01'); -- before 11
INSERT INTO by_range SELECT i % 10, '2023-12-01'::date + i, 'v' || i FROM generate_series(1, 1000 * :scale) i;
CREATE TABLE by_hash (id int, v text) PARTITION BY HASH (id); -- since 11
CREATE TABLE by_hash_0 PARTITION OF by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 0); -- since 11
CREATE TABLE by_hash_1 PARTITION OF by_hash FOR VALUES WITH (MODULUS 2, REMAINDER 1); -- since 11
INSERT INTO by_hash SELECT i, 'h' || i FROM generate_series(1, 100) i; -- since 11
CREATE TABLE no_partitions (id int) PARTITION BY RANGE (id);

CREATE TABLE parent (id int, v text);
CREATE TABLE child (extra text) INHERITS (parent);
CREATE TABLE grandchild () INHERITS (child);
INSERT INTO parent SELECT i, 'parent' FROM generate_series(1, 20) i;
INSERT INTO child SELECT i, 'child', 'more' FROM generate_series(1, 20) i;
INSERT INTO grandchild SELECT i, 'grandchild', 'most' FROM generate_series(1, 20) i;

CREATE TABLE zero_columns ();
INSERT INTO zero_columns SELECT FROM generate_series(1, 25);
CREATE TABLE empty (id int, t text);
CREATE TABLE with_oids (id int, oid_of_other oid, t text) WITH OIDS; -- before 12
INSERT INTO with_oids SELECT i, 7, 't' || i FROM generate_series(1, 100) i; -- before 12
CREATE TABLE with_nothing_but_oids () WITH OIDS; -- before 12
INSERT INTO with_nothing_but_oids SELECT FROM generate_series(1, 10); -- before 12
CREATE UNLOGGED TABLE unlogged (id int, t text);
INSERT INTO unlogged SELECT i, 'u' || i FROM generate_series(1, 100) i;
DO $$ BEGIN
    EXECUTE 'CREATE TABLE columns_1600 (' || (SELECT string_agg('c' || i || ' "char"', ', ') FROM generate_series(1, 1600) i) || ')';
    EXECUTE 'INSERT INTO columns_1600 SELECT ' || (SELECT string_agg(CASE WHEN i % 9 = 0 THEN 'NULL' ELSE '''' || chr(65 + i % 26) || '''' END, ', ') FROM generate_series(1, 1600) i) || ' FROM generate_series(1, 3)';
END $$;

CREATE MATERIALIZED VIEW matview AS SELECT id, v FROM by_range WHERE id < 5;
CREATE INDEX ON matview (id);
CREATE MATERIALIZED VIEW matview_no_data AS SELECT 1 AS one WITH NO DATA;
CREATE VIEW a_view AS SELECT id FROM by_range;
CREATE VIEW a_broken_view AS SELECT 1 / (id - id) AS never FROM parent;
CREATE FOREIGN DATA WRAPPER no_handler;
CREATE SERVER nowhere FOREIGN DATA WRAPPER no_handler;
CREATE FOREIGN TABLE foreign_table (id int, t text) SERVER nowhere;

CREATE TABLE row_security (owner name, secret text);
INSERT INTO row_security SELECT CASE WHEN i % 2 = 0 THEN 'postgres' ELSE 'somebody' END, 's' || i FROM generate_series(1, 20) i;
ALTER TABLE row_security ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON row_security USING (owner = current_user);
CREATE TABLE row_security_forced (LIKE row_security);
INSERT INTO row_security_forced SELECT * FROM row_security;
ALTER TABLE row_security_forced ENABLE ROW LEVEL SECURITY;
ALTER TABLE row_security_forced FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON row_security_forced USING (owner = current_user);

-- Large objects: of several pages, with a hole, empty, of one byte.
SELECT lo_from_bytea(900001, decode(repeat('0123456789abcdef', 1000), 'hex'));
SELECT lo_from_bytea(900002, '\x61');
SELECT lo_put(900002, 10240, '\x7a7a7a');
SELECT lo_create(900003);
SELECT lo_from_bytea(900004, '\x00');
COMMENT ON LARGE OBJECT 900001 IS 'of several pages';
