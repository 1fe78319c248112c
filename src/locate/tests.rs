use super::entry::Entries;
use super::group::{Group, Groups, Subject};
use super::path::Geometry;
use super::wording::{self, Kind, Saying};

fn groups(text: &[u8]) -> Vec<Group> {
    let mut groups = Groups::new(Geometry::default(), |state| state.starts_with("XX"));
    let mut entries = Entries::default();
    super::lines::each_line(text, |line| entries.take(line, &mut |entry| groups.add(entry)))
        .expect("it is in memory");
    entries.end(&mut |entry| groups.add(entry));
    groups.end().0
}

/// The words of 9.6 to 18, as the binaries of 10 to 18 have them.
#[test]
fn each_wording_is_understood() {
    use Kind::*;
    let path = |path: &str| Saying { path: Some(path.to_owned()), ..Saying::default() };
    let at = |p: &str, first, last| Saying { blocks: Some((first, last)), ..path(p) };
    let why = |saying, why: &str| Saying { why: Some(why.to_owned()), ..saying };
    let of = |relation: &str| Saying { relation: Some(relation.to_owned()), ..Saying::default() };
    let value = |v, relation| Saying { value: Some(v), ..of(relation) };
    let xid = |xid| Saying { xid: Some(xid), ..Saying::default() };
    let file = "base/16384/99454";
    let table: Vec<(&str, Kind, Saying)> = vec![
        (
            "invalid page in block 335458 of relation base/16384/99454",
            InvalidPage,
            at(file, 335_458, 335_458),
        ),
        ("invalid page in block 7 of relation \"base/16384/99454\"", InvalidPage, at(file, 7, 7)),
        (
            "invalid page in block 7 of relation base/16384/t3_5; zeroing out page",
            InvalidPage,
            at("base/16384/t3_5", 7, 7),
        ),
        (
            "invalid page in block 7 of relation \"global/1262\"; zeroing out page",
            InvalidPage,
            at("global/1262", 7, 7),
        ),
        (
            "2 invalid pages among blocks 991..1006 of relation \"base/16384/99454\"",
            InvalidPage,
            Saying { among: Some(2), ..at(file, 991, 1006) },
        ),
        (
            "zeroing out 2 invalid pages among blocks 1..16 of relation \"base/16384/99454\"",
            InvalidPage,
            Saying { among: Some(2), ..at(file, 1, 16) },
        ),
        (
            "zeroing 3 page(s) and ignoring 1 checksum failure(s) among blocks 1..16 of relation \"base/16384/99454\"",
            InvalidPage,
            Saying { among: Some(3), ..at(file, 1, 16) },
        ),
        (
            "ignoring checksum failure in block 4 of relation \"base/16384/99454\"",
            ChecksumFailure,
            at(file, 4, 4),
        ),
        (
            "ignoring 2 checksum failures among blocks 1..16 of relation \"base/16384/99454\"",
            ChecksumFailure,
            Saying { among: Some(2), ..at(file, 1, 16) },
        ),
        (
            "page verification failed, calculated checksum 60981 but expected 16926",
            ChecksumFailure,
            Saying { checksums: Some((60981, 16926)), ..Saying::default() },
        ),
        (
            "checksum verification failed in file \"./base/16384/99454.2\", block 73314: calculated 1A2B but expected 3C",
            ChecksumFailure,
            Saying {
                within_segment: true,
                checksums: Some((0x1A2B, 0x3C)),
                ..at("./base/16384/99454.2", 73_314, 73_314)
            },
        ),
        (
            "checksum verification failed in file \"/srv/my data/base/16384/99454\", block 5: calculated checksum 1A2B but block contains 3C",
            ChecksumFailure,
            Saying {
                within_segment: true,
                checksums: Some((0x1A2B, 0x3C)),
                ..at("/srv/my data/base/16384/99454", 5, 5)
            },
        ),
        (
            "could not read block 172 in file \"base/16384/99454\": read only 0 of 8192 bytes",
            ReadFailed,
            why(at(file, 172, 172), "read only 0 of 8192 bytes"),
        ),
        (
            "could not read block 131080 in file \"base/16384/99454.1\": Input/output error",
            ReadFailed,
            why(at("base/16384/99454.1", 131_080, 131_080), "Input/output error"),
        ),
        (
            "could not read blocks 5..7 in file \"base/16384/99454\": Input/output error",
            ReadFailed,
            why(at(file, 5, 7), "Input/output error"),
        ),
        (
            "could not read blocks 172..172 in file \"pg_tblspc/16400/PG_17_202406281/5/16468\": read only 0 of 8192 bytes",
            ReadFailed,
            why(
                at("pg_tblspc/16400/PG_17_202406281/5/16468", 172, 172),
                "read only 0 of 8192 bytes",
            ),
        ),
        (
            "could not write block 5 in file \"base/16384/99454\": Input/output error",
            WriteFailed,
            why(at(file, 5, 5), "Input/output error"),
        ),
        (
            "could not fsync file \"base/16384/99454.1\": Input/output error",
            WriteFailed,
            why(path("base/16384/99454.1"), "Input/output error"),
        ),
        (
            "could not open file \"base/16384/99454\": No such file or directory",
            MissingFile,
            why(path(file), "No such file or directory"),
        ),
        (
            "could not open file \"base/16384/99454.1\" (target block 131072): previous segment is only 5 blocks",
            MissingFile,
            why(at("base/16384/99454.1", 131_072, 131_072), "previous segment is only 5 blocks"),
        ),
        (
            "unexpected data beyond EOF in block 9 of relation base/16384/99454",
            BeyondEof,
            at(file, 9, 9),
        ),
        ("page 5 of relation base/16384/99454 does not exist", WalInvalidPages, at(file, 5, 5)),
        ("WAL contains references to invalid pages", WalInvalidPages, Saying::default()),
        (
            "missing chunk number 0 for toast value 16999 in pg_toast_16500",
            MissingChunk,
            value(16_999, "pg_toast_16500"),
        ),
        (
            "unexpected chunk number 2 (expected 1) for toast value 16999 in pg_toast_16500",
            UnexpectedChunk,
            value(16_999, "pg_toast_16500"),
        ),
        (
            "unexpected chunk number -2 (out of range 0..3) for toast value 16999 in pg_toast_16500",
            UnexpectedChunk,
            value(16_999, "pg_toast_16500"),
        ),
        (
            "unexpected chunk size 10 (expected 1996) in chunk 0 of 4 for toast value 16999 in pg_toast_16500",
            UnexpectedChunk,
            value(16_999, "pg_toast_16500"),
        ),
        (
            "unexpected chunk size 10 (expected 1996) in final chunk 3 for toast value 16999 in pg_toast_16500 when fetching slice",
            UnexpectedChunk,
            value(16_999, "pg_toast_16500"),
        ),
        (
            "could not access status of transaction 3221225472",
            TransactionStatus,
            xid(3_221_225_472),
        ),
        (
            "MultiXactId 146961 has not been created yet -- apparent wraparound",
            MultiXact,
            xid(146_961),
        ),
        ("MultiXactId 7 does no longer exist -- apparent wraparound", MultiXact, xid(7)),
        ("invalid MultiXactId: 4294967295", MultiXact, xid(u32::MAX)),
        ("found xmin 7 from before relfrozenxid 700", FrozenXid, xid(7)),
        ("found multixact 7 from before relminmxid 700", FrozenXid, xid(7)),
        ("uncommitted xmin 7 from before xid cutoff 9 needs to be frozen", FrozenXid, xid(7)),
        (
            "index \"orders_pkey\" contains unexpected zero page at block 5",
            IndexDamage,
            Saying { blocks: Some((5, 5)), ..of("orders_pkey") },
        ),
        (
            "index \"orders_pkey\" contains corrupted page at block 5",
            IndexDamage,
            Saying { blocks: Some((5, 5)), ..of("orders_pkey") },
        ),
        ("index \"orders_pkey\" is not a btree", IndexDamage, of("orders_pkey")),
        (
            "could not find left sibling of block 5 in index \"orders_pkey\"",
            IndexDamage,
            Saying { blocks: Some((5, 5)), ..of("orders_pkey") },
        ),
        (
            "right sibling's left-link doesn't match: block 5 links to 6 instead of expected 7 in index \"orders_pkey\"",
            IndexDamage,
            of("orders_pkey"),
        ),
        ("failed to re-find tuple within index \"orders_pkey\"", IndexDamage, of("orders_pkey")),
        (
            "failed to re-find parent key in index \"orders_pkey\" for deletion target page 5",
            IndexDamage,
            of("orders_pkey"),
        ),
        ("bad magic number in sequence \"s\": 0000DEAD", SequenceDamage, of("s")),
        ("compressed data is corrupted", CompressedData, Saying::default()),
        ("compressed pglz data is corrupt", CompressedData, Saying::default()),
        ("compressed lz4 data is corrupt", CompressedData, Saying::default()),
        (
            "corrupted page pointers: lower = 1, upper = 2, special = 3",
            PagePointers,
            Saying::default(),
        ),
        ("corrupted item pointer: offset = 1, size = 2", PagePointers, Saying::default()),
        (
            "invalid memory alloc request size 18446744073709551613",
            AllocSize,
            Saying { size: Some(18_446_744_073_709_551_613), ..Saying::default() },
        ),
        ("could not locate a valid checkpoint record", NoCheckpoint, Saying::default()),
        ("could not locate a valid checkpoint record at 0/1E8", NoCheckpoint, Saying::default()),
        ("could not locate required checkpoint record at 0/1E8", NoCheckpoint, Saying::default()),
        (
            "server process (PID 71) was terminated by signal 11: Segmentation fault",
            Crash,
            Saying { signal: Some(11), ..why(of("server process"), "Segmentation fault") },
        ),
        (
            "background worker \"parallel worker\" (PID 71) was terminated by signal 6: Aborted",
            Crash,
            Saying {
                signal: Some(6),
                ..why(of("background worker \"parallel worker\""), "Aborted")
            },
        ),
        (
            "server process (PID 71) was terminated by signal 9: Killed",
            Crash,
            Saying { signal: Some(9), ..why(of("server process"), "Killed") },
        ),
    ];
    for (message, kind, saying) in table {
        assert_eq!(wording::saying(message.as_bytes()), Some((kind, saying)), "{message}");
    }
}

#[test]
fn what_is_no_damage_is_not_taken_for_it() {
    for message in [
        "",
        "invalid page",
        "could not open file \"base/5/16468\": Permission denied",
        "could not open file \"base/5/16468\": Too many open files in system",
        "could not open file \"pg_wal/000000010000000000000001\": No such file or directory",
        "could not write block 5 in file \"base/5/16468\": No space left on device",
        "could not extend file \"base/5/16468\": No space left on device",
        "server process (PID 71) was terminated by signal 15: Terminated",
        "statement: select 'invalid page in block 5 of relation base/1/2'",
        "invalid input syntax for type integer: \"ERROR:  invalid page in block 5 of relation base/1/2\"",
    ] {
        assert_eq!(wording::saying(message.as_bytes()), None, "{message}");
    }
}

#[test]
fn checksums_go_to_the_page_that_the_same_process_names_next() {
    let log = b"2026-01-01 00:00:02 UTC [1] LOG:  page verification failed, calculated checksum 10 but expected 11
2026-01-01 00:00:02 UTC [2] LOG:  page verification failed, calculated checksum 20 but expected 21
2026-01-01 00:00:03 UTC [1] LOG:  invalid page in block 100 of relation \"base/5/16384\"
2026-01-01 00:00:01 UTC [2] LOG:  invalid page in block 101 of relation \"base/5/16384\"
2026-01-01 00:00:04 UTC [2] LOG:  page verification failed, calculated checksum 30 but expected 31
2026-01-01 00:00:04 UTC [2] LOG:  invalid page in block 104 of relation \"base/5/16384\"
2026-01-01 00:00:04 UTC [3] b@d ERROR:  3 invalid pages among blocks 95..110 of relation \"base/5/16384\"
2026-01-01 00:00:04 UTC [3] b@d DETAIL:  Block 100 held the first invalid page.
2026-01-01 00:00:04 UTC [3] b@d ERROR:  2 invalid pages among blocks 195..210 of relation \"base/5/16384\"
2026-01-01 00:00:04 UTC [3] b@d DETAIL:  Block 200 held the first invalid page.
";
    let found = groups(log);
    let [group] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(group.blocks.ranges().collect::<Vec<_>>(), [(100, 101), (104, 104), (200, 200)]);
    assert_eq!(group.among.iter().copied().collect::<Vec<_>>(), [(195, 210, 2)]);
    assert_eq!(
        group.checksums.clone().into_iter().collect::<Vec<_>>(),
        [(100, (10, 11)), (101, (20, 21)), (104, (30, 31))]
    );
    assert_eq!(
        (group.first.as_deref(), group.last.as_deref()),
        (Some("2026-01-01 00:00:01 UTC"), Some("2026-01-01 00:00:04 UTC"))
    );
    assert_eq!((group.count(), group.databases.iter().next().map(String::as_str)), (5, Some("d")));
}

#[test]
fn what_names_no_file_is_grouped_by_what_it_names() {
    let log = br#"[1] ERROR:  could not access status of transaction 3221225472
[1] DETAIL:  Could not open file "pg_xact/0C00": No such file or directory.
[1] ERROR:  could not access status of transaction 5
[1] DETAIL:  Could not read from file "pg_multixact/offsets/0000" at offset 8192: read too few bytes.
[1] db=shop ERROR:  missing chunk number 0 for toast value 7 in pg_toast_16500
[1] db=shop ERROR:  unexpected chunk number 2 (expected 1) for toast value 8 in pg_toast_16500
[1] ERROR:  found xmin 7 from before relfrozenxid 700
[1] CONTEXT:  while scanning block 12 of relation "public.orders"
[1] ERROR:  invalid memory alloc request size 18446744073709551613
[1] LOG:  server process (PID 71) was terminated by signal 11: Segmentation fault
PANIC:  could not locate a valid checkpoint record
WARNING:  page verification failed, calculated checksum 10 but expected 11
"#;
    let found = groups(log);
    let subjects: Vec<&Subject> = found.iter().map(|g| &g.subject).collect();
    let database = Some("shop".to_owned());
    let wanted = [
        Subject::Toast { database, table: 16_500 },
        Subject::Named { database: None, name: "public.orders".to_owned() },
        Subject::Slru("pg_multixact/offsets".to_owned()),
        Subject::Slru("pg_xact".to_owned()),
        Subject::Wal,
        Subject::Process(11),
        Subject::Unnamed(Kind::ChecksumFailure),
        Subject::Unnamed(Kind::AllocSize),
    ];
    assert_eq!(subjects, wanted.iter().collect::<Vec<_>>());
    assert_eq!(found[0].values.len(), 2);
    assert_eq!(found[1].blocks.ranges().collect::<Vec<_>>(), [(12, 12)]);
    assert_eq!(found[3].files.iter().collect::<Vec<_>>(), ["pg_xact/0C00"]);
    assert_eq!(found[3].whys.iter().collect::<Vec<_>>(), ["No such file or directory"]);
}

/// The SQLSTATE of a csvlog tells what words do not.
#[test]
fn translated_messages_are_found_where_the_log_has_sqlstates() {
    let line = |state: &str| {
        format!(
            "2026-11-28 16:52:14 UTC,\"b\",\"d\",3,\"l\",s,2,\"SELECT\",2026-11-28 16:52:14 UTC,2/2,0,FEHLER,{state},\"ung\u{fc}ltige Seite in Block 12 von Relation base/5/16468\",,\n"
        )
    };
    let found = groups(line("XX001").as_bytes());
    assert_eq!((found.len(), found[0].has(Kind::Other)), (1, true));
    assert_eq!(found[0].blocks.ranges().collect::<Vec<_>>(), [(12, 12)]);
    assert_eq!(groups(line("42P01").as_bytes()), []);
}

/// Blocks of pg_basebackup and pg_checksums are counted within a segment.
#[test]
fn blocks_within_a_segment_are_made_blocks_of_the_relation() {
    let found = groups(b"WARNING:  checksum verification failed in file \"./base/16384/99454.2\", block 73314: calculated 1A2B but expected 3C\n");
    assert_eq!(found[0].blocks.ranges().collect::<Vec<_>>(), [(335_458, 335_458)]);
    assert_eq!(found[0].checksums.get(&335_458), Some(&(0x1A2B, 0x3C)));
}

/// xorshift64*, so that a failure can be had again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33).unwrap() % bound
    }
}

#[test]
fn no_bytes_make_it_panic() {
    let seeds: [&[u8]; 5] = [
        b"2026-11-28 16:52:14.307 UTC [7] b@d ERROR:  3 invalid pages among blocks 95..110 of relation \"base/5/16384\"\n[7] DETAIL:  Block 100 held the first invalid page.\n",
        b"2026-11-28 16:52:14.307 UTC,\"b\",\"d\",3,\"l\",s,2,\"SELECT\",t,2/2,0,ERROR,XX001,\"invalid page in block 4294967295 of relation base/5/1\",\"a\n\"\"b\",,,,\"while scanning block 5 of relation \"\"t\"\"\",\n",
        b"{\"pid\":3,\"state_code\":\"XX001\",\"message\":\"could not read blocks 4294967295..0 in file \\\"base/5/1.4294967295\\\": Input/output error\",\"detail\":\"\\ud800\\u00\"}\n",
        b"WARNING:  checksum verification failed in file \"./base/16384/99454.32767\", block 4294967295: calculated FFFFFFFF but expected 0\n",
        b"ERROR:  could not access status of transaction 4294967295\nDETAIL:  Could not open file \"pg_xact/0C00\": \xff\xfe.\nbase/5/16384 7..4294967295\n",
    ];
    let mut random = Random(0x5EED);
    for round in 0..20_000 {
        let mut text = Vec::new();
        for _ in 0..=random.below(3) {
            text.extend_from_slice(seeds[random.below(seeds.len())]);
        }
        for _ in 0..random.below(12) {
            let at = random.below(text.len().max(1)).min(text.len().saturating_sub(1));
            if text.is_empty() {
                break;
            }
            match random.below(4) {
                0 => text[at] = u8::try_from(random.below(256)).unwrap(),
                1 => drop(text.remove(at)),
                2 => text.truncate(at + 1),
                _ => text.insert(at, b"\"\n\t,:{\\9"[random.below(8)]),
            }
        }
        let found = groups(&text);
        assert!(found.len() <= 12, "round {round}: {found:?}");
    }
    for round in 0..200 {
        let text: Vec<u8> = (0..5_000).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
        assert_eq!(groups(&text), [], "round {round}");
    }
}
