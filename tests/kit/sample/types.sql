-- Every common type, with the values that are easy to get wrong.
CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'very "happy", \ really');
CREATE TYPE place AS (street text, number int, at point);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TYPE textrange AS RANGE (subtype = text);
CREATE DOMAIN jsonpath AS text; -- before 12

CREATE TABLE all_types (
    id int PRIMARY KEY,
    a_smallint smallint, a_int int, a_bigint bigint, a_numeric numeric, a_numeric_10_2 numeric(10, 2),
    a_real real, a_double double precision, a_bool boolean, a_char "char", a_char_8 char(8),
    a_varchar varchar(40), a_text text, a_name name, a_bytea bytea, a_json json, a_jsonb jsonb,
    a_uuid uuid, a_date date, a_time time, a_timetz timetz, a_timestamp timestamp,
    a_timestamptz timestamptz, a_interval interval, a_inet inet, a_cidr cidr, a_macaddr macaddr,
    a_macaddr8 macaddr8, a_mood mood, a_place place, a_positive positive, ints int[],
    texts text[][], moods mood[], places place[], a_int4range int4range, a_numrange numrange,
    a_tstzrange tstzrange, a_textrange textrange, a_bit bit(5), a_varbit bit varying, a_money money,
    a_point point, a_line line, a_lseg lseg, a_box box, a_path path, a_polygon polygon,
    a_circle circle, a_tsvector tsvector, a_tsquery tsquery, a_oid oid, a_regclass regclass,
    a_tid tid, a_xid xid, a_pg_lsn pg_lsn, a_jsonpath jsonpath, a_int2vector int2vector
);
INSERT INTO all_types
SELECT i, i % 30000, i, i * 4000000000, i / 7.0, i / 3.0, i / 7.0::real, i / 7.0::float8, i % 2 = 0,
    chr(65 + i % 26)::"char", 'c' || i, 'varchar ' || i, repeat('text ' || i || ' ', i % 50),
    'name' || i, decode(md5(i::text), 'hex'), json_build_object('k', i, 'v', 'a "quoted" \ value'),
    jsonb_build_object('k', i, 'list', jsonb_build_array(1, NULL, 'x')), md5(i::text)::uuid,
    '2000-01-01'::date + i, '00:00'::time + i * interval '1 s', '12:00+02'::timetz,
    '2000-01-01'::timestamp + i * interval '1 hour', '2000-01-01 UTC'::timestamptz + i * interval '61 min',
    i * interval '1 day 3 hours 4.5 s', ('10.0.' || i % 256 || '.1/24')::inet, '10.1.0.0/16',
    '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05',
    (enum_range(NULL::mood))[1 + i % 3], ROW ('Main "St", (\)', i, point(i, -i))::place, i + 1,
    ARRAY[i, NULL, -i], ARRAY[['a,b', '{"x"}'], [NULL, '\']], ARRAY['sad', 'it''s ok']::mood[],
    ARRAY[ROW ('s', i, NULL)::place], int4range(i, i + 10), numrange(i, NULL, '()'),
    tstzrange('2000-01-01 UTC', NULL), textrange('a', 'b"c'), (i % 32)::bit(5), (i % 8)::bit(3),
    i::money, point(i, i / 3.0), '{1,2,3}', '[(0,0),(1,1)]', '((0,0),(1,1))', '[(0,0),(1,1),(2,0)]',
    '((0,0),(1,1),(2,0))', '<(0,0),5>', to_tsvector('simple', 'a fat cat ' || i), 'fat & (cat | rat)', i,
    'pg_class', '(1,2)', '7', '16/B374D848', '$.a[*] ? (@ > 1)', '1 2 3'
FROM generate_series(1, 300 * :scale) i;
INSERT INTO all_types (id) VALUES (0);
INSERT INTO all_types (id, a_numeric, a_real, a_double, a_text, a_date, a_timestamp, a_timestamptz, a_interval, ints)
VALUES (-1, 'NaN', 'NaN', 'NaN', '', 'infinity', 'infinity', 'infinity', '-178000000 years', '{}'),
    (-2, 1e1000, 'Infinity', '-Infinity', '\N', '-infinity', '-infinity', '-infinity', '0', '[-1:1]={1,2,3}'),
    (-3, -0.000000000000000000001, '-0', '-0', '\.', '0001-01-01 BC', '294276-12-31', '4713-01-02 BC UTC', '1 mon -1 day', NULL),
    (-4, 0.1, 1e-45, 5e-324, E'tab\there', '5874897-12-31', NULL, NULL, NULL, NULL),
    (-5, NULL, 3.4028235e38, 1.7976931348623157e308, E'line\nfeed', NULL, NULL, NULL, NULL, NULL),
    (-6, NULL, 0.1, 0.1, E'carriage\rreturn\r\n', NULL, NULL, NULL, NULL, NULL),
    (-7, NULL, NULL, NULL, E'back\\slash\\', NULL, NULL, NULL, NULL, NULL),
    (-8, NULL, NULL, NULL, E'\b\f\v\x01\x7f', NULL, NULL, NULL, NULL, NULL),
    (-9, NULL, NULL, NULL, 'grün 日本語 🐘 é', NULL, NULL, NULL, NULL, NULL);

CREATE TABLE null_or_empty (a text, b text, c text);
INSERT INTO null_or_empty VALUES ('', NULL, '\N'), (NULL, '', 'NULL'), (NULL, NULL, NULL), ('\N', '\\N', ''), (' ', E'\t', E'\n');

-- Values of every way of storage: short, plain, compressed in place, out of
-- line, compressed out of line.
CREATE TABLE wide (id int PRIMARY KEY, plain text, compressed text, external text, mixed text, kept bytea);
ALTER TABLE wide ALTER plain SET STORAGE PLAIN, ALTER external SET STORAGE EXTERNAL, ALTER kept SET STORAGE MAIN;
INSERT INTO wide
SELECT i, repeat('p', i % 200), repeat('compressible ', 20 * (i % 20)),
    (SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 20 * (i % 25)) j),
    (SELECT string_agg(md5(i::text || j / 2), '') FROM generate_series(1, 30 * (i % 20)) j),
    decode(repeat('00ff5c', 100 * (i % 5)), 'hex')
FROM generate_series(1, 100 * :scale) i;
