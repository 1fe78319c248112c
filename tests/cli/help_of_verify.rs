//! The help of `verify`, as it is printed.

use super::help::assert_help;
use expect_test::expect;

#[test]
fn help_of_verify() {
    assert_help(
        &["verify"],
        &expect![[r#"
            Read everything, keep nothing, report

            Usage: pg_salvage verify [OPTIONS] [DBNAME]

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
              -a, --all
                      All databases, and what they share

            Level:
                  --pages           Look at the pages of all files only: checksums and
                                    structure of tables, indexes, TOAST, sequences, catalogs
                                    and their maps
                  --rows            Pages, where the role may read files, and then all rows
                                    [default]
                  --amcheck         Check tables and b-trees by the functions of the
                                    extension amcheck, where it is installed in the
                                    database: verify_heapam (PostgreSQL 14 and later),
                                    bt_index_check, gin_index_check (18). Nothing is
                                    installed
                  --heapallindexed  Look for each row of a table in its b-trees, too: that
                                    reads every table once for each index
                  --rootdescend     Look for each entry of a b-tree from its root, too:
                                    nobody can write to its table meanwhile; not on a
                                    standby
                  --no-pages        Leave pages out
                  --pgdata <DIR>    Read the files there, without the server: its data
                                    directory, on this host. It is found by itself by who
                                    may read it and connects by a Unix socket
                  --no-pgdata       Have the server read its files and send them, wherever
                                    they are
                  --offline         The server is down: look at the files of all its
                                    databases, by their paths

            Window:
                  --max-duration <DURATION>
                      Begin nothing more after so long, and say what was not reached
                  --max-rate <SIZE>
                      Read so many bytes per second at most, all connections together
                  --since-last-ok <FILE>
                      Keep in FILE when each relation was last found clean, and begin with
                      those of which that is longest ago
                  --max-age <DURATION>
                      Exit with 3 if a relation was not found clean for so long

            Baseline:
                  --baseline <FILE>      Compare with an earlier report (JSON); none there
                                         is no error
                  --only-new             Exit with 2 only if there is damage that the
                                         baseline does not have
                  --rows-fell <PERCENT>  Say where rows are fewer than in the baseline by
                                         more than so many percent [default: 10]

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

            Output:
                  --format <FORM>  Form of the report that is printed: text, json, csv,
                                   junit, openmetrics or html [default: text]
              -o, --output <FILE>  Write the report to FILE, too, in the form that its name
                                   asks for: .txt, .json, .csv, .xml (JUnit), .prom
                                   (OpenMetrics) or .html; as often as wanted

            Examples:
              pg_salvage verify -d shop -j 2
              pg_salvage verify -d shop --pages -j 2 -P
              pg_salvage verify -a --amcheck --format json
              pg_salvage verify -a --amcheck --max-duration 4h --max-rate 50MB \
                  --since-last-ok /var/lib/pg_salvage/state.json \
                  --baseline /var/lib/pg_salvage/last.json -o /var/lib/pg_salvage/last.json

            Exit codes:
              0  everything was read, and no damage was seen
              1  it could not be done: wrong option, no connection, output not writable
              2  the run is complete, and found damage
              3  the run is incomplete: stopped, or something could not be looked at;
                 dump --resume goes on with it
        "#]],
    );
}
