//! The bits of `pd_flags`, `t_infomask` and `t_infomask2` by their names in
//! `bufpage.h` and `htup_details.h`, and in words.

/// A bit, its name, and what it says.
pub type Flag = (u16, &'static str, &'static str);

const PAGE: [Flag; 3] = [
    (0x0001, "PD_HAS_FREE_LINES", "has free line pointers"),
    (0x0002, "PD_PAGE_FULL", "full"),
    (0x0004, "PD_ALL_VISIBLE", "all-visible"),
];

const INFOMASK: [Flag; 16] = [
    (0x0001, "HEAP_HASNULL", "has nulls"),
    (0x0002, "HEAP_HASVARWIDTH", "has values of variable width"),
    (0x0004, "HEAP_HASEXTERNAL", "has values in TOAST"),
    (0x0008, "HEAP_HASOID_OLD", "has an oid"),
    (0x0010, "HEAP_XMAX_KEYSHR_LOCK", "xmax locks the key, shared"),
    (0x0020, "HEAP_COMBOCID", "combo command id"),
    (0x0040, "HEAP_XMAX_EXCL_LOCK", "xmax locks, exclusive"),
    (0x0080, "HEAP_XMAX_LOCK_ONLY", "xmax only locks"),
    (0x0100, "HEAP_XMIN_COMMITTED", "xmin committed"),
    (0x0200, "HEAP_XMIN_INVALID", "xmin aborted"),
    (0x0400, "HEAP_XMAX_COMMITTED", "xmax committed"),
    (0x0800, "HEAP_XMAX_INVALID", "no xmax"),
    (0x1000, "HEAP_XMAX_IS_MULTI", "xmax is a MultiXactId"),
    (0x2000, "HEAP_UPDATED", "made by an update"),
    (0x4000, "HEAP_MOVED_OFF", "moved away by an old VACUUM FULL"),
    (0x8000, "HEAP_MOVED_IN", "moved here by an old VACUUM FULL"),
];

const INFOMASK2: [Flag; 3] = [
    (0x2000, "HEAP_KEYS_UPDATED", "deleted, or its key updated"),
    (0x4000, "HEAP_HOT_UPDATED", "updated by HOT"),
    (0x8000, "HEAP_ONLY_TUPLE", "heap-only"),
];

/// Of `t_infomask2`: bits that no version has given a meaning.
const INFOMASK2_UNUSED: u16 = 0x1800;

const FROZEN: u16 = 0x0300;

/// Those of a page's header that are set.
pub fn of_page(flags: u16) -> Vec<Flag> {
    set(&PAGE, flags)
}

/// Those of a tuple that are set.
pub fn of_tuple(infomask: u16, infomask2: u16) -> Vec<Flag> {
    [set(&INFOMASK, infomask), set(&INFOMASK2, infomask2)].concat()
}

/// The same in words; both bits of xmin together mean that it is frozen.
pub fn words(infomask: u16, infomask2: u16) -> Vec<&'static str> {
    let is_frozen = infomask & FROZEN == FROZEN;
    let rest = if is_frozen { infomask & !FROZEN } else { infomask };
    let mut words: Vec<&str> = is_frozen.then_some("xmin frozen").into_iter().collect();
    words.extend(of_tuple(rest, infomask2).into_iter().map(|(_, _, words)| words));
    if infomask2 & INFOMASK2_UNUSED != 0 {
        words.push("bits that mean nothing");
    }
    words
}

fn set(flags: &[Flag], bits: u16) -> Vec<Flag> {
    flags.iter().copied().filter(|(bit, ..)| bits & bit != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_bits_are_one_word_and_every_bit_has_one() {
        assert_eq!(words(0x0B02, 3), ["xmin frozen", "has values of variable width", "no xmax"]);
        assert_eq!(words(0x0100, 0x1000), ["xmin committed", "bits that mean nothing"]);
        assert_eq!(of_tuple(u16::MAX, u16::MAX).len(), 19);
        assert_eq!(of_page(0x000C), [PAGE[2]]);
    }
}
