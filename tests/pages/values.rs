//! Tables of values that are easy to get wrong, and of random ones.
#![allow(unreachable_pub)]

use crate::kit::flips::Random;
use std::fmt::Write as _;
use tokio_postgres::Client;

/// Rows of one table: all edges are in them.
pub const ROWS: usize = 400;

/// Of each type the values at its edges; what is random is in `random_text`.
#[rustfmt::skip]
const EDGES: &[(&str, &[&str])] = &[
    ("bool", &["t", "f"]),
    ("bytea", &["\\x", "\\x00", "\\xdeadbeef00ff", "\\x5c6e09"]),
    ("\"char\"", &["", "a", "\"", "\\", ","]),
    ("name", &["", "a name", "it's", "NULL", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"]),
    ("int8", &["0", "-9223372036854775808", "9223372036854775807"]),
    ("int2", &["0", "-32768", "32767"]),
    ("int4", &["0", "-2147483648", "2147483647"]),
    ("text", &["", "NULL", "null", "nULl ", " ", "\t", "\n", "\\N", "\\.", "a,b", "{", "}", "\"", "\\", "\\\"", "grün 日本語 🐘", "\u{1}\u{7f}\u{8}\u{b}\u{c}\r"]),
    ("oid", &["0", "4294967295", "2147483648"]),
    ("tid", &["(0,0)", "(4294967295,65535)", "(65536,1)"]),
    ("xid", &["0", "4294967295"]),
    ("cid", &["0", "4294967295"]),
    ("json", &["{}", " [1 , 2]\n", "\"\\u0041\"", "{\"a\": 1, \"a\": 2}", "null"]),
    ("point", &["(0,0)", "(-0,1e300)", "(Infinity,NaN)", "(0.1,-1e-7)"]),
    ("lseg", &["[(0,0),(1,1)]", "[(1e15,1e14),(-1.5,2)]"]),
    ("path", &["[(0,0)]", "((0,0),(1,1))", "[(0,0),(1,1),(2,0.5)]"]),
    ("box", &["(1,1),(0,0)", "(1e20,2),(-3,-4.25)"]),
    ("polygon", &["((0,0))", "((0,0),(1,1),(2,0))"]),
    ("line", &["{1,-1,0}", "{0.5,2,1e100}"]),
    ("cidr", &["10.0.0.0/8", "0.0.0.0/0", "1.2.3.4/32", "::/0", "::1/128", "2001:db8::/32", "::ffff:1.2.3.0/120", "::1.2.3.4/128"]),
    ("float4", &["0", "-0", "NaN", "Infinity", "-Infinity", "1e-45", "3.4028235e38", "1.17549435e-38", "0.1", "16777216", "100000", "1000000", "1e-4", "1e-5", "123456.7"]),
    ("float8", &["0", "-0", "NaN", "Infinity", "-Infinity", "5e-324", "1.7976931348623157e308", "2.2250738585072014e-308", "0.1", "1e23", "9007199254740993", "1e14", "1e15", "123456789012345678", "1e-4", "1e-5", "9.5367431640625e-07"]),
    ("circle", &["<(0,0),0>", "<(1.5,-2),1e10>"]),
    ("macaddr8", &["08:00:2b:01:02:03:04:05", "ff:ff:ff:ff:ff:ff:ff:ff"]),
    ("macaddr", &["08:00:2b:01:02:03", "00:00:00:00:00:00"]),
    ("inet", &["0.0.0.0", "10.1.2.3/8", "255.255.255.255/0", "::", "::/64", "1::", "::2", "1:0:0:2::3", "1:0:2:0:3:0:4:0", "0:1:1:1:1:1:1:0", "::ffff:1.2.3.4", "::1.2.3.4", "::0.0.255.1", "1:2:3:4:5:6:7:8/17", "::ffff:0:1.2.3.4", "1::1.2.3.4", "0:0:1::"]),
    ("char(8)", &["", "a", "12345678", "  x"]),
    ("varchar(40)", &["", "a", "x  "]),
    ("date", &["infinity", "-infinity", "0001-01-01", "0001-12-31 BC", "4713-01-01 BC", "4714-11-24 BC", "5874897-12-31", "10000-01-01", "2000-02-29", "1900-03-01", "1999-12-31", "0005-02-29 BC", "0004-02-28 BC"]),
    ("time", &["00:00", "24:00:00", "23:59:59.999999", "12:00:00.1", "00:00:00.00001"]),
    ("timestamp", &["infinity", "-infinity", "2000-01-01", "1999-12-31 23:59:59.999999", "4714-11-24 00:00:00 BC", "294276-12-31 23:59:59.999999", "0001-01-01 00:00:00 BC", "12345-06-07 08:09:10.5"]),
    ("timestamptz", &["infinity", "-infinity", "2000-01-01", "4714-11-24 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00", "1969-07-20 20:17:40.25+02"]),
    ("interval", &["0", "1 year", "-1 year", "1 mon -1 day", "-1 mon 1 day", "-1 day 00:00:01", "1 day -00:00:01", "-00:00:00.000001", "178000000 years", "-178000000 years", "2147483647 days", "-2147483648 days", "11 mons", "13 mons", "-13 mons 1 day", "100:00:00.5", "1 year -1 mon"]),
    ("timetz", &["00:00+00", "24:00:00-15:59:59", "12:34:56.789+15:59", "01:02:03+05:30", "01:02:03-00:00:01", "01:02:03+00:01"]),
    ("bit(13)", &["0000000000000", "1111111111111", "1000000000001"]),
    ("varbit", &["", "1", "0", "10101010", "101010101", "1111111100000000"]),
    ("numeric", &["0", "0.0000", "NaN", "-1", "1", "10000", "9999", "0.0001", "0.00001", "-0.000000000000000000001", "12345678901234567890.123456789", "1e1000", "1e-1000", "1.50", "10000.0001", "100000000", "-99999999.99990000", "1e131071", "1e-16383", "0.1", "1000000000000000000000000000.000"]),
    ("uuid", &["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"]),
    ("pg_lsn", &["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"]),
    ("tsvector", &["", "a", "'it''s' '\\\\'", "a:1A fat:2B,4C cat:5D,16383", "ünï:3 日本"]),
    ("jsonb", &["{}", "[]", "null", "true", "\"\"", "1.50", "-0", "1e400", "\"\\u00e9\\u0001\\ud83d\\udc18\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "[1, [2, [3, []]], {}]", "{\"a\": {\"b\": [null, true, false, 1e-10, \"x\"]}, \"\": 0, \"long key\": {}}", "[[[[[[[[[[1]]]]]]]]]]", "\"\\u007f\\u2028\""]),
    ("int4range", &["empty", "(,)", "[1,5)", "[-2147483648,)", "(,0)"]),
    ("numrange", &["empty", "(,)", "[1.5,2]", "(NaN,]", "(-1e400,1e400)", "[0,0]"]),
    ("tsrange", &["empty", "(,)", "[2000-01-01,infinity]", "(-infinity,4713-01-01 12:00:00.5 BC)"]),
    ("tstzrange", &["empty", "(,)", "[2000-01-01 00:00+00,)", "(,2038-01-19 03:14:07+00]"]),
    ("daterange", &["empty", "(,)", "[2000-01-01,2000-01-02)", "[infinity,)", "(,0001-01-01 BC)"]),
    ("int8range", &["empty", "(,)", "[-9223372036854775808,9223372036854775807)", "[5,6)"]),
    ("xid8", &["0", "18446744073709551615"]),
];

/// Those that not every server knows.
const SINCE: &[(u32, &str, &str)] = &[
    (14, "numeric", "Infinity"),
    (14, "numeric", "-Infinity"),
    (15, "interval", "2562047788:00:54.775807"),
    (17, "interval", "infinity"),
    (17, "interval", "-infinity"),
];

const XMLS: &[&str] = &["", "<a/>", "\n<a>&lt;</a>", "\n\n text ", "<!-- c --><b x=\"'\"/>"];

/// How much of what there can be any number of.
#[derive(Clone, Copy)]
pub struct Limits {
    words: usize,
    digits: usize,
    /// How deep a value of jsonb may be.
    depth: u32,
}

/// Values that are compressed, and out of line.
pub const LONG: Limits = Limits { words: 800, digits: 2000, depth: 4 };

/// Values of which there can be very many.
pub const SHORT: Limits = Limits { words: 12, digits: 60, depth: 2 };

/// Creates `random_values`, with a column of each known type and one of its
/// arrays; returns the types' OIDs.
pub async fn create(client: &Client, major: u32, seed: u64, limits: Limits) -> Vec<u32> {
    let mut types: Vec<(&str, Vec<&str>)> =
        EDGES.iter().map(|(name, edges)| (*name, edges.to_vec())).collect();
    for (name, edges) in &mut types {
        let since = SINCE.iter().filter(|(since, of, _)| of == name && major >= *since);
        edges.extend(since.map(|(_, _, edge)| *edge));
    }
    if client.simple_query("SELECT '<a/>'::pg_catalog.xml").await.is_ok() {
        types.push(("xml", XMLS.to_vec()));
    }
    let columns: Vec<String> = types
        .iter()
        .enumerate()
        .map(|(i, (name, _))| format!("v{i} {name}, a{i} {name}[]"))
        .collect();
    let create = format!(
        "CREATE TABLE public.random_values ({}, i int2vector, o oidvector)",
        columns.join(", ")
    );
    execute(client, &create).await;
    let mut random = Random(seed);
    let mut rows = Vec::new();
    for row in 0..ROWS {
        let mut fields: Vec<String> = Vec::new();
        for (name, edges) in &types {
            // First every edge, then anything.
            let first = match edges.get(row) {
                Some(edge) => Some((*edge).to_owned()),
                None => value(name, edges, &mut random, limits),
            };
            fields.push(literal(first.as_deref()));
            let delimiter = if *name == "box" { ';' } else { ',' };
            let array = array(delimiter, &mut random, |random| value(name, edges, random, limits));
            fields.push(literal((row % 7 != 6).then_some(&array)));
        }
        let vector: Vec<String> =
            (0..random.below(5)).map(|i| (i * row % 300).to_string()).collect();
        fields.extend([literal(Some(&vector.join(" "))), literal(Some(&vector.join(" ")))]);
        rows.push(format!("({})", fields.join(", ")));
    }
    for rows in rows.chunks(50) {
        execute(client, &format!("INSERT INTO public.random_values VALUES {}", rows.join(", ")))
            .await;
    }
    let sql = "SELECT DISTINCT atttypid FROM pg_catalog.pg_attribute
        WHERE attrelid = 'public.random_values'::pg_catalog.regclass AND attnum > 0";
    let rows = client.query(sql, &[]).await.expect("pg_attribute");
    rows.iter().map(|row| row.get(0)).collect()
}

/// NULL, an edge, or something random.
fn value(name: &str, edges: &[&str], random: &mut Random, limits: Limits) -> Option<String> {
    match random.below(6) {
        0 => None,
        1 | 2 => Some(edges[random.below(edges.len())].to_owned()),
        _ => {
            let text = random_text(name, random, limits);
            text.or_else(|| Some(edges[random.below(edges.len())].to_owned()))
        }
    }
}

fn random_text(name: &str, random: &mut Random, limits: Limits) -> Option<String> {
    let word = random.next();
    Some(match name {
        "int8" | "xid8" if word >> 63 == 0 => (word >> random.below(63)).to_string(),
        "int4" => word.to_le_bytes()[0].to_string(),
        "text" => words(random, limits),
        "bytea" => (0..random.below(300)).fold("\\x".to_owned(), |mut hex, _| {
            write!(hex, "{:02x}", random.next().to_le_bytes()[0]).expect("to a string");
            hex
        }),
        "float4" => format!(
            "{:e}",
            Some(f32::from_bits(u32::try_from(word >> 32).expect("half")))
                .filter(|v| v.is_finite())?
        ),
        "float8" => format!("{:e}", Some(f64::from_bits(word)).filter(|v| v.is_finite())?),
        "inet" => {
            let words: Vec<String> = (0..8)
                .map(|_| {
                    if random.below(2) == 0 {
                        "0".into()
                    } else {
                        format!("{:x}", random.next() & 0xFFFF >> (4 * random.below(4)))
                    }
                })
                .collect();
            format!("{}/{}", words.join(":"), random.below(129))
        }
        "uuid" => format!("{word:016x}{:016x}", random.next()),
        "date" => format!("J{}", word % 2_147_483_493),
        "time" => clock(word % 86_400_000_000),
        "timestamp" | "timestamptz" => {
            format!("J{} {}", word % 109_203_527, clock(random.next() % 86_400_000_000))
        }
        "interval" => {
            let signed = |word: u64, limit: u64| {
                i64::try_from(word % (2 * limit)).expect("small")
                    - i64::try_from(limit).expect("small")
            };
            format!(
                "{} mons {} days {} secs",
                signed(word, 40),
                signed(random.next(), 40),
                signed(random.next(), 100_000)
            )
        }
        "numeric" => {
            let longest = if random.below(20) == 0 { limits.digits } else { 30 };
            let length = 1 + random.below(longest);
            let mut digits: String =
                (0..length).map(|_| char::from(b"0000123456789"[random.below(13)])).collect();
            digits.insert(random.below(length + 1), '.');
            format!("{}{digits}0", if word & 1 == 0 { "-" } else { "" })
        }
        "varbit" => {
            (0..random.below(40)).map(|i| if word >> i & 1 == 0 { '0' } else { '1' }).collect()
        }
        "jsonb" => json(random, limits.depth, limits),
        _ => return None,
    })
}

fn clock(microseconds: u64) -> String {
    let seconds = microseconds / 1_000_000;
    format!(
        "{:02}:{:02}:{:02}.{:06}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        microseconds % 1_000_000
    )
}

fn words(random: &mut Random, limits: Limits) -> String {
    const WORDS: [&str; 9] =
        ["salvage ", "\"quoted\"", "\\", "日本", "\t", "{,}", "\n", "NULL", "x"];
    let count = if random.below(10) == 0 { limits.words } else { 8 };
    (0..random.below(count)).map(|_| WORDS[random.below(WORDS.len())]).collect()
}

fn json(random: &mut Random, depth: u32, limits: Limits) -> String {
    let string = |random: &mut Random| {
        let text = words(random, limits).replace('\\', "\\\\").replace('"', "\\\"");
        format!("\"{}\"", text.replace('\t', "\\t").replace('\n', "\\n"))
    };
    match random.below(if depth == 0 { 4 } else { 8 }) {
        0 => string(random),
        1 => random_text("numeric", random, limits)
            .unwrap_or_default()
            .replace('-', "")
            .trim_start_matches('0')
            .replace('.', "1."),
        2 => "true".to_owned(),
        3 => "null".to_owned(),
        4 | 5 => {
            // Above 32 children, some have an offset for their length.
            let count = random.below(if depth > 2 { 80 } else { 4 });
            let items: Vec<String> = (0..count).map(|_| json(random, depth - 1, limits)).collect();
            format!("[{}]", items.join(","))
        }
        _ => {
            let items: Vec<String> = (0..random.below(6))
                .map(|_| format!("{}: {}", string(random), json(random, depth - 1, limits)))
                .collect();
            format!("{{{}}}", items.join(","))
        }
    }
}

/// Of up to three dimensions, and any lower bounds.
fn array(
    delimiter: char,
    random: &mut Random,
    mut element: impl FnMut(&mut Random) -> Option<String>,
) -> String {
    let lengths: Vec<usize> = (0..random.below(4)).map(|_| 1 + random.below(3)).collect();
    if lengths.is_empty() {
        return "{}".to_owned();
    }
    let mut text = String::new();
    if random.below(2) == 0 {
        for length in &lengths {
            let lower = i64::try_from(random.below(9)).expect("small") - 4;
            write!(text, "[{lower}:{}]", lower + i64::try_from(*length).expect("small") - 1)
                .expect("to a string");
        }
        text.push('=');
    }
    braces(&lengths, delimiter, &mut text, &mut || element(random));
    text
}

fn braces(
    lengths: &[usize],
    delimiter: char,
    text: &mut String,
    element: &mut impl FnMut() -> Option<String>,
) {
    let Some((first, inner)) = lengths.split_first() else {
        match element() {
            Some(value) => write!(text, "\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
                .expect("to a string"),
            None => text.push_str("NULL"),
        }
        return;
    };
    text.push('{');
    for i in 0..*first {
        if i > 0 {
            text.push(delimiter);
        }
        braces(inner, delimiter, text, element);
    }
    text.push('}');
}

pub fn literal(value: Option<&str>) -> String {
    value.map_or("NULL".to_owned(), |value| format!("'{}'", value.replace('\'', "''")))
}

pub async fn execute(client: &Client, sql: &str) {
    if let Err(error) = client.batch_execute(sql).await {
        let sql: String = sql.chars().take(100).collect();
        panic!("{:?}\nin: {sql}", error.as_db_error().map(tokio_postgres::error::DbError::message));
    }
}
