//! The help of `report`, as it is printed.

use super::help::assert_help;
use expect_test::expect;

#[test]
fn help_of_report() {
    assert_help(
        &["report"],
        &expect![[r#"
            Show the report of a run again, for people or for programs, or compare two

            Usage: pg_salvage report [OPTIONS] [SOURCE]

            Arguments:
              [SOURCE]  Directory of a dump, its manifest.json, or a report as JSON
                        (verify.json)

            Options:
              -?, --help  Print help

            Output:
                  --format <FORM>  Form of the report: text for a terminal, json, csv for a
                                   spreadsheet, junit for CI, openmetrics for Prometheus,
                                   html for a browser or a mail [default: text]
              -o, --output <FILE>  Write it to FILE, which is replaced as a whole, instead
                                   of printing it

            Comparing two runs:
                  --diff <A> <B>      Which relations have other rows in A than in B: each a
                                      directory of a dump, a manifest.json or a verify.json
                  --keys              Find the rows that differ, by primary keys, in both
                                      databases as they are now
                  --source <CONNSTR>  The database of A (a connection string)
                  --target <CONNSTR>  The database of B
              -t, --table <PATTERN>   Only rows of tables that match the pattern, also of
                                      those that could not be compared
                  --range-rows <N>    Compare so many rows at a time [default: 10000]
                  --keys-to <DIR>     Write all keys that are found into this new directory,
                                      those of each table into a CSV file
                  --json              Print JSON

            Messages:
              -v, --verbose...
                      Say more; twice: every read
                  --log-format <LOG_FORMAT>
                      Form of the log on stderr [default: text] [possible values: text,
                      json]
                  --color <COLOR>
                      Colour in the log (NO_COLOR turns it off, too) [default: auto]
                      [possible values: auto, always, never]

            Examples:
              pg_salvage report /backup/shop
              pg_salvage report /backup/shop --format html -o shop.html
              pg_salvage report verify.json --format junit -o verify.xml
              pg_salvage report --diff /backup/shop /backup/shop_new
              pg_salvage report --diff primary.json standby.json --keys \
                  --source 'host=db1 dbname=shop' --target 'host=db2 dbname=shop'

            Exit codes are those of the run that it tells of:
              0  everything was read, and no damage was seen
              1  it could not be done: nothing to report of, or the output not writable
              2  the run is complete, and found damage
              3  the run is incomplete: stopped, or something could not be looked at

            Exit codes of --diff:
              0  A and B have the same relations, with the same rows
              1  it could not be done: wrong option, no such run, no connection
              2  there are differences
              3  something could not be compared
        "#]],
    );
}
