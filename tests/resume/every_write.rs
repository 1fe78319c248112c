//! The program is ended at each of its writes, syncs, renames and removals, one
//! after the other (or at one in 23, unless all is to be tried), as by kill -9
//! and as by a loss of power.

use super::*;
use crate::kit::version::is_wide;

const HARMS: [(&str, Harm); 3] = [
    ("tuple", Harm::CompressedGarbage),
    ("page", Harm::BadPageHeader),
    ("toast", Harm::ToastChunkSequence),
];

/// More writes than such a run has: the enumeration must come to an end.
const WRITES_MAX: u64 = 2000;

#[tokio::test(flavor = "multi_thread")]
async fn ended_at_any_write_a_run_is_gone_on_with() {
    let server = damaged(&Version::newest(), &HARMS).await;
    let whole = tempfile::tempdir().expect("a directory");
    let out = run(&server, whole.path(), &["-j3"], &[]);
    assert_eq!(out.status.code(), Some(2), "{}", said(&out));
    let whole = Dumped::read(whole, said(&out));
    let every = if is_wide() { 1 } else { 23 };
    for (how, jobs) in [("kill", "-j1"), ("power", "-j3")] {
        let mut ended = 0;
        // Each run is ended twice at places that go through all of them.
        for n in (1..WRITES_MAX).step_by(every) {
            let at = format!("{how} at {n} with {jobs}");
            let dir = tempfile::tempdir().expect("a directory");
            let die =
                |n: u64| [("PG_SALVAGE_DIE_AT", n.to_string()), ("PG_SALVAGE_DIE_HOW", how.into())];
            let first = run(&server, dir.path(), &[jobs], &die(n));
            if first.status.code().is_some() {
                assert_eq!(first.status.code(), Some(2), "{at}: {}", said(&first));
                break;
            }
            ended += 1;
            let again = run(&server, dir.path(), &[jobs, "--resume"], &die(1 + n % 23));
            if again.status.code().is_none() {
                ended += 1;
            }
            let last = run(&server, dir.path(), &[jobs, "--resume"], &[]);
            assert_eq!(last.status.code(), Some(2), "{at}: {}", said(&last));
            let dumped =
                Dumped::read(dir, format!("{at}: {}{}{}", said(&first), said(&again), said(&last)));
            check_same(&dumped, &whole, &at).await;
        }
        println!("{how}, {jobs}: ended {ended} times");
        assert!(ended > 12, "{how}: the writes were not found");
    }
    assert_eq!(server.stop(), Stop::Clean);
}
