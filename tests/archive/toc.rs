//! The bytes of tables of contents that real clients have written.

use super::{DB, client, succeeds};
use crate::kit::{Server, ServerOptions, Version, sample};
use pg_salvage::archive::Archive;

/// Changed bytes of a file, always the same ones.
fn changes(bytes: &[u8], times: u64) -> impl Iterator<Item = Vec<u8>> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).expect("below")
    };
    (0..times).map(move |i| {
        let mut changed = bytes.to_vec();
        let at = random(changed.len());
        match i % 3 {
            0 => changed[at] ^= 1 << random(8),
            1 => changed[at] = u8::try_from(random(256)).expect("a byte"),
            _ => changed.truncate(at),
        }
        changed
    })
}

#[tokio::test]
async fn what_pg_dump_wrote_is_written_back_as_it_was_and_nothing_makes_it_panic() {
    let server = Server::start(&Version::major(15), ServerOptions::default());
    sample::create(&server, DB, 1).await;
    for major in [15, 16, 18] {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("archive");
        let mut command = client("pg_dump", major, &server, DB);
        command.args(["-Fd", "-f"]).arg(&dir);
        succeeds(command);
        let bytes = std::fs::read(dir.join("toc.dat")).expect("a table of contents");
        let archive = Archive::read(&bytes).expect("it is read");
        assert!(archive.entries.len() > 100, "{major}: {}", archive.entries.len());
        assert!(archive.write() == bytes, "{major}: other bytes are written");
        let mut refused = 0;
        for changed in changes(&bytes, 600) {
            match Archive::read(&changed) {
                Ok(archive) => assert!(archive.write() == changed, "{major}: read otherwise"),
                Err(_) => refused += 1,
            }
        }
        assert!(refused > 200, "{major}: {refused} were refused");
    }
}
