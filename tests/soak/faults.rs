//! What happens while a run is under way.

use crate::kit::flips::Random;
use crate::kit::{Server, Stop};
use crate::soak::DB;
use crate::soak::base::Base;
use crate::soak::run::Child;
use rustix::process::{Pid, Signal, kill_process};
use std::time::Duration;
use tokio::time::sleep;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    // Of the program.
    Kill,
    DieAtWrite,
    LoseUnsynced,
    Interrupt,
    InterruptTwice,
    // Of the server.
    TerminateBackend,
    KillBackend,
    StopBackend,
    ImmediateRestart,
    FastRestart,
    LockTable,
    OthersWrite,
    // Of the way there, for all of a run.
    Cuts,
    Resets,
    NetworkAway,
    FewConnections,
    // Of the output.
    FullDisk,
    LowDisk,
}

use Fault::*;

impl Fault {
    pub const ALL: [Fault; 18] = [
        Kill,
        DieAtWrite,
        LoseUnsynced,
        Interrupt,
        InterruptTwice,
        TerminateBackend,
        KillBackend,
        StopBackend,
        ImmediateRestart,
        FastRestart,
        LockTable,
        OthersWrite,
        Cuts,
        Resets,
        NetworkAway,
        FewConnections,
        FullDisk,
        LowDisk,
    ];

    pub fn words(self) -> &'static str {
        match self {
            Kill => "kill -9 of the program",
            DieAtWrite => "the program ends at one of its writes, which is torn",
            LoseUnsynced => "the same, and what was not synced is lost",
            Interrupt => "Ctrl-C",
            InterruptTwice => "Ctrl-C twice",
            TerminateBackend => "pg_terminate_backend",
            KillBackend => "kill -9 of a backend: the server crashes",
            StopBackend => "SIGSTOP of a backend, with --read-timeout",
            ImmediateRestart => "immediate stop of the server, and start",
            FastRestart => "fast stop of the server, and start",
            LockTable => "a table is locked, with --lock-timeout",
            OthersWrite => "another transaction commits: later snapshots differ",
            Cuts => "connections are cut at random",
            Resets => "connections are reset at random",
            NetworkAway => "all connections are lost, and none are let in",
            FewConnections => "a role with too few connections",
            FullDisk => "the output disk is full",
            LowDisk => "the output disk is nearly full (--min-free)",
        }
    }

    /// Whether it is a matter of how the program is run, not of a moment.
    pub fn is_of_whole_run(self) -> bool {
        matches!(
            self,
            DieAtWrite
                | LoseUnsynced
                | Cuts
                | Resets
                | NetworkAway
                | FewConnections
                | FullDisk
                | LowDisk
        )
    }

    /// Whether the server stops, or goes down: not beside a crash of its own,
    /// and not twice at once.
    pub fn is_of_whole_server(self) -> bool {
        matches!(self, KillBackend | ImmediateRestart | FastRestart)
    }
}

/// Does it. Whether the program was under way, and there was something to do it
/// to.
pub async fn happen(fault: Fault, base: &Base, child: &Child, random: &mut Random) -> bool {
    if !child.is_running() {
        return false;
    }
    let pause = Duration::from_millis(random.below(1200) as u64);
    match fault {
        Kill => child.signal(Signal::KILL),
        Interrupt => child.signal(Signal::INT),
        InterruptTwice => {
            let once = child.signal(Signal::INT);
            sleep(pause / 20).await;
            child.signal(Signal::INT) && once
        }
        TerminateBackend => {
            let Some(pid) = backend(base, random).await else { return false };
            let Ok(client) = base.server.try_connect(DB).await else { return false };
            let sql = "SELECT pg_terminate_backend($1)";
            let done = client.query_one(sql, &[&pid]).await;
            done.is_ok_and(|row| row.get(0)) && child.is_running()
        }
        KillBackend => kill_backend(base, child, random).await,
        StopBackend => {
            let Some(pid) = backend(base, random).await else { return false };
            let hit = signal(pid, Signal::STOP) && child.is_running();
            sleep(pause + Duration::from_millis(300)).await;
            signal(pid, Signal::CONT);
            hit
        }
        ImmediateRestart | FastRestart => restart(base, child, fault == FastRestart, pause).await,
        LockTable => lock_table(base, child, pause, random).await,
        OthersWrite => {
            let Ok(client) = base.server.try_connect(DB).await else { return false };
            let written = client.batch_execute("SELECT txid_current()").await;
            written.is_ok() && child.is_running()
        }
        _ => unreachable!("{fault:?} is of a whole run"),
    }
}

/// The server stops, is away for a while, and starts.
async fn restart(base: &Base, child: &Child, fast: bool, pause: Duration) -> bool {
    let _alone = base.server_stops.lock().await;
    let hit = child.is_running();
    if hit {
        base.blocking(move |server| match fast {
            true => assert_ne!(server.stop(), Stop::Immediate),
            false => server.stop_now(),
        })
        .await;
        sleep(pause).await;
        base.blocking(Server::start_again).await;
    }
    hit
}

/// One of the program's backends, whatever it does.
async fn backend(base: &Base, random: &mut Random) -> Option<i32> {
    let client = base.server.try_connect(DB).await.ok()?;
    let sql = "SELECT pid FROM pg_stat_activity WHERE application_name = 'pg_salvage' ORDER BY 1";
    let found = client.query(sql, &[]).await.ok().filter(|rows| !rows.is_empty())?;
    Some(found[random.below(found.len())].get(0))
}

async fn kill_backend(base: &Base, child: &Child, random: &mut Random) -> bool {
    let _alone = base.server_stops.lock().await;
    let crashes = base.server.crashes();
    let Some(pid) = backend(base, random).await else { return false };
    let hit = signal(pid, Signal::KILL) && child.is_running();
    // It may have ended by itself.
    for _ in 0..50 {
        if base.server.crashes() > crashes {
            base.blocking(move |server| server.wait_crashes(crashes + 1)).await;
            return hit;
        }
        sleep(Duration::from_millis(10)).await;
    }
    false
}

async fn lock_table(base: &Base, child: &Child, pause: Duration, random: &mut Random) -> bool {
    let Ok(client) = base.server.try_connect(DB).await else { return false };
    let tables = ["large", "tuple", "toast", "well", "small1"];
    let table = tables[random.below(tables.len())];
    let sql = format!("SET lock_timeout = '1s'; BEGIN; LOCK TABLE {table}");
    let hit = client.batch_execute(&sql).await.is_ok() && child.is_running();
    sleep(pause + Duration::from_millis(200)).await;
    let _ = client.batch_execute("ROLLBACK").await;
    hit
}

fn signal(pid: i32, signal: Signal) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, signal).is_ok())
}
