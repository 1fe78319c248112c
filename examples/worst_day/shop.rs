//! The database of the worst day: a shop of some size, the kit's sample of
//! everything PostgreSQL has, and tables made to be harmed in single bytes.

use super::kit::{Server, sample};

/// Tables whose rows the kit knows byte by byte. A name that begins with
/// `fresh` is not vacuumed: only then is pg_xact asked about its rows.
pub const VICTIMS: [&str; 4] = ["letters", "contracts", "fresh_payments", "tickets"];

/// `$` stands for the scale.
const SHOP: &str = "
    CREATE TABLE customers (id serial PRIMARY KEY, name text, email text, since date);
    INSERT INTO customers (name, email, since)
        SELECT 'Customer ' || i, md5(i::text) || '@example.org', '2015-01-01'::date + i % 3000
        FROM generate_series(1, 10000 * $) i;
    CREATE TABLE orders (id bigserial PRIMARY KEY, customer int, at timestamptz, total numeric, note text);
    INSERT INTO orders (customer, at, total, note)
        SELECT i % 10000 + 1, '2020-01-01 UTC'::timestamptz + i * interval '1 min', i / 100.0, md5(i::text)
        FROM generate_series(1, 80000 * $) i;
    CREATE TABLE order_lines (order_id bigint, line int, item int, quantity int, price numeric);
    INSERT INTO order_lines SELECT i / 3, i % 3, i % 5000, i % 7 + 1, (i % 10000) / 100.0
        FROM generate_series(1, 150000 * $) i;
    CREATE TABLE events (id bigint, at timestamptz, payload jsonb);
    INSERT INTO events SELECT i, '2020-01-01 UTC'::timestamptz + i * interval '10 s',
            jsonb_build_object('kind', 'kind ' || i % 20, 'session', md5(i::text), 'n', i)
        FROM generate_series(1, 40000 * $) i;
    CREATE TABLE stock (item int PRIMARY KEY, quantity int, shelf text);
    INSERT INTO stock SELECT i, i % 100, 'shelf ' || i % 400 FROM generate_series(1, 10000 * $) i;
    CREATE TABLE prices (item int PRIMARY KEY, price numeric, valid daterange);
    INSERT INTO prices SELECT i, i / 7.0, daterange('2020-01-01', '2021-01-01')
        FROM generate_series(1, 10000 * $) i;
    CREATE TABLE audit (id bigint, who name, what text);
    INSERT INTO audit SELECT i, 'somebody', 'did ' || md5(i::text) FROM generate_series(1, 10000 * $) i;
    CREATE UNLOGGED TABLE carts (id int, content text);
    INSERT INTO carts SELECT i, md5(i::text) FROM generate_series(1, 10000 * $) i;
    CREATE MATERIALIZED VIEW sales_by_day AS
        SELECT at::date AS day, customer % 100 AS region, sum(total) AS total FROM orders GROUP BY 1, 2;
    SELECT lo_from_bytea(0, decode(repeat(md5(i::text), 500), 'hex')) FROM generate_series(1, 60 * $) i;
    GRANT SELECT ON orders TO PUBLIC;
";

const VACUUMED: &str =
    "customers, orders, order_lines, events, stock, prices, audit, carts, sales_by_day";

pub async fn create(server: &Server, dbname: &str, scale: u32) {
    sample::create(server, dbname, 1).await;
    server.execute(dbname, &SHOP.replace('$', &scale.to_string())).await;
    server.execute(dbname, &format!("VACUUM (ANALYZE) {VACUUMED}")).await;
    server.execute(dbname, "VACUUM pg_largeobject").await;
    sample::victims(server, dbname, &VICTIMS).await;
}

pub async fn size(server: &Server, dbname: &str) -> String {
    let client = server.connect(dbname).await;
    let sql = "SELECT pg_size_pretty(pg_database_size(current_database()))";
    client.query_one(sql, &[]).await.expect("a size").get(0)
}
