//! Addresses that no other test of this machine uses, so that ports need not be hunted for.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};

/// An address of 127.0.0.0/8 that no other call has given, in this process or another: made of the
/// process number (18 bits) and a count (6 bits, then it comes round).
pub(crate) fn address() -> IpAddr {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed) % 63 + 1;
    let host = (std::process::id() & 0x0003_ffff) << 6 | count;
    let [_, a, b, c] = host.to_be_bytes();
    Ipv4Addr::new(127, a, b, c).into()
}

/// Where two SIPp processes meet. SIPp binds that port on every address, so it is the port that
/// differs from call to call and process to process; it lies below those the system gives away.
pub(crate) fn meeting_point() -> SocketAddr {
    let IpAddr::V4(own) = address() else { unreachable!("addresses here are of IPv4") };
    let [_, _, b, c] = own.octets();
    let port = 16_384 + u16::from_be_bytes([b, c]) % 16_000;
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

/// Whether a socket is bound to `address`: for TCP one that listens. A socket of every
/// address counts.
pub(crate) fn is_bound(table: &str, address: SocketAddr) -> bool {
    let IpAddr::V4(ip) = address.ip() else { return false };
    let place = |ip: u32| format!("{ip:08X}:{:04X}", address.port());
    let places = [place(u32::from_le_bytes(ip.octets())), place(0)];
    let listens = if table == "tcp" { "0A" } else { "07" };
    let sockets = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
    sockets.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|local| places.iter().any(|place| place == local))
            && words.nth(1) == Some(listens)
    })
}
