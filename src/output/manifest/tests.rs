use serde_json::{Value, json};

use super::*;
use crate::output::ContentHash;
use crate::output::schema_checks::{assert_exact, assert_kept, assert_refused, validator};

fn schema() -> jsonschema::Validator {
    validator(include_str!("../../../docs/manifest.schema.json"))
}

/// With every field there is, so that the schema knows them all.
fn full() -> Manifest {
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    let relations = vec![table(), sequence(), large_objects()];
    Manifest {
        format_version: FORMAT_VERSION,
        tool: Tool { name: "pg_salvage".into(), version: "0.1.0".into() },
        started: time("2026-03-01T10:00:00Z"),
        resumed: vec![time("2026-03-01T11:00:00Z")],
        finished: Some(time("2026-03-01T10:00:01.5Z")),
        status: RunStatus::Damaged,
        exit_code: 2,
        server: Server {
            version_num: 150_018,
            version: "15.18".into(),
            host: "/var/run/postgresql".into(),
            port: Some(5432),
            in_recovery: false,
            data_checksums: Some(true),
            block_size: 8192,
            encoding: "UTF8".into(),
            system_identifier: Some("7345912345678901234".into()),
            wal: Some(Wal {
                before: "0/16B3740".into(),
                after: "0/16B5740".into(),
                bytes: 8192,
                transactions: Some(0),
            }),
            system_indexes_ignored: true,
        },
        database: Database {
            name: "caf\u{fffd}".into(),
            name_hex: Some("636166e9".into()),
            oid: 16_384,
            encoding: "SQL_ASCII".into(),
        },
        snapshots: vec![Snapshot {
            number: 1,
            id: "00000003-0000001B-1".into(),
            taken_at: time("2026-03-01T10:00:00Z"),
            in_recovery: false,
            same_as: 1,
        }],
        options: [("jobs".to_owned(), json!(4)), ("compress".to_owned(), json!("zstd"))].into(),
        warnings: vec!["data checksums are off".into()],
        catalogs: vec![Catalog {
            name: "pg_class".into(),
            to_its_end: true,
            lost: vec![Lost { first_block: Some(3), last_block: Some(3), ..lost("invalid page") }],
        }],
        schema: Some(Schema {
            source: SchemaSource::Own,
            client: Some("18.4".into()),
            reason: Some("no pg_dump was found".into()),
            files: vec!["schema/pre-data.sql".into(), "toc.dat".into()],
            lost: vec![LostObject {
                kind: "FUNCTION".into(),
                name: "public.f(integer)".into(),
                message: "missing chunk number 0".into(),
            }],
            notes: vec!["comments are left out".into()],
            large_objects: Some(ArchivedLargeObjects {
                folder: "blobs".into(),
                count: 2,
                left_out: 1,
            }),
        }),
        totals: Totals::of(&relations),
        relations,
    }
}

fn empty(oid: u32, name: &str, kind: RelationKind) -> Relation {
    Relation {
        oid,
        schema: "public".into(),
        schema_hex: None,
        name: name.into(),
        name_hex: None,
        kind,
        persistence: Persistence::Permanent,
        relfilenode: None,
        status: RelationStatus::Clean,
        reason: None,
        snapshots: vec![1],
        columns: vec![],
        columns_left_out: vec![],
        rows: Rows::default(),
        content_hash: None,
        blocks: Blocks::default(),
        files: vec![],
        lost: vec![],
        lost_omitted: 0,
        lost_keys: None,
        errors: None,
        map: None,
        pages: None,
        sequence: None,
        large_objects: None,
        advice: vec![],
        read: None,
    }
}

fn lost(message: &str) -> Lost {
    Lost {
        first_block: None,
        last_block: None,
        ctid: None,
        column: None,
        cause: "damage".into(),
        sqlstate: Some("XX001".into()),
        message: message.into(),
    }
}

fn table() -> Relation {
    Relation {
        schema_hex: Some("70".into()),
        name_hex: Some("74".into()),
        persistence: Persistence::Unlogged,
        relfilenode: Some("base/16384/16385".into()),
        status: RelationStatus::Salvaged,
        reason: Some("1 of 10 blocks could not be read".into()),
        columns: vec![Column {
            name: "id".into(),
            name_hex: Some("6964".into()),
            type_name: "integer".into(),
            attnum: 1,
        }],
        columns_left_out: vec![ColumnLeftOut { name: "twice".into(), why: "generated".into() }],
        rows: Rows { clean: 900, suspect: 3, partial: 1, oversize: 1 },
        content_hash: Some(ContentHash::of_row(b"1")),
        blocks: Blocks { total: 10, clean: 8, damaged: 1, lost: 1 },
        files: vec![FileEntry {
            class: RowClass::Clean,
            path: "data/public.t.copy.zst".into(),
            rows: 900,
            bytes: 1234,
            sha256: "0123456789abcdef".repeat(4),
        }],
        lost: vec![
            Lost { first_block: Some(7), last_block: Some(7), ..lost("invalid page in block 7") },
            Lost {
                ctid: Some("(8,3)".into()),
                column: Some("note".into()),
                ..lost("missing chunk number 0")
            },
        ],
        lost_omitted: 5,
        lost_keys: Some(LostKeys {
            path: Some("data/public.t.lost-keys.csv".into()),
            sql: Some("data/public.t.lost-keys.sql".into()),
            rows: 3,
            certain: 2,
            omitted: 1,
            notes: vec!["index \"t_pkey\" could not be read".into()],
        }),
        errors: Some(Errors { path: Some("errors/public.t.csv".into()), count: 12 }),
        map: Some("maps/public.t.map".into()),
        pages: Some(Pages { folder: "pages/public.t".into(), count: 2, omitted: 1 }),
        advice: vec!["restore block 7 from a backup".into()],
        ..empty(16_385, "t", RelationKind::Table)
    }
}

fn sequence() -> Relation {
    let sequence = Sequence {
        last_value: i64::MAX,
        is_called: true,
        derived: true,
        start: Some(1),
        increment: Some(-1),
        min: Some(i64::MIN),
        max: Some(i64::MAX),
        cycle: Some(false),
    };
    Relation { sequence: Some(sequence), ..empty(16_390, "s", RelationKind::Sequence) }
}

fn large_objects() -> Relation {
    let missing = vec![MissingPages { loid: 20_000, first_page: 1, last_page: 2 }];
    Relation {
        large_objects: Some(LargeObjects { count: 2, pages: 40, missing }),
        ..empty(2613, "pg_largeobject", RelationKind::LargeObjects)
    }
}

#[test]
fn a_manifest_with_every_field_keeps_to_the_schema() {
    assert_kept(&schema(), &full().to_json());
}

#[test]
fn a_manifest_of_an_unfinished_run_keeps_to_the_schema() {
    let mut manifest = full();
    manifest.finished = None;
    manifest.server.port = None;
    manifest.relations = vec![empty(1, "t", RelationKind::View)];
    let json: Value = serde_json::from_str(&manifest.to_json()).unwrap();
    assert!(schema().is_valid(&json));
    assert!(json.get("finished").is_none());
}

#[test]
fn the_schema_refuses_what_is_not_promised() {
    let breaks: [(&str, Value); 14] = [
        ("/format_version", json!(2)),
        ("/status", json!("fine")),
        ("/started", json!("yesterday")),
        ("/exit_code", json!("2")),
        ("/server", json!({})),
        ("/totals/rows", json!({"clean": 1, "suspect": 2})),
        ("/relations/0/oid", json!(-1)),
        ("/relations/0/kind", json!("index")),
        ("/relations/0/files/0/sha256", json!("0123")),
        ("/relations/0/files/0/class", json!("lost")),
        ("/relations/0/lost/0/last_block", json!(null)),
        ("/relations/0/lost/1/ctid", json!("8,3")),
        ("/relations/0/rows/clean", json!(1.5)),
        ("/relations/2/large_objects/missing", json!({})),
    ];
    assert_refused(&schema(), &full().to_json(), breaks);
}

#[test]
fn the_schema_knows_exactly_the_fields_that_are_written() {
    let is_place = |pointer: &str, name: &str| {
        pointer.contains("/lost/") && ["first_block", "last_block"].contains(&name)
    };
    let is_read = |json: &[u8]| Manifest::from_json(json).is_ok();
    assert_exact(&schema(), &full().to_json(), &["/options"], is_place, is_read);
}

#[test]
fn a_manifest_is_read_back_as_it_was_written() {
    let manifest = full();
    let json = manifest.to_json();
    assert_eq!(Manifest::from_json(json.as_bytes()).unwrap(), manifest);
    assert_eq!(Manifest::from_json(json.as_bytes()).unwrap().to_json(), json);
}

#[test]
fn a_manifest_of_another_version_is_refused_as_such() {
    let error = Manifest::from_json(br#"{"format_version": 2}"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the manifest has format version 2, and this program reads version 1"
    );
}

#[test]
fn totals_are_sums() {
    let totals = Totals::of(&[table(), table(), sequence()]);
    assert_eq!(totals.relations, RelationCounts { clean: 1, salvaged: 2, ..Default::default() });
    assert_eq!(totals.rows, Rows { clean: 1800, suspect: 6, partial: 2, oversize: 2 });
    assert_eq!(totals.blocks, Blocks { total: 20, clean: 16, damaged: 2, lost: 2 });
    assert_eq!(totals.bytes, 2468);
}

#[test]
fn a_name_that_is_not_utf8_keeps_its_bytes() {
    assert_eq!(lossy("café".as_bytes()), ("café".into(), None));
    assert_eq!(lossy(b"caf\xe9"), ("caf\u{fffd}".into(), Some("636166e9".into())));
}

/// A manifest may come from anybody: what it names is read.
#[test]
fn a_path_that_leads_out_of_the_dump_directory_is_refused() {
    type Put = fn(&mut Manifest, String);
    let places: [(&str, Put); 8] = [
        ("a file", |m, path| m.relations[0].files[0].path = path),
        ("keys", |m, path| m.relations[0].lost_keys.as_mut().unwrap().path = Some(path)),
        ("statements", |m, path| m.relations[0].lost_keys.as_mut().unwrap().sql = Some(path)),
        ("errors", |m, path| m.relations[0].errors.as_mut().unwrap().path = Some(path)),
        ("the map", |m, path| m.relations[0].map = Some(path)),
        ("pages", |m, path| m.relations[0].pages.as_mut().unwrap().folder = path),
        ("the schema", |m, path| m.schema.as_mut().unwrap().files[0] = path),
        ("large objects", |m, path| {
            let objects = m.schema.as_mut().unwrap().large_objects.as_mut();
            objects.unwrap().folder = path;
        }),
    ];
    let outside =
        ["../x", "/etc/passwd", "data/../../x", "data/..", "..", "./data/x", ".", "", "/"];
    for (place, put) in places {
        for path in outside {
            let mut manifest = full();
            put(&mut manifest, path.to_owned());
            let error = Manifest::from_json(manifest.to_json().as_bytes()).unwrap_err().to_string();
            let expected =
                format!("it names {path:?}, which is no path inside of the dump directory");
            assert_eq!(error, expected, "{place}");
        }
        let mut manifest = full();
        put(&mut manifest, "data/..x/a...b".to_owned());
        assert!(Manifest::from_json(manifest.to_json().as_bytes()).is_ok(), "{place}");
    }
}
