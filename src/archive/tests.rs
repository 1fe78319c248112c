use super::*;
use proptest::prelude::*;

fn archive(version: Version) -> Archive {
    let mut table = Entry::new(7, "TABLE", "orders", Section::PreData);
    table.catalog = 1259;
    table.oid = 16385;
    table.defn = Some("CREATE TABLE public.orders ();\n".into());
    table.namespace = Some("public".into());
    table.tablespace = Some(BString::default());
    table.table_am = (version >= Version::TABLE_AM).then(|| "heap".into());
    table.relkind = if version >= Version::RELKIND { i32::from(b'r') } else { 0 };
    table.owner = Some(b"\xff\xfe".into());
    let mut data = Entry::new(9, "TABLE DATA", "orders", Section::Data);
    data.had_dumper = true;
    data.copy_stmt = Some("COPY public.orders FROM stdin;\n".into());
    data.dependencies = vec![7, 8];
    data.file = Some("data/public.orders.copy.zst".into());
    Archive {
        version,
        int_size: INT_SIZE,
        off_size: 8,
        format: FORMAT,
        compression: match version >= Version::METHOD {
            true => Compression::Method(3),
            false => Compression::Level(-1),
        },
        created: Created { second: 1, minute: 2, hour: 3, day: 4, month: 5, year: 126, is_dst: -1 },
        database: Some("shop".into()),
        server_version: Some("15.18".into()),
        dump_version: None,
        entries: vec![table, data],
    }
}

fn versions() -> impl Iterator<Item = Version> {
    (Version::OLDEST.minor..=Version::RELKIND.minor).map(Version::of)
}

#[test]
fn an_archive_of_each_version_is_read_as_it_was_written() {
    for version in versions() {
        let archive = archive(version);
        assert_eq!(Archive::read(&archive.write()).as_ref(), Ok(&archive), "{version:?}");
    }
}

#[test]
fn the_bytes_are_those_of_the_format() {
    let bytes = archive(Version::TABLE_AM).write();
    assert_eq!(bytes[..16], *b"PGDMP\x01\x0e\x00\x04\x08\x03\x01\x01\x00\x00\x00");
    // NULL and an empty string are told apart.
    let empty = Archive { dump_version: Some(BString::default()), ..archive(Version::TABLE_AM) };
    assert_ne!(bytes, empty.write());
    assert_eq!(archive(Version::TABLE_AM).next_dump_id(), 10);
}

#[test]
fn an_archive_that_is_cut_is_refused_wherever_it_is_cut() {
    for version in versions() {
        let bytes = archive(version).write();
        for length in 0..bytes.len() {
            assert!(Archive::read(&bytes[..length]).is_err(), "{version:?}: {length}");
        }
        let longer = [bytes.as_slice(), b"x"].concat();
        assert_eq!(Archive::read(&longer), Err(ReadError::Longer(1)));
    }
}

#[test]
fn what_it_is_not_is_said() {
    let bytes = archive(Version::RELKIND).write();
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        Archive::read(&bytes).expect_err("refused").to_string()
    };
    assert_eq!(with(0, b'Q'), "it is no table of contents of a pg_dump archive");
    assert_eq!(with(6, 17), "archive version 1.17 is not known");
    assert_eq!(with(8, 8), "it has integers of 8 bytes");
    assert_eq!(
        with(10, 1),
        "it is of an archive in another format than pg_dump's directory format"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// No bytes make it panic, and what it takes it writes back as it was.
    #[test]
    fn what_is_read_is_written_the_same(
        minor in 12_u8..=16,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = archive(Version::of(minor)).write();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(read) = Archive::read(&bytes) {
            prop_assert_eq!(read.write(), bytes);
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let bytes = [b"PGDMP\x01\x0e\x00\x04\x08\x03".as_slice(), &bytes].concat();
        if let Ok(read) = Archive::read(&bytes) {
            prop_assert_eq!(read.write(), bytes);
        }
    }
}
