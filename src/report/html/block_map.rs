//! The map of a heap as a picture: squares in rows, as ddrescueview shows a disk.
//!
//! Each status is one path of horizontal lines; a dash pattern that begins anew
//! with each line cuts them into squares, so that a map of thousands of squares
//! is a few hundred bytes.

use super::super::block_map::{Cells, cells, counts};
use super::super::grouped;
use super::super::layout::escaped;
use super::super::model::{BlockStatus, Relation};
use super::super::sized;
use super::super::words::{block_status, word};
use std::fmt::Write as _;

/// Squares in a row, and at most so many rows of them.
const COLUMNS: usize = 74;
const ROWS_MAX: usize = 16;

/// From one square to the next; the gap between them is a sixth of it.
const PITCH: usize = 12;

pub(super) fn put(out: &mut String, r: &Relation, block_size: u32) {
    let cells = cells(&r.map, COLUMNS * ROWS_MAX);
    let (columns, rows) = (cells.cells.len().min(COLUMNS), cells.cells.len().div_ceil(COLUMNS));
    let (width, height) = (columns * PITCH, rows * PITCH);
    let (label, per_cell) = (label(r, &cells), per_cell(&cells, block_size));
    let _ = writeln!(
        out,
        "<figure>\n<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{}\">",
        escaped(&label)
    );
    for status in BlockStatus::ALL {
        let path = path(&cells.cells, status);
        if !path.is_empty() {
            let _ = writeln!(out, "<path class=\"{}\" d=\"{path}\"/>", word(&status));
        }
    }
    let _ = writeln!(out, "</svg>\n<figcaption>\n<span>{per_cell}</span>");
    for (status, count) in BlockStatus::ALL.into_iter().zip(counts(&r.map)) {
        if count > 0 {
            let (class, what, count) = (word(&status), block_status(status), grouped(count));
            let _ =
                writeln!(out, "<span><span class=\"swatch {class}\"></span>{what}: {count}</span>");
        }
    }
    out.push_str("</figcaption>\n</figure>\n");
}

fn per_cell(cells: &Cells, block_size: u32) -> String {
    match cells.blocks_per_cell {
        1 => format!("each square is a block of {}", sized(block_size.into())),
        n => format!("each square is {} blocks, and as bad as the worst of them", grouped(n)),
    }
}

fn label(r: &Relation, cells: &Cells) -> String {
    let counts = BlockStatus::ALL.into_iter().zip(counts(&r.map)).filter(|(_, count)| *count > 0);
    let parts: Vec<String> = counts
        .map(|(status, count)| format!("{} {}", grouped(count), block_status(status)))
        .collect();
    format!("Map of {}, {} blocks: {}", r.title(), grouped(cells.blocks), parts.join(", "))
}

/// One line for each run of squares of this status, row by row.
fn path(cells: &[BlockStatus], status: BlockStatus) -> String {
    let mut path = String::new();
    for (row, cells) in cells.chunks(COLUMNS).enumerate() {
        let mut at = 0;
        for run in cells.chunk_by(|a, b| a == b) {
            if run.first() == Some(&status) {
                let (x, y) = (at * PITCH, row * PITCH + PITCH / 2);
                let _ = write!(path, "M{x} {y}h{}", run.len() * PITCH);
            }
            at += run.len();
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use BlockStatus::{Clean, Lost};

    #[test]
    fn a_status_is_one_path_of_a_line_for_each_run() {
        let mut cells = [Clean; COLUMNS + 3];
        (cells[1], cells[COLUMNS - 1], cells[COLUMNS]) = (Lost, Lost, Lost);
        assert_eq!(path(&cells, Lost), "M12 6h12M876 6h12M0 18h12");
        assert_eq!(path(&cells, Clean), format!("M0 6h12M24 6h{}M12 18h24", 12 * 71));
        assert_eq!(path(&cells, BlockStatus::Fenced), "");
    }
}
