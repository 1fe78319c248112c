use super::*;

fn text(type_oid: u32, datum: &[u8]) -> Option<String> {
    to_text(type_oid, datum).map(|text| String::from_utf8(text).expect("ASCII"))
}

/// Words of two bytes.
fn shorts(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Words of four bytes.
fn longs(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

const NUMERIC: u32 = 1700;
const INTS: u32 = 1007;
const JSONB: u32 = 3802;

#[test]
fn types_are_in_their_order_and_none_is_there_twice() {
    assert!(TYPES.is_sorted_by_key(|t| t.oid));
    let mut oids: Vec<u32> = TYPES.iter().flat_map(|t| [t.oid, t.array_oid]).collect();
    oids.sort_unstable();
    oids.dedup();
    assert_eq!(oids.len(), 2 * TYPES.len());
    assert!(oids.into_iter().all(is_known));
    // money, regclass, record, anyenum
    assert!([790, 2205, 2249, 3500, 0].into_iter().all(|oid| !is_known(oid)));
}

#[test]
fn a_value_of_another_width_is_none() {
    for t in TYPES.iter().filter(|t| t.stored.len > 0) {
        let len = usize::try_from(t.stored.len).expect("a width");
        for len in [0, len - 1, len + 1] {
            assert_eq!(to_text(t.oid, &vec![0; len]), None, "type {}", t.oid);
        }
    }
}

#[test]
fn a_numeric_that_is_not_canonical_is_none() {
    // Short, one digit behind the point shown; long, of a high weight.
    assert_eq!(text(NUMERIC, &shorts(&[0x8080, 1, 5000])).as_deref(), Some("1.5"));
    assert_eq!(text(NUMERIC, &shorts(&[0x4000, 2, 12])).as_deref(), Some("-1200000000"));
    assert_eq!(text(NUMERIC, &shorts(&[0xF000])).as_deref(), Some("-Infinity"));
    let wrong: [&[u16]; 7] = [
        &[0x8080, 10_000],
        &[0x8080, 0, 1],
        &[0x8080, 1, 0],
        &[0xA000],
        &[0xC001],
        &[0xC000, 1],
        &[0x8001],
    ];
    for words in wrong {
        assert_eq!(text(NUMERIC, &shorts(words)), None, "{words:?}");
    }
    assert_eq!(text(NUMERIC, &[0x80, 0x80, 1]), None);
    assert_eq!(text(NUMERIC, &[]), None);
}

#[test]
fn times_that_do_not_exist_are_none() {
    for day in [-2_451_546, 2_145_031_949] {
        assert_eq!(text(1082, &i32::to_le_bytes(day)), None);
    }
    for at in [-211_813_488_000_000_001, 9_223_371_331_200_000_000] {
        assert_eq!(text(1114, &i64::to_le_bytes(at)), None);
    }
    for at in [-1, 86_400_000_001] {
        assert_eq!(text(1083, &i64::to_le_bytes(at)), None);
    }
    let zone = |west: i32| [[0; 8].as_slice(), &west.to_le_bytes()].concat();
    assert_eq!(text(1266, &zone(57_599)).as_deref(), Some("00:00:00-15:59:59"));
    assert_eq!(text(1266, &zone(57_600)), None);
}

#[test]
fn an_array_that_does_not_agree_with_itself_is_none() {
    let sound = [1, 0, 23, 2, 1, 5, 6];
    assert_eq!(text(INTS, &longs(&sound)).as_deref(), Some("{5,6}"));
    assert_eq!(text(INTS, &longs(&[0, 0, 23])).as_deref(), Some("{}"));
    let with_null = [1, 32, 23, 2, 1, 0b10, 0, 6];
    assert_eq!(text(INTS, &longs(&with_null[..7])), None);
    // Data at 4 * 8 of the varlena, whose length word is not here.
    assert_eq!(text(INTS, &longs(&with_null)).as_deref(), Some("{NULL,6}"));
    let wrong: [&[u32]; 8] = [
        &[1, 0, 25, 2, 1, 5, 6],
        &[7, 0, 23, 2, 1, 5, 6],
        &[1, 0, 23, 3, 1, 5, 6],
        &[1, 0, 23, 1, 1, 5, 6],
        &[1, 28, 23, 2, 1, 0b11, 5, 6],
        &[1, 0, 23, 0xFFFF_FFFF, 1, 5, 6],
        &[6, 0, 23, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1, 1, 1, 1, 1, 1],
        &[],
    ];
    for words in wrong {
        assert_eq!(text(INTS, &longs(words)), None, "{words:?}");
    }
}

#[test]
fn a_jsonb_that_does_not_agree_with_itself_is_none() {
    let object = |word: u32| [longs(&[0x2000_0001, 1, word]), b"kv".to_vec()].concat();
    assert_eq!(text(JSONB, &object(1)).as_deref(), Some(r#"{"k": "v"}"#));
    assert_eq!(text(JSONB, &object(0x8000_0002)).as_deref(), Some(r#"{"k": "v"}"#));
    for word in [0, 2, 0x8000_0000, 0x8000_0003, 0x2000_0001, 0x6000_0001, 0x5000_0001] {
        assert_eq!(text(JSONB, &object(word)), None, "{word:x}");
    }
    assert_eq!(text(JSONB, &longs(&[0x0FFF_FFFF])), None);
    assert_eq!(text(JSONB, &longs(&[0x4FFF_FFFF, 0])), None);
}

#[test]
fn containers_within_containers_end_somewhere() {
    let nested = |depth: u32| {
        let levels =
            (0..depth).rev().flat_map(|inner| [0x4000_0001, 0x5000_0000 | (8 * inner + 4)]);
        longs(&levels.chain([0x4000_0000]).collect::<Vec<_>>())
    };
    let depth = u32::try_from(jsonb::DEPTH_MAX).expect("small");
    let deepest = text(JSONB, &nested(depth - 1)).expect("not too deep");
    assert_eq!(
        deepest,
        format!("{}{}", "[".repeat(jsonb::DEPTH_MAX), "]".repeat(jsonb::DEPTH_MAX))
    );
    assert_eq!(text(JSONB, &nested(depth)), None);
    assert_eq!(text(JSONB, &nested(1 << 20)), None);
}

#[test]
fn bits_behind_the_last_are_zero() {
    assert_eq!(text(1562, b"\x03\0\0\0\xa0").as_deref(), Some("101"));
    assert_eq!(text(1562, b"\x03\0\0\0\xb0"), None);
    assert_eq!(text(1562, b"\x03\0\0\0"), None);
    assert_eq!(text(1562, b"\x03\0"), None);
}
