//! Whether a server takes connections, as `pg_isready` asks it: not every
//! server package has that program.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// True when the server answers a start-up message with anything but "not now".
pub fn takes_connections(socket: &Path) -> bool {
    ask(socket).unwrap_or(false)
}

fn ask(socket: &Path) -> std::io::Result<bool> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let body = b"\0\x03\0\0user\0postgres\0database\0template1\0\0";
    let length = u32::try_from(body.len() + 4).expect("a short message");
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(body)?;
    let mut answer = [0u8; 256];
    let received = stream.read(&mut answer)?;
    let answer = &answer[..received];
    // Leave as a client does, so that the log has no complaint about us.
    let _ = stream.write_all(b"X\0\0\0\x04");
    Ok(match answer.first() {
        Some(b'R') => true,
        Some(b'E') => !answer.windows(6).any(|field| field == b"C57P03"),
        _ => false,
    })
}
