//! What somebody asks about in words of their own: `base/16384/99454 335458`.

use super::path::{Geometry, RelationFile};

/// A file of a relation, and blocks of it: each first and last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub path: String,
    pub blocks: Vec<(u32, u32)>,
}

/// Whether a word is the path of a relation's file, as the server writes it.
pub fn is_path(word: &str) -> bool {
    let word = word.trim_matches('"');
    ["base/", "global/", "pg_tblspc/"].iter().any(|folder| word.starts_with(folder))
        && RelationFile::parse(word).is_some()
}

/// A block, several, or ranges of them: `7`, `5,7`, `5..9`, `5-9`.
pub fn blocks(word: &str) -> Option<Vec<(u32, u32)>> {
    let parts = word.split(',').filter(|part| !part.is_empty());
    let ranges: Option<Vec<(u32, u32)>> = parts
        .map(|part| {
            let (first, last) =
                part.split_once("..").or_else(|| part.split_once('-')).unwrap_or((part, part));
            Some((first.parse().ok()?, last.parse().ok()?))
        })
        .collect();
    ranges.filter(|ranges| !ranges.is_empty())
}

/// A line that has a path, and then blocks, and nothing else.
pub(super) fn line(line: &[u8]) -> Option<Asked> {
    if !matches!(line.first(), Some(b'b' | b'g' | b'p' | b'"')) {
        return None;
    }
    let text = std::str::from_utf8(line).ok()?;
    let mut words = text.split_ascii_whitespace();
    let path = words.next().filter(|word| is_path(word))?.trim_matches('"').to_owned();
    let lists: Option<Vec<Vec<(u32, u32)>>> = words.map(blocks).collect();
    Some(Asked { path, blocks: lists?.concat() })
}

impl Asked {
    /// The file, and its blocks counted through all segments: where the path names
    /// a segment that a block is not in, the block is taken as one within it.
    pub(super) fn places(&self, geometry: Geometry) -> Option<(RelationFile, Vec<(u32, u32)>)> {
        let (file, segment) = RelationFile::parse(&self.path)?;
        let per_segment = geometry.segment_blocks.max(1);
        let whole = |block: u32| match segment {
            Some(segment) if block / per_segment != segment && block < per_segment => {
                geometry.block(segment, block).unwrap_or(block)
            }
            _ => block,
        };
        Some((file, self.blocks.iter().map(|(a, b)| (whole(*a), whole(*b))).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_and_blocks_are_asked_about() {
        let asked = line(b"base/16384/99454 335458 5,7..9").expect("a path and blocks");
        assert_eq!(asked.blocks, [(335_458, 335_458), (5, 5), (7, 9)]);
        let within = line(b"\"base/16384/99454.2\" 73314 335458").expect("a path and blocks");
        let (file, blocks) = within.places(Geometry::default()).expect("a path");
        assert_eq!(
            (file.to_string().as_str(), blocks),
            ("base/16384/99454", vec![(335_458, 335_458); 2])
        );
        for other in
            [&b"base/5/1 x"[..], b"base/5", b"pg_dump: error", b"", b"base/5/1 -1", b"\xff"]
        {
            assert_eq!(line(other), None);
        }
    }
}
