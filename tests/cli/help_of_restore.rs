//! The help of `restore`, as it is printed.

use super::help::assert_help;
use expect_test::expect;

#[test]
fn help_of_restore() {
    assert_help(&["restore"], &expect![[""]]);
}
