//! Manual pages and completions for shells, made of the command line itself.

use super::Cli;
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use std::io;
use std::path::PathBuf;

const SECTION: &str = "1";

pub(super) const MAN_EXAMPLES: &str = "\
Example:
  pg_salvage man /usr/local/share/man/man1";

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  pg_salvage completions bash > /etc/bash_completion.d/pg_salvage
  pg_salvage completions zsh > /usr/local/share/zsh/site-functions/_pg_salvage
  pg_salvage completions fish > ~/.config/fish/completions/pg_salvage.fish";

pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it could not be done: wrong option, output not writable";

#[derive(Args, Debug)]
pub struct ManArgs {
    /// Directory that the pages are written to, which must be there
    pub dir: PathBuf,
}

#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsArgs {
    /// The script for the shell.
    pub fn script(&self) -> Vec<u8> {
        let (mut command, mut script) = (Cli::command(), Vec::new());
        clap_complete::generate(self.shell, &mut command, "pg_salvage", &mut script);
        script
    }
}

/// A page for the program, and one for each command: file names and contents.
pub fn manual() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut all = Cli::command().disable_help_subcommand(true);
    all.build();
    let commands = all.get_subcommands().cloned().collect::<Vec<_>>();
    std::iter::once(all).chain(commands).map(page).collect()
}

fn page(mut command: Command) -> io::Result<(String, Vec<u8>)> {
    let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let is_program = command.has_subcommands();
    let usage = command.render_usage().to_string();
    let name = command.get_display_name().unwrap_or("pg_salvage").to_owned();
    let man = Man::new(command);
    let mut out = Vec::new();
    head(&name).to_writer(&mut out)?;
    man.render_name_section(&mut out)?;
    synopsis(usage.strip_prefix("Usage: ").unwrap_or(&usage)).to_writer(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if is_program {
        man.render_subcommands_section(&mut out)?;
    }
    sections(&after).to_writer(&mut out)?;
    Ok((format!("{name}.{SECTION}"), tidied(&String::from_utf8_lossy(&out)).into_bytes()))
}

fn head(name: &str) -> Roff {
    let (name, today) = (name.to_uppercase(), jiff::Timestamp::now().strftime("%Y-%m-%d"));
    let (today, source) = (today.to_string(), format!("pg_salvage {}", env!("CARGO_PKG_VERSION")));
    let mut roff = Roff::new();
    roff.control("TH", [name.as_str(), SECTION, &today, &source]);
    roff
}

fn synopsis(usage: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]).text([roman(usage)]);
    roff
}

/// Without what is said again for each section, and with paragraphs as `mandoc
/// -T lint` wants them.
fn tidied(page: &str) -> String {
    let mut lines: Vec<&str> = Vec::new();
    for line in page.lines().map(str::trim_end) {
        let is_again = line.contains(".ds Aq ") && lines.contains(&line);
        match lines.as_slice() {
            _ if is_again => {}
            [.., ".br", ""] if line == ".br" => {
                lines.truncate(lines.len() - 2);
                lines.push(".sp");
            }
            _ => lines.push(line),
        }
    }
    lines.join("\n") + "\n"
}

/// What follows the options in the help, each part under its own heading and as
/// it is laid out there.
fn sections(after: &str) -> Roff {
    let mut roff = Roff::new();
    for part in after.split("\n\n") {
        let (heading, text) = part.split_once(":\n").unwrap_or(("NOTES", part));
        let heading = match heading {
            // Of what the command does without more options.
            codes if codes.starts_with("Exit codes") && !codes.contains("--") => {
                "EXIT STATUS".to_owned()
            }
            "Example" => "EXAMPLES".to_owned(),
            other => other.to_uppercase(),
        };
        roff.control("SH", [heading.as_str()]).control("nf", []);
        for line in text.lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_examples_and_exit_codes() {
        let pages = manual().unwrap();
        let commands = Cli::command().get_subcommands().count();
        assert_eq!(pages.len(), commands + 1);
        for (name, page) in &pages {
            let page = String::from_utf8(page.clone()).unwrap();
            assert!(name.starts_with("pg_salvage") && name.ends_with(".1"), "{name}");
            for section in ["NAME", "SYNOPSIS", "OPTIONS", "\"EXIT STATUS\""] {
                assert!(page.contains(&format!(".SH {section}\n")), "{name}: {section}");
            }
            let is_program = name == "pg_salvage.1";
            assert!(is_program || page.contains(".SH EXAMPLES\n"), "{name}");
        }
    }

    #[test]
    fn every_shell_gets_a_script_that_knows_the_commands() {
        use clap::ValueEnum;
        for &shell in Shell::value_variants() {
            let script = String::from_utf8(CompletionsArgs { shell }.script()).unwrap();
            for command in ["dump", "verify", "inspect"] {
                assert!(script.contains(command), "{shell}: {command}");
            }
        }
    }
}
