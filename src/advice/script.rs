//! The advice as a script for psql, which nobody runs by accident: it ends at
//! once, unless it is told that the files were copied.

use super::object::Step;
use std::fmt::Write as _;

/// What is advised for one object.
pub struct Part<'a> {
    pub title: String,
    pub database: Option<&'a str>,
    pub steps: &'a [Step],
}

/// The text of the script.
pub fn script(first: &[String], parts: &[Part<'_>]) -> String {
    let mut out = String::from(
        "-- What pg_salvage advises. It was written to be read, and has not been run.\n\
         -- Take out what does not fit; the order is meant.\n--\n-- Before anything else:\n",
    );
    for (number, step) in first.iter().enumerate() {
        comment(&mut out, &format!("{}. {step}", number + 1));
    }
    out.push_str(
        "\n\\if :{?files_are_copied}\n\\else\n\
         \\echo 'copy the data directory first; then run it as: psql -v files_are_copied=1 -f FILE'\n\
         \\quit\n\\endif\n\\set ON_ERROR_STOP on\n",
    );
    for part in parts {
        out.push('\n');
        comment(&mut out, &part.title);
        let mut is_connected = false;
        for step in part.steps {
            comment(&mut out, &step.text);
            step.shell.iter().for_each(|command| comment(&mut out, &format!("$ {command}")));
            if let (false, false, Some(database)) =
                (step.sql.is_empty(), is_connected, part.database)
            {
                // As in pg_dump: a name in double quotes cannot have a line end in it.
                let _ = writeln!(out, "\\connect \"{}\"", one_line(database).replace('"', "\"\""));
                is_connected = true;
            }
            step.sql.iter().for_each(|sql| statement(&mut out, sql));
        }
    }
    out
}

/// A name may have a line end in it, behind which psql would read on.
fn comment(out: &mut String, text: &str) {
    let _ = writeln!(out, "-- {}", one_line(text));
}

/// A statement with a line end in a name is for people: it is left as a comment.
fn statement(out: &mut String, sql: &str) {
    if sql.chars().any(char::is_control) {
        comment(out, sql);
    } else {
        let _ = writeln!(out, "{sql}");
    }
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::object::{Damaged, Object, steps};
    use super::*;

    #[test]
    fn no_name_gets_out_of_its_place() {
        let name = "\"public\".\"x\n\\! touch /tmp/x\n\"";
        let damaged = Damaged {
            object: Object::Index,
            name: Some(name),
            table: Some(name),
            database: Some("a\n\\! b"),
            version: None,
        };
        let steps = steps(&damaged);
        let part =
            Part { title: format!("index {name}"), database: Some("a\n\\! b"), steps: &steps };
        let text = script(&["first\n\\! c".to_owned()], &[part]);
        let wrong: Vec<&str> = text.lines().filter(|l| l.starts_with("\\!")).collect();
        assert!(wrong.is_empty(), "{text}");
        assert!(text.contains("\n\\quit\n"));
    }
}
