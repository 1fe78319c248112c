//! Random damage: bits turned over anywhere in some files.

use super::Server;
use super::page_edit::BLOCK_SIZE;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flip {
    /// Inside the data directory, as it was given.
    pub path: String,
    pub block: u32,
    /// Within the block.
    pub offset: usize,
    pub bit: u8,
}

/// Turns over `n` bits in these files of a stopped server. The same seed and
/// files give the same damage.
pub fn random_flips(server: &Server, seed: u64, n: usize, paths: &[&str]) -> Vec<Flip> {
    assert!(server.pid().is_none(), "files are changed under a stopped server only");
    let mut random = Random(seed);
    (0..n).map(|_| flip(server, &mut random, paths)).collect()
}

fn flip(server: &Server, random: &mut Random, paths: &[&str]) -> Flip {
    let path = paths[random.below(paths.len())];
    let file = OpenOptions::new().read(true).write(true).open(server.data_dir().join(path));
    let file = file.unwrap_or_else(|error| panic!("{path}: {error}"));
    let length = usize::try_from(file.metadata().expect("a file").len()).expect("a small file");
    let at = random.below(length);
    let bit = 1_u8 << random.below(8);
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64).expect("a byte");
    file.write_all_at(&[byte[0] ^ bit], at as u64).expect("a byte is written");
    let block = u32::try_from(at / BLOCK_SIZE).expect("one segment");
    Flip { path: path.to_owned(), block, offset: at % BLOCK_SIZE, bit }
}

/// splitmix64: enough to scatter damage, and no crate needed.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("below a usize")
    }
}
