//! Addresses (`network.c`, `inet_net_ntop.c`, `mac.c`).

use std::io::Write as _;

/// `PGSQL_AF_INET` and `PGSQL_AF_INET6`, on every system.
const IPV4: u8 = 2;
const IPV6: u8 = 3;

pub(super) fn inet(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (bits, bits_max) = address(value, out)?;
    if bits == bits_max {
        return Some(());
    }
    write!(out, "/{bits}").ok()
}

pub(super) fn cidr(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let (bits, _) = address(value, out)?;
    write!(out, "/{bits}").ok()
}

/// Appends the address, and returns how many of its bits are the network's, of
/// how many.
fn address(value: &[u8], out: &mut Vec<u8>) -> Option<(u8, u8)> {
    let bits_max = match value {
        [IPV4, _, a, b, c, d] => {
            write!(out, "{a}.{b}.{c}.{d}").ok()?;
            32
        }
        [IPV6, _, address @ ..] => {
            ipv6(address.try_into().ok()?, out)?;
            128
        }
        _ => return None,
    };
    (value[1] <= bits_max).then_some((value[1], bits_max))
}

fn ipv6(address: &[u8; 16], out: &mut Vec<u8>) -> Option<()> {
    let (words, _) = address.as_chunks();
    let words: Vec<u16> = words.iter().map(|word| u16::from_be_bytes(*word)).collect();
    // The first of the longest runs of zeros, if it is one of two or more.
    let zeros = |from: usize| words[from..].iter().take_while(|word| **word == 0).count();
    let run = (0..8).rev().max_by_key(|from| zeros(*from)).filter(|from| zeros(*from) >= 2);
    let run = run.map_or(8..8, |from| from..from + zeros(from));
    for (i, word) in words.iter().enumerate() {
        if run.contains(&i) {
            if i == run.start {
                out.push(b':');
            }
            continue;
        }
        if i != 0 {
            out.push(b':');
        }
        if i == 6 && (run == (0..6) || (run == (0..5) && words[5] == 0xFFFF)) {
            let [.., a, b, c, d] = address;
            return write!(out, "{a}.{b}.{c}.{d}").ok();
        }
        write!(out, "{word:x}").ok()?;
    }
    if run.end == 8 && !run.is_empty() {
        out.push(b':');
    }
    Some(())
}

/// Of six bytes or eight.
pub(super) fn macaddr(value: &[u8], out: &mut Vec<u8>) -> Option<()> {
    for (i, byte) in value.iter().enumerate() {
        let colon = if i == 0 { "" } else { ":" };
        write!(out, "{colon}{byte:02x}").ok()?;
    }
    Some(())
}
