//! What is shown while a run goes on: the log and the progress, on stderr.

use crate::cli::{LogFormat, ShowingArgs, When};
use crate::progress::Progress;
use crate::report::{grouped, sized};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

/// How often a bar is drawn, and how often a line is written where there is no
/// terminal.
const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Fields of log lines for programs: the words of the line say the same.
const FOR_PROGRAMS: [&str; 4] = ["event", "relation", "status", "exit_code"];

/// The bar, which log lines must not tear.
#[derive(Clone)]
pub struct Shown {
    bar: Option<ProgressBar>,
}

impl Shown {
    /// Sets up the log, and the bar if there is to be one.
    pub fn begin(args: &ShowingArgs, progress: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let shown = Self { bar: (progress && terminal).then(bar) };
        let level = match args.verbose {
            0 => "warn",
            1 => "info",
            2 => "debug",
            _ => "trace",
        };
        let filter = EnvFilter::try_from_env("PG_SALVAGE_LOG")
            .unwrap_or_else(|_| EnvFilter::new(format!("pg_salvage={level}")));
        let colour = match args.color {
            When::Always => true,
            When::Never => false,
            When::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        };
        let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(shown.clone());
        // A second log in one process (in tests) is no reason to fail.
        let _ = match args.log_format {
            LogFormat::Text => {
                let log = log.with_ansi(colour).with_target(false);
                log.fmt_fields(debug_fn(write_field)).try_init()
            }
            LogFormat::Json => log.json().try_init(),
        };
        shown
    }

    /// Shows the progress until the task is aborted.
    pub async fn follow(self, progress: Arc<Progress>, lines: bool) {
        let begun = Instant::now();
        loop {
            match &self.bar {
                Some(bar) => {
                    tokio::time::sleep(BAR_EVERY).await;
                    bar.set_length(progress.blocks.load(Relaxed).max(1));
                    bar.set_position(progress.blocks_done.load(Relaxed));
                    bar.set_message(line(&progress, begun.elapsed()));
                }
                None => {
                    tokio::time::sleep(LINE_EVERY).await;
                    if lines {
                        let elapsed = begun.elapsed();
                        let (share, line) = (share(&progress, elapsed), line(&progress, elapsed));
                        let text = format!("{share}: {line}\n");
                        // Nothing is lost when nobody reads it.
                        let _ = std::io::stderr().write_all(text.as_bytes());
                    }
                }
            }
        }
    }

    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A field of a log line as text, without characters that steer a terminal.
fn write_field(
    out: &mut Writer<'_>,
    field: &tracing::field::Field,
    value: &dyn std::fmt::Debug,
) -> std::fmt::Result {
    let steers = |c: char| c.is_control() && c != '\n' && c != '\t';
    let value = format!("{value:?}").replace(steers, "\u{fffd}");
    match field.name() {
        "message" => write!(out, "{value}"),
        name if FOR_PROGRAMS.contains(&name) => Ok(()),
        name => write!(out, " {name}={value}"),
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(1);
    let style = ProgressStyle::with_template("{percent:>3}% {bar:20} ETA {eta} {wide_msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// What a bar does not show: rows, bytes, rate, relations, damage.
fn line(progress: &Progress, elapsed: Duration) -> String {
    let bytes = progress.bytes.load(Relaxed);
    let rate = u128::from(bytes) * 1000 / elapsed.as_millis().max(1);
    format!(
        "{} rows, {}, {}/s, {}/{} relations, {} damaged places",
        grouped(progress.rows.load(Relaxed)),
        sized(bytes),
        sized(u64::try_from(rate).unwrap_or(u64::MAX)),
        progress.relations_done.load(Relaxed),
        progress.relations.load(Relaxed),
        grouped(progress.damaged.load(Relaxed)),
    )
}

/// How much of the blocks is done, and how long the rest will take at the speed
/// so far.
fn share(progress: &Progress, elapsed: Duration) -> String {
    let done = progress.blocks_done.load(Relaxed);
    let all = progress.blocks.load(Relaxed).max(done).max(1);
    let percent = done * 100 / all;
    match elapsed.as_secs().checked_mul(all - done).and_then(|t| t.checked_div(done)) {
        Some(eta) => format!("{percent}%, ETA {}", human(eta)),
        None => format!("{percent}%"),
    }
}

/// 75 -> 1m15s
fn human(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

impl<'a> MakeWriter<'a> for Shown {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine { bar: self.bar.clone() }
    }
}

/// Writes a log line above the bar.
pub struct LogLine {
    bar: Option<ProgressBar>,
}

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // Nobody reads it any more? The reading goes on.
        let _ = match &self.bar {
            Some(bar) => bar.suspend(|| std::io::stderr().write_all(bytes)),
            None => std::io::stderr().write_all(bytes),
        };
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_by_what_was_done() {
        let progress = Progress::default();
        assert_eq!(share(&progress, Duration::from_secs(9)), "0%");
        progress.blocks.store(1000, Relaxed);
        progress.blocks_done.store(250, Relaxed);
        assert_eq!(share(&progress, Duration::from_secs(100)), "25%, ETA 5m00s");
        progress.blocks_done.store(1000, Relaxed);
        assert_eq!(share(&progress, Duration::from_secs(100)), "100%, ETA 0s");
        assert_eq!(human(7322), "2h02m");
    }
}
