//! The help of `restore`, as it is printed.

use super::help::assert_help;
use expect_test::expect;

#[test]
fn help_of_restore() {
    assert_help(
        &["restore"],
        &expect![[r#"
        Load a dump into a database, around the rows that it does not take

        Usage: pg_salvage restore [OPTIONS] <DIR>

        Arguments:
          <DIR>  Directory of a dump

        Options:
          -?, --help  Print help

        Connection:
          -h, --host <HOSTNAME>      Server host or socket directory
          -p, --port <PORT>          Server port
          -U, --username <USERNAME>  User to connect as
          -d, --dbname <DBNAME>      Database: a name, a connection string or a URI
          -w, --no-password          Never ask for a password
          -W, --password             Ask for a password before connecting

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

        What is restored:
          -C, --create             Make the database first
          -a, --data-only          Only rows, into tables that are there; their triggers
                                   fire
          -s, --schema-only        No rows
              --section <SECTION>  Only this section; may be given again [possible
                                   values: pre-data, data, post-data]
              --include <CLASSES>  Rows to load beside the clean ones: partial, suspect,
                                   or clean for none [default: partial] [possible
                                   values: clean, partial, suspect]
          -O, --no-owner           Do not set owners
          -x, --no-privileges      Do not grant and revoke [alias: --no-acl]

        How:
          -j, --jobs <N>           Load, and make indexes, with so many connections
                                   [default: 1]
              --on-conflict <HOW>  A row whose key is there already: reject it, or leave
                                   it out [default: reject] [possible values: reject,
                                   skip]
              --disable-triggers   Triggers of the tables do not fire (superusers only)
              --dry-run            Say what would be done, and do nothing
              --check              Then compare all rows with those of the dump
              --check-only         Only compare
              --source <CONNSTR>   Compare with this database (a connection string)
                                   instead of the dump
              --rejects <DIR>      Where rejected rows and the report go [default:
                                   DIR/rejects]
              --resume             Go on with a restore that was ended, whatever ended
                                   it
              --no-sync            Do not wait for files to be written safely to disk

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

        Examples:
          pg_salvage restore /backup/shop -d shop_new --create -j 4
          pg_salvage restore /backup/shop -d shop_new --create --include partial,suspect
          pg_salvage restore /backup/shop -d shop --data-only --on-conflict skip
          --dry-run
          pg_salvage restore /backup/shop -d shop_new -j 4 --resume

        Exit codes:
          0  all rows that were to be loaded are, and everything was made
          1  it could not be done: wrong option, no connection, no dump
          2  rows were rejected, or something could not be made; the rest is there
          3  the restore is incomplete; --resume goes on with it
    "#]],
    );
}
