//! A page for programs: docs/inspect.md describes it. Names are those of
//! `pageinspect`.

use super::{Inspected, Line, state};
use crate::page::flags::{self, Flag};
use serde_json::{Value, json};
use std::fmt::Write as _;

const FORMAT_VERSION: u32 = 1;

pub(super) fn json(inspected: &Inspected) -> String {
    let (origin, page) = (&inspected.origin, inspected.page());
    let lsn = page.lsn();
    let flips: Vec<Value> =
        inspected.flips.iter().map(|bit| json!({ "byte": bit.byte, "bit": bit.bit })).collect();
    let mut hex = String::with_capacity(inspected.bytes.len() * 2);
    for byte in &inspected.bytes {
        let _ = write!(hex, "{byte:02x}");
    }
    let all = json!({
        "format_version": FORMAT_VERSION,
        "status": if inspected.is_damaged() { "damaged" } else { "sane" },
        "what": origin.what,
        "fork": origin.fork,
        "block": origin.block,
        "file": origin.file,
        "segment": origin.segment,
        "page": origin.page,
        "byte": origin.byte,
        "notes": origin.notes,
        "is_new": page.is_new(),
        "header": {
            "lsn": format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF),
            "checksum": page.checksum(),
            "flags": page.flags(),
            "flag_names": names(&flags::of_page(page.flags())),
            "lower": page.lower(),
            "upper": page.upper(),
            "special": page.special(),
            "pagesize": page.size(),
            "version": page.layout_version(),
            "prune_xid": page.prune_xid(),
            "insane": inspected.insane,
        },
        "checksum": {
            "stored": page.checksum(),
            "computed": inspected.computed,
            "wrong": inspected.is_checksum_wrong,
            "single_bits": flips,
        },
        "items": inspected.lines.iter().map(item).collect::<Vec<_>>(),
        "hex": hex,
    });
    format!("{all:#}\n")
}

fn names(flags: &[Flag]) -> Vec<&'static str> {
    flags.iter().map(|(_, name, _)| *name).collect()
}

fn item(line: &Line) -> Value {
    let pointer = line.pointer;
    let tuple = line.tuple.as_ref().map(|t| {
        json!({
            "t_xmin": t.xmin,
            "t_xmax": t.xmax,
            "t_field3": t.field3,
            "t_ctid": format!("({},{})", t.ctid.0, t.ctid.1),
            "t_infomask2": t.infomask2,
            "t_infomask": t.infomask,
            "t_hoff": t.hoff,
            "natts": t.natts,
            "flags": names(&t.flags()),
            "words": flags::words(t.infomask, t.infomask2),
            "insane": t.insane,
        })
    });
    json!({
        "lp": line.number,
        "lp_off": pointer.offset,
        "lp_flags": state(pointer.flags),
        "lp_len": pointer.length,
        "insane": line.insane,
        "tuple": tuple,
    })
}
