//! The help of the program and of each command, as it is printed.

use crate::binary::run;
use expect_test::{Expect, expect};

/// `--help`, `-?` and `help` all say the same.
pub(super) fn assert_help(command: &[&str], expected: &Expect) {
    let printed = |words: Vec<&str>| {
        let ran = run(&words);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{words:?}");
        ran.stdout
    };
    let help = printed([command, &["--help"]].concat());
    assert_eq!(help, printed([command, &["-?"]].concat()));
    assert_eq!(help, printed([&["help"], command].concat()));
    assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
    expected.assert_eq(&help);
}

#[test]
fn help() {
    assert_help(
        &[],
        &expect![[r#"
            Reads every table of a damaged PostgreSQL database, and names what is lost

            Usage: pg_salvage <COMMAND>

            Commands:
              dump         Read every table into its own compressed file, damage or not
              verify       Read everything, keep nothing, report
              restore      Load a dump into a database, around the rows that it does not
                           take
              locate       What logs say of damage: which relation and file, and what to do
              inspect      One page: header, checksum, line pointers, tuples, bytes
              list         What a dump would read, with sizes and risks
              report       Show the report of a run again, for people or for programs, or
                           compare two
              man          Write manual pages, one for each command
              completions  Print a script that completes commands and options in a shell
              help         Print this message or the help of the given subcommand(s)

            Options:
              -?, --help     Print help
              -V, --version  Print version

            Exit codes:
              0  everything was read, and no damage was seen
              1  it could not be done: wrong option, no connection, output not writable
              2  the run is complete, and found damage
              3  the run is incomplete: stopped, or something could not be looked at;
                 dump --resume goes on with it
        "#]],
    );
}

#[test]
fn help_of_dump() {
    assert_help(
        &["dump"],
        &expect![[r#"
            Read every table into its own compressed file, damage or not

            Usage: pg_salvage dump [OPTIONS] --file <DIR> [DBNAME]

            Options:
              -?, --help  Print help

            Connection:
              -h, --host <HOSTNAME>      Server host or socket directory
              -p, --port <PORT>          Server port
              -U, --username <USERNAME>  User to connect as
              -d, --dbname <DBNAME>      Database: a name, a connection string or a URI
              -w, --no-password          Never ask for a password
              -W, --password             Ask for a password before connecting
              [DBNAME]                   The same, as pg_dump takes it

            Selection:
              -n, --schema <PATTERN>
                      Only schemas that match the pattern
              -N, --exclude-schema <PATTERN>
                      No schemas that match the pattern
              -t, --table <PATTERN>
                      Only tables, views, sequences that match the pattern
              -T, --exclude-table <PATTERN>
                      None that match the pattern
              -b, --large-objects
                      Large objects too, although schemas or tables were chosen
                  --strict-names
                      Every pattern of -n and -t must match something

            Reading:
              -j, --jobs <N>
                      Read with so many connections [default: 1]
                  --split-size <SIZE>
                      Read larger relations in ranges of blocks, by several connections
                      [default: 1GB; with -j less, where one relation is much of all]
                  --statement-timeout <DURATION>
                      End a read after so long, and read less at a time; 0: never [default:
                      0]
                  --read-timeout <DURATION>
                      End a read when no byte came for so long, and read less at a time; 0:
                      never. A gigabyte of dead rows is silent for minutes on a slow disk
                      [default: 5min]
                  --lock-timeout <DURATION>
                      Wait for a lock for so long at a time; 0: for ever [default: 10s]
                  --max-crashes <N>
                      When the server went down so often, read nothing again that may be
                      why; once more, and the run stops [default: 3]
                  --crash-wait <DURATION>
                      Wait for a server that went down for so long [default: 10min]
                  --check-counts [<WHEN>]
                      Count rows by index-only scans, too: auto does so once damage was seen
                      [possible values: auto, always, never]
                  --fail-fast
                      Stop at the first damage

            Messages:
              -P, --progress
                      Show progress: a bar on a terminal, else lines
              -v, --verbose...
                      Say more; twice: every read
                  --log-format <LOG_FORMAT>
                      Form of the log on stderr [default: text] [possible values: text,
                      json]
                  --color <COLOR>
                      Colour in the log (NO_COLOR turns it off, too) [default: auto]
                      [possible values: auto, always, never]

            Damaged pages:
                  --check-pages <WHEN>
                      Look at pages as bytes before they are read, and leave out what could
                      take the server down: auto does so once it went down [default: auto]
                      [possible values: auto, always, never]
                  --raw-rows <WHEN>
                      Decode rows of pages that the server refuses from the pages' bytes,
                      where the role may read files; they are suspect [default: auto]
                      [possible values: auto, never]
                  --ignore-checksum-failure
                      Read pages whose checksums are wrong, too, after an image of each was
                      saved; their rows are suspect
                  --zero-damaged-pages
                      Accepted, and not used: damaged pages are skipped anyway, and every
                      session of the server would get the zeros
                  --allow-on-primary
                      Do so on a primary, too, where it changes evidence, not on a standby
                      only

            Schema:
                  --pg-dump <PATH>  Ask this pg_dump for the schema, and not the newest that
                                    is found
                  --no-schema       Leave the schema out; pg_restore cannot load the dump
                                    then

            Output:
              -f, --file <DIR>
                      Directory to write to; it must not exist, or be empty
                  --resume
                      Go on with what an earlier run has left in DIR, whatever ended it
              -Z, --compress <METHOD[:LEVEL]>
                      Compression: zstd, gzip, lz4 or none, with a level if wanted [default:
                      zstd]
                  --no-sync
                      Do not wait for files to be written safely to disk
                  --min-free <SIZE>
                      Leave so much of the file system free: do not begin where there is
                      less, and stop before; 0: fill it [default: 100MB]

            Examples:
              pg_salvage dump -d shop -f /backup/shop -j 4
              pg_salvage dump -h db1 -U postgres -d shop -f out -t 'public.order*' -Z gzip:6
              pg_salvage dump -d 'host=db1 dbname=shop sslmode=verify-full' -f out -v
              pg_salvage dump -d shop -f /backup/shop -j 4 --resume

            Exit codes:
              0  everything was read, and no damage was seen
              1  it could not be done: wrong option, no connection, output not writable
              2  the run is complete, and found damage
              3  the run is incomplete: stopped, or something could not be looked at;
                 dump --resume goes on with it
        "#]],
    );
}

#[test]
fn help_of_list() {
    assert_help(
        &["list"],
        &expect![[r#"
            What a dump would read, with sizes and risks

            Usage: pg_salvage list [OPTIONS] [DBNAME]

            Options:
              -?, --help  Print help

            Connection:
              -h, --host <HOSTNAME>      Server host or socket directory
              -p, --port <PORT>          Server port
              -U, --username <USERNAME>  User to connect as
              -d, --dbname <DBNAME>      Database: a name, a connection string or a URI
              -w, --no-password          Never ask for a password
              -W, --password             Ask for a password before connecting
              [DBNAME]                   The same, as pg_dump takes it

            Selection:
              -n, --schema <PATTERN>
                      Only schemas that match the pattern
              -N, --exclude-schema <PATTERN>
                      No schemas that match the pattern
              -t, --table <PATTERN>
                      Only tables, views, sequences that match the pattern
              -T, --exclude-table <PATTERN>
                      None that match the pattern
              -b, --large-objects
                      Large objects too, although schemas or tables were chosen
                  --strict-names
                      Every pattern of -n and -t must match something

            Messages:
              -v, --verbose...
                      Say more; twice: every read
                  --log-format <LOG_FORMAT>
                      Form of the log on stderr [default: text] [possible values: text,
                      json]
                  --color <COLOR>
                      Colour in the log (NO_COLOR turns it off, too) [default: auto]
                      [possible values: auto, always, never]

            Example:
              pg_salvage list -d shop -N 'tmp*'

            Exit codes:
              0  everything was read, and no damage was seen
              1  it could not be done: wrong option, no connection, output not writable
              2  the run is complete, and found damage
              3  the run is incomplete: stopped, or something could not be looked at;
                 dump --resume goes on with it
        "#]],
    );
}

#[test]
fn every_help_has_the_exit_codes() {
    for command in ["dump", "verify", "list", "report"] {
        let help = run([command, "--help"]).stdout;
        assert!(run(["--help"]).stdout.contains(command));
        for code in 0..=3 {
            assert!(help.contains(&format!("\n  {code}  ")), "{command}: {code}");
        }
    }
}

#[test]
fn locate_and_inspect_have_help_of_their_own() {
    for command in ["locate", "inspect"] {
        let help = run([command, "--help"]).stdout;
        assert_eq!(help, run(["help", command]).stdout);
        assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
        assert!(run(["--help"]).stdout.contains(command));
        for code in 0..=2 {
            assert!(help.contains(&format!("\n  {code}  ")), "{command}: {code}");
        }
    }
}
