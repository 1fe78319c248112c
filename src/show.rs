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

/// How often a bar is drawn, and how often a line is written where there is no
/// terminal.
const BAR_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(5);

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
            LogFormat::Text => log.with_ansi(colour).with_target(false).try_init(),
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
                        let text = format!("{}\n", line(&progress, begun.elapsed()));
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

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(1);
    let style = ProgressStyle::with_template("{percent:>3}% {bar:20} ETA {eta} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// One line of progress.
fn line(progress: &Progress, elapsed: Duration) -> String {
    let bytes = progress.bytes.load(Relaxed);
    let rate = u128::from(bytes) * 1000 / elapsed.as_millis().max(1);
    let done = progress.blocks_done.load(Relaxed);
    let all = progress.blocks.load(Relaxed).max(1);
    format!(
        "{}/{} relations, {} of the blocks, {} rows, {}, {}/s, {} damaged places",
        progress.relations_done.load(Relaxed),
        progress.relations.load(Relaxed),
        format_args!("{}%", done * 100 / all),
        grouped(progress.rows.load(Relaxed)),
        sized(bytes),
        sized(u64::try_from(rate).unwrap_or(u64::MAX)),
        grouped(progress.damaged.load(Relaxed)),
    )
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
        match &self.bar {
            Some(bar) => bar.suspend(|| std::io::stderr().write(bytes)),
            None => std::io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}
