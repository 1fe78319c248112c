//! What a server's log says about its own state.

/// True while a crash of one backend is being recovered from: stopping the
/// server in that moment can hang it for minutes (facts: "Do not stop the
/// server right after a crash").
pub fn is_recovering_from_crash(log: &str) -> bool {
    match (log.rfind("was terminated by signal"), log.rfind("ready to accept")) {
        (Some(crash), Some(ready)) => crash > ready,
        (Some(_), None) => true,
        _ => false,
    }
}

/// How many backends have crashed since the log was begun.
pub fn crashes(log: &str) -> usize {
    log.matches("was terminated by signal").count()
}

/// The last lines, for a message.
pub fn tail(log: &str, lines: usize) -> String {
    let all: Vec<&str> = log.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
