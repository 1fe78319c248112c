//! Ends a server whose test is gone, and removes its folder.
//!
//! A test that is killed, and a server in a `static`, never get to `Drop`. So
//! each server has a small shell beside it that waits at the end of a pipe:
//! when our process ends, however it ends, the pipe closes and the shell does
//! what `Drop` would have done.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// `$1` is the server's folder. The process id is believed only if that
/// process works in our data directory, as a postmaster does.
const WATCH: &str = r#"
trap '' INT TERM HUP
read -r word
[ "$word" = done ] && exit 0
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
ours() { [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$1/data" ]; }
if ours "$1"; then
    kill -QUIT "$pid"
    i=0
    while ours "$1" && [ $i -lt 80 ]; do sleep 0.1; i=$((i + 1)); done
    if ours "$1"; then kill -KILL "$pid"; fi
fi
# Once more, for a copy into it may still have been under way.
rm -rf "$1"; sleep 1; rm -rf "$1"
"#;

pub struct Guard {
    shell: Child,
}

impl Guard {
    pub fn over(folder: &Path) -> Guard {
        let mut command = Command::new("sh");
        command.args(["-c", WATCH, "guard"]).arg(folder).current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Guard { shell: command.spawn().expect("sh can be run") }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(pipe) = &mut self.shell.stdin {
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.shell.wait();
    }
}
