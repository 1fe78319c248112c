//! A page for a person at a terminal.

use super::{Inspected, Line, hexdump, state};
use crate::advice::object::shell_word;
use crate::page::flags;
use std::fmt::Write as _;

/// So many single bits are shown.
const FLIPS_SHOWN: usize = 8;

const RED: &str = "\x1b[1;31m";
const RESET: &str = "\x1b[0m";

pub(super) fn text(inspected: &Inspected, colour: bool) -> String {
    let mut out = String::new();
    place(&mut out, inspected);
    header(&mut out, inspected, colour);
    if !inspected.lines.is_empty() {
        let _ = writeln!(out, "\nline pointers and tuples");
        inspected.lines.iter().for_each(|line| tuple(&mut out, line, colour));
    }
    let _ = writeln!(
        out,
        "\nbytes{}",
        if colour { format!(": {}", hexdump::legend()) } else { String::new() }
    );
    out.push_str(&hexdump::hexdump(inspected, colour));
    out
}

fn place(out: &mut String, inspected: &Inspected) {
    let origin = &inspected.origin;
    let size = inspected.bytes.len();
    let file = shell_word(&one_line(&origin.file));
    let _ =
        writeln!(out, "{}, fork {}, block {}", one_line(&origin.what), origin.fork, origin.block);
    let _ = writeln!(
        out,
        "segment {}, page {}, byte {} (0x{:x}) of {}",
        origin.segment,
        origin.page,
        origin.byte,
        origin.byte,
        one_line(&origin.file)
    );
    let _ = writeln!(
        out,
        "  $ dd if={file} of=block.{}.page bs={size} skip={} count=1",
        origin.block, origin.page
    );
    let _ = writeln!(out, "  $ xxd -s {} -l {size} {file}", origin.byte);
    for note in &origin.notes {
        let _ = writeln!(out, "NOTE: {note}");
    }
}

fn wrong(words: &str, colour: bool) -> String {
    if colour { format!("{RED}{words}{RESET}") } else { words.to_owned() }
}

fn header(out: &mut String, inspected: &Inspected, colour: bool) {
    let page = inspected.page();
    let _ = writeln!(out, "\nheader");
    if page.is_new() {
        let _ = writeln!(
            out,
            "  all of the page is zeros: extended, and never written, or wiped out since"
        );
        return;
    }
    let lsn = page.lsn();
    let flags: Vec<&str> =
        flags::of_page(page.flags()).into_iter().map(|(_, _, words)| words).collect();
    let _ = writeln!(out, "  pd_lsn               {:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF);
    let _ = writeln!(out, "  pd_checksum          {}", sum(inspected, colour));
    flips(out, inspected);
    let _ = writeln!(out, "  pd_flags             0x{:04x} {}", page.flags(), flags.join(", "));
    let _ = writeln!(
        out,
        "  pd_lower             {} ({} line pointers)",
        page.lower(),
        page.line_pointer_count()
    );
    let _ = writeln!(
        out,
        "  pd_upper             {} ({} bytes free)",
        page.upper(),
        page.upper().saturating_sub(page.lower())
    );
    let special = inspected.bytes.len().saturating_sub(usize::from(page.special()));
    let _ = writeln!(
        out,
        "  pd_special           {} ({special} bytes of special space)",
        page.special()
    );
    let _ = writeln!(
        out,
        "  pd_pagesize_version  {} bytes, layout {}",
        page.size(),
        page.layout_version()
    );
    let _ = writeln!(out, "  pd_prune_xid         {}", page.prune_xid());
    if let Some(insane) = inspected.insane {
        let _ = writeln!(out, "  {}", wrong(&format!("INSANE: {insane}"), colour));
    }
}

fn sum(inspected: &Inspected, colour: bool) -> String {
    let (stored, computed) = (inspected.page().checksum(), inspected.computed);
    let verdict = match (inspected.is_checksum_wrong, inspected.origin.checksums) {
        (true, Some(_)) => wrong("WRONG", colour),
        (true, None) => wrong("WRONG, if the cluster has checksums", colour),
        (false, Some(false)) => "not in use".to_owned(),
        (false, None) if stored == 0 => "none".to_owned(),
        (false, _) => "it fits".to_owned(),
    };
    format!("{stored} (0x{stored:04x}), computed {computed} (0x{computed:04x}): {verdict}")
}

fn flips(out: &mut String, inspected: &Inspected) {
    if !inspected.is_checksum_wrong {
        return;
    }
    let all = &inspected.flips;
    let shown: Vec<String> = all
        .iter()
        .take(FLIPS_SHOWN)
        .map(|bit| {
            let of = if bit.is_of_checksum() { " (the checksum itself)" } else { "" };
            format!("bit {} of byte {}{of}", bit.bit, bit.byte)
        })
        .collect();
    let _ = match shown.is_empty() {
        true => writeln!(out, "      no single bit that was turned over would explain it"),
        false => writeln!(
            out,
            "      one bit turned over would explain it: {}{}; by chance about one bit of a page \
             fits, so this is a hint and no proof",
            shown.join(", or "),
            if all.len() > FLIPS_SHOWN { ", or others" } else { "" }
        ),
    };
}

fn tuple(out: &mut String, line: &Line, colour: bool) {
    let pointer = line.pointer;
    let _ = write!(
        out,
        "  {:>4}  {:8}  offset {:>5}  length {:>5}",
        line.number,
        state(pointer.flags),
        pointer.offset,
        pointer.length
    );
    if let Some(t) = &line.tuple {
        let words = flags::words(t.infomask, t.infomask2).join(", ");
        let _ = write!(
            out,
            "  xmin {} xmax {} cid {} ctid ({},{})  {} attributes, data at {}  {words}",
            t.xmin, t.xmax, t.field3, t.ctid.0, t.ctid.1, t.natts, t.hoff
        );
    }
    for insane in [line.insane, line.tuple.as_ref().and_then(|t| t.insane)].into_iter().flatten() {
        let _ = write!(out, "  {}", wrong(&format!("INSANE: {insane}"), colour));
    }
    out.push('\n');
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
