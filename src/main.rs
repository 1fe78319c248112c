//! The binary: reads the command line, runs the command, prints, and exits with
//! a code that tells damage from trouble.

use clap::Parser;
use pg_salvage::cli::{Cli, Command, DiffArgs, ReportArgs, ShowingArgs, manual};
use pg_salvage::progress::Progress;
use pg_salvage::report::side::Side;
use pg_salvage::restore::{self, Outcome};
use pg_salvage::run::{RunOptions, run};
use pg_salvage::server::connect::Target;
use pg_salvage::server::session::Timeouts;
use pg_salvage::show::Shown;
use pg_salvage::{compare, inspect, list, locate, nightly, report, verify};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// It could not be done. (Of a run 0, 2 and 3 come from the manifest.)
const EXIT_TROUBLE: u8 = 1;
const EXIT_DAMAGE: u8 = 2;
const EXIT_INCOMPLETE: u8 = 3;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    if let Some(dir) = verify::directory_to_read() {
        return read_for_others(&dir);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // clap would exit with 2, which means damage here.
        Err(e) => {
            let code = if e.use_stderr() { EXIT_TROUBLE } else { 0 };
            let _ = e.print();
            return ExitCode::from(code);
        }
    };
    if matches!(cli.command, Command::Dump(_) | Command::Verify(_)) {
        be_a_batch_job();
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(e) => return trouble(&e),
    };
    match runtime.block_on(command(cli.command)) {
        Ok(code) => ExitCode::from(code),
        Err(e) => trouble(e.as_ref()),
    }
}

/// What another process of ours asks for. Who tells all processes of a service to stop
/// means that one, which has it finish what it has begun: we end when it does.
fn read_for_others(dir: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    // From then on the signal does nothing here, whatever becomes of this.
    let _interrupts = runtime.as_ref().map(|runtime| {
        let _entered = runtime.enter();
        signal(SignalKind::interrupt())
    });
    verify::read_for_others(dir, std::io::stdin().lock(), std::io::stdout().lock());
    ExitCode::SUCCESS
}

/// For those that take in what a server makes. That comes in pieces of 8 kB, and who
/// wakes up for each takes the processor from the server that makes the next ones.
/// The threads of a batch job do not: they have it where it is free, or when it is
/// their turn. Whoever started us in another way has decided otherwise; and where it
/// may not be it costs time only.
fn be_a_batch_job() {
    use uapi::{c, sched_getparam, sched_getscheduler, sched_setscheduler};
    if sched_getscheduler(0) == Ok(c::SCHED_OTHER)
        && let Ok(unchanged) = sched_getparam(0)
    {
        let _ = sched_setscheduler(0, c::SCHED_BATCH, &unchanged);
    }
}

/// One line, and the exit code.
fn trouble(error: &dyn std::error::Error) -> ExitCode {
    let line = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    let _ = writeln!(std::io::stderr(), "pg_salvage: error: {line}");
    ExitCode::from(EXIT_TROUBLE)
}

async fn command(command: Command) -> Result<u8, Failure> {
    match command {
        Command::Dump(args) => {
            let (target, options) = args.meant()?;
            read(target, options, &args.showing, args.progress()).await
        }
        Command::Verify(args) => {
            let (target, options) = args.meant()?;
            let work = |progress| nightly::verify(target, options, progress);
            let report = shown(&args.showing, args.progress(), work).await?;
            print(&report::render(&report, args.format, args.showing.verbose > 0));
            for (form, path) in &args.output {
                report::write(&report, *form, true, Some(path))?;
            }
            Ok(report.exit_code)
        }
        Command::Restore(args) => {
            let (target, options) = args.meant()?;
            restore(target, options, &args.showing, args.progress()).await
        }
        Command::Locate(args) => {
            Shown::begin(&args.showing, false);
            let (target, options) = args.meant()?;
            let located = locate::locate(target.as_ref(), &options).await?;
            print(&if args.json { located.json() } else { located.text(args.showing.verbose > 0) });
            Ok(if located.is_damage() { EXIT_DAMAGE } else { 0 })
        }
        Command::Inspect(args) => {
            Shown::begin(&args.showing, false);
            let (target, options) = args.meant()?;
            let page = inspect::inspect(target.as_ref(), &options).await?;
            let colour = args.colour(std::io::stdout().is_terminal());
            print(&if args.json { page.json() } else { page.text(colour) });
            Ok(if page.is_damaged() { EXIT_DAMAGE } else { 0 })
        }
        Command::List(args) => {
            Shown::begin(&args.showing, false);
            let (target, selection) = args.meant()?;
            let timeouts = Timeouts { statement_ms: 0, lock_ms: 1000, read_ms: 60_000 };
            print(&list::list(&target, &selection, timeouts).await?);
            Ok(0)
        }
        Command::Report(args) => report_again(&args).await,
        Command::Man(args) => write_manual(&args.dir),
        Command::Completions(args) => {
            print(&String::from_utf8_lossy(&args.script()));
            Ok(0)
        }
    }
}

/// Of a run that is over; or what two are to each other.
async fn report_again(args: &ReportArgs) -> Result<u8, Failure> {
    if let Some(runs) = args.diff.runs() {
        Shown::begin(&args.showing, false);
        return diff(runs, &args.diff).await;
    }
    let (form, verbose) = (&args.form, args.showing.verbose > 0);
    let source = args.source.as_deref().unwrap_or(Path::new(""));
    let shown = report::command::report(source, form.format, verbose, form.output.as_deref())?;
    shown.text.iter().for_each(|text| print(text));
    Ok(shown.exit_code)
}

fn write_manual(dir: &Path) -> Result<u8, Failure> {
    for (name, page) in manual()? {
        let path = dir.join(name);
        std::fs::write(&path, page)
            .map_err(|e| format!("could not write \"{}\": {e}", path.display()))?;
    }
    Ok(0)
}

/// What is different between two runs and, if that is asked, in which rows.
async fn diff((a, b): (&Path, &Path), args: &DiffArgs) -> Result<u8, Failure> {
    let found = report::diff::diff(Side::read(a)?, Side::read(b)?);
    let rows = match args.of_rows()? {
        Some(options) => Some(compare::compare(&found, &options).await?),
        None => None,
    };
    let code = rows.as_ref().map_or(found.exit_code, |rows| compare::exit_code(&found, rows));
    match args.json {
        true => {
            let mut json = serde_json::to_value(&found)?;
            json["exit_code"] = code.into();
            if let Some(rows) = rows {
                json["rows"] = serde_json::to_value(rows)?;
            }
            print(&format!("{}\n", serde_json::to_string_pretty(&json)?));
        }
        false => {
            print(&report::diff::text(&found));
            print(&compare::text(&rows.unwrap_or_default()));
        }
    }
    Ok(code)
}

/// Shows how the work goes on, and stops it on Ctrl-C.
async fn shown<T>(
    showing: &ShowingArgs,
    show_progress: bool,
    work: impl AsyncFnOnce(Arc<Progress>) -> T,
) -> T {
    let shown = Shown::begin(showing, show_progress);
    let progress = Arc::new(Progress::default());
    let follower = tokio::spawn(shown.clone().follow(progress.clone(), show_progress));
    let interrupts = tokio::spawn(interrupts(progress.clone()));
    let result = work(progress).await;
    follower.abort();
    interrupts.abort();
    shown.end();
    result
}

async fn restore(
    target: Target,
    options: restore::RestoreOptions,
    showing: &ShowingArgs,
    show_progress: bool,
) -> Result<u8, Failure> {
    let folder = options.folder().display().to_string();
    let work = |progress| restore::restore(target, options, progress);
    match shown(showing, show_progress, work).await? {
        Outcome::Plan(text) => {
            print(&text);
            Ok(0)
        }
        Outcome::Restored(restored) => {
            print(&restore::text(&restored, &folder, showing.verbose > 0));
            Ok(restored.exit_code)
        }
    }
}

async fn read(
    target: Target,
    options: RunOptions,
    showing: &ShowingArgs,
    show_progress: bool,
) -> Result<u8, Failure> {
    let dir = options.dir.as_ref().map(|d| d.display().to_string());
    let manifest = shown(showing, show_progress, |progress| run(target, options, progress)).await?;
    print(&report::text(&manifest, dir.as_deref(), showing.verbose > 0));
    Ok(manifest.exit_code)
}

/// The first Ctrl-C finishes what is in flight, the second leaves at once.
async fn interrupts(progress: Arc<Progress>) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    for again in [false, true] {
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
        if again {
            std::process::exit(i32::from(EXIT_INCOMPLETE));
        }
        tracing::warn!("stopping after what is under way; once more to leave at once");
        progress.end();
    }
}

/// A reader that went away is no trouble of ours.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}
