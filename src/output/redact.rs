//! Keeps what rows contain out of the error log.
//!
//! The server quotes values in the CONTEXT of COPY and in the DETAIL of
//! constraints. It is the form of the words that tells, so this relies on
//! untranslated messages.

/// What stands in the place of a value.
const CUT: &str = "...";

/// Of `COPY t, line 3, column x: "value"` all but the value.
pub(super) fn context(text: &str) -> String {
    let Some(start) = quoted_value(text) else { return text.to_owned() };
    // The value may hold quotes and newlines, so take the last quote at the end
    // of a line for its end. What is cut too much is not missed.
    let value = &text[start..];
    let end = value.rmatch_indices('"').map(|(at, _)| at + 1).find(|&at| {
        let after = &value[at..];
        at > 1 && (after.is_empty() || after.starts_with('\n'))
    });
    let rest = end.map_or("", |end| &value[end..]);
    format!("{}{CUT}{rest}", &text[..start])
}

/// Where a quoted value begins: at `"` after `COPY ..., line N...: `.
fn quoted_value(text: &str) -> Option<usize> {
    let copy = text.find("COPY ")?;
    let line = copy + text[copy..].find(", line ")?;
    let quote = line + text[line..].find(": \"")? + ": ".len();
    Some(quote)
}

/// Of `Failing row contains (1, x).` and `Key (id)=(1) already exists.` all but
/// the values.
pub(super) fn detail(text: &str) -> String {
    if text.starts_with("Failing row contains (") {
        return format!("Failing row contains ({CUT}).");
    }
    if text.starts_with("Key (")
        && let Some(start) = text.find(")=(").map(|at| at + ")=(".len())
    {
        let end = text.rfind(')').filter(|&end| start <= end).unwrap_or(text.len());
        return format!("{}{CUT}{}", &text[..start], &text[end..]);
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_of_copy_loses_the_value_and_keeps_the_place() {
        let cases = [
            ("COPY t, line 3, column x: \"secret\"", "COPY t, line 3, column x: ..."),
            ("COPY t, line 3: \"1\tse\"cr\net\"", "COPY t, line 3: ..."),
            ("COPY t, line 3: \"se\"\ncret\"\nouter", "COPY t, line 3: ...\nouter"),
            ("COPY t, line 3, column x: \"cut of", "COPY t, line 3, column x: ..."),
            ("COPY t, line 3, column x: \"", "COPY t, line 3, column x: ..."),
            ("COPY t, line 3, column x: null input", "COPY t, line 3, column x: null input"),
            ("COPY t, line 3", "COPY t, line 3"),
            (
                "while scanning block 3 of relation \"t\"",
                "while scanning block 3 of relation \"t\"",
            ),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(context(text), expected);
        }
    }

    #[test]
    fn the_detail_of_a_constraint_loses_the_values() {
        let cases = [
            ("Failing row contains (1, secret).", "Failing row contains (...)."),
            ("Key (a, b)=(1, x)) already exists.", "Key (a, b)=(...) already exists."),
            ("Key (a)=(cut", "Key (a)=(..."),
            ("Could not open file \"pg_xact/0000\".", "Could not open file \"pg_xact/0000\"."),
        ];
        for (text, expected) in cases {
            assert_eq!(detail(text), expected);
        }
    }
}
