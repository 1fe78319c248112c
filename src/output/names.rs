//! File names for relations, from any identifier that PostgreSQL allows.
//!
//! `public.orders` stays what it is. In each of the two names, letters,
//! digits, `_` and `-` are kept, as are non-ASCII letters that have one form
//! only; every other byte becomes `%` and two hexadecimal digits, dots and
//! invalid UTF-8 too. The dot between the names is thus the only one, and two
//! relations never share a stem. Where stems differ only in case, or are too
//! long, `~` and the OID follow. The manifest has the exact names.

use std::collections::HashMap;

use bstr::ByteSlice;

use super::codec::Codec;
use super::manifest::RowClass;

/// With `.toast-chunks.copy.zst.00001234.part` this stays below 255 bytes, which
/// is what file systems allow.
const STEM_BYTES_MAX: usize = 200;
const OID_BYTES_MAX: usize = "~4294967295".len();

/// Windows does not open files of these names, whatever follows the dot.
const RESERVED: [&str; 4] = ["con", "prn", "aux", "nul"];
const RESERVED_NUMBERED: [&str; 2] = ["com", "lpt"];

/// The readable form of a qualified name. Different names have different
/// stems; it may be too long, and on some file systems differ in case only.
pub fn file_stem(schema: &[u8], name: &[u8]) -> String {
    let mut stem = encode(schema);
    if is_reserved(&stem) {
        stem.push('~');
    }
    if stem.starts_with('-') {
        stem.replace_range(..1, "%2D");
    }
    stem.push('.');
    stem.push_str(&encode(name));
    stem
}

/// A stem for each relation, by its OID: unique, also where case does not
/// count, and the same in whatever order the relations come.
///
/// Those that `given` has (by an earlier run) keep their stems, and nobody else
/// gets them.
pub fn assign<'a>(
    relations: impl IntoIterator<Item = (u32, &'a [u8], &'a [u8])>,
    given: &HashMap<u32, String>,
) -> HashMap<u32, String> {
    let mut stems: Vec<(u32, String)> =
        relations.into_iter().map(|(oid, schema, name)| (oid, file_stem(schema, name))).collect();
    // A damaged catalog may have an OID twice: then the first stem counts.
    stems.sort_unstable();
    stems.dedup_by_key(|(oid, _)| *oid);
    let mut alike: HashMap<String, u32> = HashMap::new();
    for (_, stem) in &stems {
        *alike.entry(fold(stem)).or_default() += 1;
    }
    // One is the relation's own, and is not counted twice.
    for (oid, stem) in given {
        let own = stems.binary_search_by_key(oid, |(o, _)| *o);
        if !own.is_ok_and(|i| stems[i].1 == *stem) {
            *alike.entry(fold(stem)).or_default() += 1;
        }
    }
    stems
        .into_iter()
        .map(|(oid, stem)| {
            if let Some(given) = given.get(&oid) {
                return (oid, given.clone());
            }
            let is_unique = alike.get(&fold(&stem)) == Some(&1);
            let is_short = stem.len() <= STEM_BYTES_MAX;
            (oid, if is_unique && is_short { stem } else { with_oid(stem, oid) })
        })
        .collect()
}

/// Where the rows of one class are, from the dump directory on.
pub fn data_path(stem: &str, class: RowClass, codec: Codec) -> String {
    let class = match class {
        RowClass::Clean => "copy",
        RowClass::Suspect => "suspect.copy",
        RowClass::Partial => "partial.copy",
        RowClass::ToastChunks => "toast-chunks.copy",
        RowClass::Oversize => "oversize.binary",
    };
    format!("data/{stem}.{class}{}", codec.suffix())
}

fn with_oid(mut stem: String, oid: u32) -> String {
    if stem.len() > STEM_BYTES_MAX {
        let mut end = STEM_BYTES_MAX - OID_BYTES_MAX;
        // Cut neither a letter nor a `%XX` in two, nor leave the dot at the end.
        while !stem.is_char_boundary(end) {
            end -= 1;
        }
        if let Some(percent) = stem[..end].rfind('%')
            && end - percent < "%XX".len()
        {
            end = percent;
        }
        stem.truncate(end);
        let kept = stem.trim_end_matches('.').len();
        stem.truncate(kept);
    }
    format!("{stem}~{oid}")
}

fn encode(name: &[u8]) -> String {
    if name.is_empty() {
        // Not legal, and an identifier cannot have this byte.
        return "%00".to_owned();
    }
    let mut text = String::new();
    for (start, end, char) in name.char_indices() {
        let bytes = &name[start..end];
        // An invalid byte also comes as the replacement character, which is no letter.
        if char.is_ascii_alphanumeric() || char == '_' || char == '-' || is_kept(char) {
            text.push(char);
        } else {
            for byte in bytes {
                text.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    text
}

/// Letters of scripts in which no letter can be written in a second way once
/// the combining marks are encoded: file systems that normalise names cannot
/// make two of them equal.
fn is_kept(char: char) -> bool {
    let is_plain = matches!(char,
        '\u{00C0}'..='\u{024F}'     // Latin
        | '\u{0386}' | '\u{0388}'..='\u{03FF}' // Greek
        | '\u{0400}'..='\u{052F}'   // Cyrillic
        | '\u{0531}'..='\u{0586}'   // Armenian
        | '\u{05D0}'..='\u{05EA}'   // Hebrew
        | '\u{0620}'..='\u{064A}'   // Arabic
        | '\u{0E01}'..='\u{0E30}' | '\u{0E40}'..='\u{0E46}' // Thai
        | '\u{10D0}'..='\u{10FA}'   // Georgian
        | '\u{1E00}'..='\u{1EFF}'   // Latin, Vietnamese
        | '\u{3041}'..='\u{3096}' | '\u{30A1}'..='\u{30FA}' | '\u{30FC}' // Kana
        | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' // Han
        | '\u{AC00}'..='\u{D7A3}'   // Hangul
    );
    is_plain && char.is_alphanumeric()
}

/// Equal for stems that a case-insensitive file system takes for one. Through
/// upper case, as ß and ss, or σ and ς, differ in lower case.
fn fold(stem: &str) -> String {
    stem.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

fn is_reserved(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let is_numbered = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|rest| matches!(rest.as_bytes(), [b'0'..=b'9']))
    };
    RESERVED.contains(&name.as_str()) || RESERVED_NUMBERED.into_iter().any(is_numbered)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stem_that_was_given_before_stays_whose_it_was() {
        let given = HashMap::from([(7, "public.a".to_owned()), (8, "public.b~8".to_owned())]);
        let relations: [(u32, &[u8], &[u8]); 3] =
            [(9, b"public", b"a"), (8, b"public", b"b"), (10, b"public", b"c")];
        let stems = assign(relations, &given);
        assert_eq!(stems[&9], "public.a~9", "that of a table that was dropped since");
        assert_eq!((stems[&8].as_str(), stems[&10].as_str()), ("public.b~8", "public.c"));
        let same: [(u32, &[u8], &[u8]); 1] = [(7, b"public", b"a")];
        assert_eq!(assign(same, &given)[&7], "public.a");
    }

    #[test]
    fn names_stay_readable_and_safe() {
        let cases: [(&[u8], &[u8], &str); 14] = [
            (b"public", b"orders", "public.orders"),
            (b"public", b"Order_Lines-2", "public.Order_Lines-2"),
            ("straße".as_bytes(), "注文".as_bytes(), "straße.注文"),
            (b"a.b", b"c", "a%2Eb.c"),
            (b"a", b"b.c", "a.b%2Ec"),
            (b"..", b"../../etc/passwd", "%2E%2E.%2E%2E%2F%2E%2E%2Fetc%2Fpasswd"),
            (b"-rf", b"-x", "%2Drf.-x"),
            (b"a b", b"it's \"x\"\n", "a%20b.it%27s%20%22x%22%0A"),
            (b"100%", b"~$`", "100%25.%7E%24%60"),
            (b"latin1", b"caf\xe9", "latin1.caf%E9"),
            ("p".as_bytes(), "e\u{301}".as_bytes(), "p.e%CC%81"),
            (b"CON", b"nul", "CON~.nul"),
            (b"com1", b"t", "com1~.t"),
            (b"", b"", "%00.%00"),
        ];
        for (schema, name, stem) in cases {
            assert_eq!(file_stem(schema, name), stem);
        }
    }

    #[test]
    fn names_that_differ_in_case_only_get_their_oid() {
        let names: [(u32, &[u8], &[u8]); 5] = [
            (1, b"public", b"orders"),
            (2, b"public", b"Orders"),
            (3, b"public", b"lines"),
            (4, b"s", "STRASSE".as_bytes()),
            (5, b"s", "straße".as_bytes()),
        ];
        let forward = assign(names, &HashMap::new());
        assert_eq!(forward[&1], "public.orders~1");
        assert_eq!(forward[&2], "public.Orders~2");
        assert_eq!(forward[&3], "public.lines");
        assert_eq!(forward[&4], "s.STRASSE~4");
        assert_eq!(forward[&5], "s.straße~5");
        assert_eq!(forward, assign(names.into_iter().rev(), &HashMap::new()));
    }

    #[test]
    fn the_longest_names_fit_and_stay_apart() {
        let hostile = [0xffu8; 63];
        let long = "é".repeat(31);
        let relations = [
            (1, &hostile[..], &hostile[..]),
            (u32::MAX, &hostile[..], &hostile[..62]),
            (3, long.as_bytes(), &hostile[..]),
        ];
        let stems = assign(relations, &HashMap::new());
        for stem in stems.values() {
            let path = format!("{stem}.toast-chunks.copy.zst.00001234.part");
            assert!(path.len() < 255, "{path}");
        }
        assert_eq!(stems[&u32::MAX], format!("{}~4294967295", "%FF".repeat(63)));
    }

    /// Short names of few letters, so that some are alike.
    fn identifier() -> impl Strategy<Value = Vec<u8>> {
        let alike = "[aAbB.%~éÉßςσ/\u{301}-]{0,3}".prop_map(String::into_bytes);
        prop_oneof![
            4 => alike,
            1 => proptest::collection::vec(any::<u8>(), 0..64),
            1 => ".{0,15}".prop_map(String::into_bytes),
            1 => "[cC][oO][nN]".prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn different_relations_never_share_a_file(
            names in proptest::collection::btree_set((identifier(), identifier()), 0..40),
        ) {
            let relations: Vec<(u32, &[u8], &[u8])> = (16_384..)
                .zip(&names)
                .map(|(oid, (schema, name))| (oid, schema.as_slice(), name.as_slice()))
                .collect();
            let stems = assign(relations.iter().copied(), &HashMap::new());
            prop_assert_eq!(stems.len(), names.len());
            let mut seen = std::collections::HashSet::new();
            for stem in stems.values() {
                prop_assert!(seen.insert(stem.to_lowercase()), "{} comes twice", stem);
                prop_assert!(stem.len() <= STEM_BYTES_MAX);
                prop_assert!(!stem.starts_with(['.', '-', '~']) && !stem.contains(".."), "{}", stem);
                let is_safe = |c: char| c.is_alphanumeric() || "_-.%~".contains(c);
                prop_assert!(stem.chars().all(is_safe), "{}", stem);
            }
            let backward = assign(relations.iter().rev().copied(), &HashMap::new());
            prop_assert_eq!(backward, stems);
        }
    }
}
