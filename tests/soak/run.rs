//! One run of the program, with all that happens to it.

use crate::kit::flips::Random;
use crate::kit::proxy::Plan;
use crate::kit::{Cut, Proxy, Server, SmallDisk};
use crate::soak::base::Base;
use crate::soak::faults::{Fault, happen};
use crate::soak::tally::Tally;
use crate::soak::{DB, NARROW, PROGRAM};
use futures::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// A run that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// About as many writes as runs have, those that have much to do and others.
const WRITES: [usize; 3] = [20, 80, 250];

/// The program, under way.
pub struct Child(Mutex<std::process::Child>);

impl Child {
    pub fn is_running(&self) -> bool {
        self.0.lock().expect("no panic while locked").try_wait().is_ok_and(|code| code.is_none())
    }

    /// Whether it was there to get it.
    pub fn signal(&self, signal: Signal) -> bool {
        let mut child = self.0.lock().expect("no panic while locked");
        // Not taken in by `wait` yet, so the number is its own.
        if !child.try_wait().is_ok_and(|code| code.is_none()) {
            return false;
        }
        kill_process(Pid::from_child(&child), signal).is_ok()
    }

    /// Its exit code; none, if it was killed.
    async fn end(&self, at: &str) -> Option<i32> {
        let begun = Instant::now();
        while self.is_running() {
            assert!(begun.elapsed() < PATIENCE, "{at}: it hangs");
            sleep(Duration::from_millis(2)).await;
        }
        self.0.lock().expect("no panic while locked").wait().expect("it has ended").code()
    }
}

/// What stays the same for all runs into one directory.
pub struct Round<'a> {
    pub base: &'a Base,
    /// Seed, round and what happened, for whoever must repeat it.
    pub at: String,
    pub folder: &'a Path,
    pub split: &'static str,
    pub codec: &'static str,
    /// How long a run takes that nothing happens to.
    pub usual: Duration,
    pub runs: u32,
}

/// Whatever check fails: what had happened.
impl Drop for Round<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "IN THE SOAK, {}", self.at);
        }
    }
}

impl Round<'_> {
    /// One run with these faults into `dir`. Its exit code.
    pub async fn run(
        &mut self,
        dir: &Path,
        faults: &[Fault],
        random: &mut Random,
        tally: &mut Tally,
    ) -> Option<i32> {
        self.runs += 1;
        let has = |fault| faults.contains(&fault);
        let jobs = if has(Fault::FewConnections) { 4 } else { 1 + random.below(4) };
        let way = Way::choose(self.base, faults, random).await;
        let mut command = Command::new(PROGRAM);
        command.args([
            "dump",
            "--no-schema",
            "--raw-rows=never",
            "-v",
            "--resume",
            "--split-size",
            self.split,
            "-Z",
            self.codec,
        ]);
        command.args(["-d", &way.conninfo]).arg("-f").arg(dir).arg(format!("-j{jobs}"));
        command.args(self.limits(faults, random));
        if has(Fault::DieAtWrite) || has(Fault::LoseUnsynced) {
            let how = if has(Fault::LoseUnsynced) { "power" } else { "kill" };
            let writes = WRITES[random.below(WRITES.len())];
            let at = 1 + random.below(writes);
            command.env("PG_SALVAGE_DIE_AT", at.to_string()).env("PG_SALVAGE_DIE_HOW", how);
        }
        self.at += &format!("\n  run {}: -j{jobs} {faults:?}", self.runs);
        let said = File::create(self.said()).expect("a file");
        command.stdout(said.try_clone().expect("a file")).stderr(said).stdin(Stdio::null());
        let child = Child(Mutex::new(command.spawn().expect("the program starts")));
        let begun = Instant::now();
        let all = schedule(faults, random, self.usual).into_iter().map(|(after, fault)| {
            let (child, way, base) = (&child, &way, self.base);
            let mut random = Random(random.next());
            async move {
                while begun.elapsed() < after && child.is_running() {
                    sleep(Duration::from_millis(1)).await;
                }
                let hit = match &way.proxy {
                    Some(proxy) if fault == Fault::NetworkAway => {
                        let hit = child.is_running();
                        let time = Duration::from_millis(random.below(900) as u64);
                        proxy.go_away_for(time).await;
                        hit
                    }
                    _ => happen(fault, base, child, &mut random).await,
                };
                (after, fault, hit)
            }
        });
        for (after, fault, hit) in join_all(all).await {
            self.at += &format!("\n    after {after:?}: {fault:?}, hit: {hit}");
            tally.happened(fault, hit);
        }
        let code = child.end(&self.at).await;
        self.count(faults, &way, code, tally);
        tally.ended(code);
        self.at += &format!("\n    ended with {code:?} after {:?}", begun.elapsed());
        assert!(!self.text().contains("panicked"), "{}", self.at);
        if self.base.kills {
            sleep(Duration::from_millis(50)).await;
        }
        self.base.blocking(Server::wait_ready).await;
        code
    }

    fn said(&self) -> PathBuf {
        self.folder.join(format!("said.{}", self.runs))
    }

    pub fn text(&self) -> String {
        let bytes = std::fs::read(self.said()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn limits(&self, faults: &[Fault], random: &mut Random) -> Vec<String> {
        let has = |fault| faults.contains(&fault);
        let mut words = Vec::new();
        if faults.is_empty() {
            words.extend(["--max-crashes", "20"]);
        } else {
            let crashes = ["0", "1", "3", "20"][random.below(4)];
            let wait = ["200ms", "60s", "60s"][random.below(3)];
            words.extend(["--max-crashes", crashes, "--crash-wait", wait]);
        }
        if has(Fault::StopBackend) {
            words.extend(["--read-timeout", "400ms"]);
        }
        if has(Fault::LockTable) {
            words.extend(["--lock-timeout", "100ms"]);
        }
        words.extend(["--min-free", if has(Fault::LowDisk) { "16MB" } else { "0" }]);
        words.into_iter().map(str::to_owned).collect()
    }

    /// Faults that are there from the beginning: whether they hit is seen at the
    /// end.
    fn count(&self, faults: &[Fault], way: &Way, code: Option<i32>, tally: &mut Tally) {
        let said = self.text();
        for &fault in faults {
            let hit = match fault {
                Fault::DieAtWrite | Fault::LoseUnsynced => said.contains("died at"),
                Fault::Cuts | Fault::Resets => way.proxy.as_ref().is_some_and(|p| p.cuts() > 0),
                Fault::FewConnections => said.contains("too many connections"),
                Fault::FullDisk => code == Some(1) && said.contains("No space left"),
                Fault::LowDisk => said.contains("are free in directory"),
                _ => continue,
            };
            tally.happened(fault, hit);
        }
    }
}

/// When what happens: in a run of the usual length, or in a shorter one, since
/// the last of them have less to do.
fn schedule(faults: &[Fault], random: &mut Random, usual: Duration) -> Vec<(Duration, Fault)> {
    let is_of_a_moment = |f: &&Fault| !f.is_of_whole_run() || **f == Fault::NetworkAway;
    let usual = usual / [1, 2, 2, 4][random.below(4)];
    let micros = usize::try_from(usual.as_micros()).expect("a short time").max(1);
    let at = |&f: &Fault| (Duration::from_micros(random.below(micros) as u64), f);
    let mut all: Vec<_> = faults.iter().filter(is_of_a_moment).map(at).collect();
    all.sort();
    all
}

/// The way to the server.
struct Way {
    conninfo: String,
    proxy: Option<Proxy>,
}

impl Way {
    async fn choose(base: &Base, faults: &[Fault], random: &mut Random) -> Way {
        let user = if faults.contains(&Fault::FewConnections) { NARROW } else { "postgres" };
        let breaks = |f: &&Fault| matches!(f, Fault::Cuts | Fault::Resets | Fault::NetworkAway);
        let Some(fault) = faults.iter().find(breaks) else {
            let conninfo =
                base.server.conninfo(DB).replace("user=postgres", &format!("user={user}"));
            return Way { conninfo, proxy: None };
        };
        let least = 500_000 + random.below(4_000_000) as u64;
        let plan = Plan {
            cut: if *fault == Fault::Resets { Cut::Reset } else { Cut::Close },
            after: (*fault != Fault::NetworkAway).then_some((least, least * 3)),
            seed: random.next(),
        };
        let proxy = Proxy::start(&base.server, plan).await;
        Way { conninfo: proxy.conninfo(user, DB), proxy: Some(proxy) }
    }
}

/// A disk that is too small for what is to come, if one can be had.
pub fn small_disk(fault: Fault, random: &mut Random) -> Option<SmallDisk> {
    // Whether space is low is looked at once in 8 MB.
    let kb = match fault {
        Fault::LowDisk => 18 * 1024 + 4 * random.below(3000),
        _ => 64 + 4 * random.below(400),
    };
    SmallDisk::full_at(&format!("{kb}k"))
}
