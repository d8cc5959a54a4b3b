//! Stage 1, DTLS knocks: in a crowd, who comes again is let in, and who came once is not.
//!
//! An engine that makes its own cookies keeps a handshake from the first hello on, so hellos with forged addresses could
//! take every place. A client says its hello again when no answer comes (RFC 6347 section 4.2.4); a flood has more
//! addresses than it has patience. So while [`FREELY`] handshakes wait for their cookie, or would if they had not been
//! refused, a hello begins another one when it is heard for the second time. It does not help against a flood that says each hello twice: the bounds of
//! [`Doors`](crate::transport::doors::Doors) are all that is left there.
//!
//! Takes:   where a hello came from, and its random.
//! Gives:   whether it was heard before.
//! Keeps:   a hash of each hello, [`ROWS`] times [`ROW`] of them: 2 MiB, from the first crowd on. What is older than
//!          [`ROW`] others of its row is forgotten, and comes for the first time again.
//! Refuses: nothing.
//! Sources: RFC 6347 sections 4.2.1 and 4.2.4; `DT-11`, `V-43`.

use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;

/// How many handshakes may wait for their cookie before strangers have to come twice.
pub const FREELY: usize = 64;
/// How many rows of hellos are remembered.
pub const ROWS: usize = 1 << 14;
/// How many hellos of a row.
pub const ROW: usize = 16;

/// The hellos that were heard last.
#[derive(Debug, Default)]
pub struct Knocks {
    /// Nobody who sends hellos knows which row is whose.
    key: RandomState,
    /// The newest first in each.
    rows: Vec<[u64; ROW]>,
}

impl Knocks {
    /// Whether this hello was heard before; it is from now on.
    pub fn again(&mut self, from: SocketAddr, random: &[u8; 32]) -> bool {
        if self.rows.is_empty() {
            self.rows = vec![[0; ROW]; ROWS];
        }
        // Zero is nobody's, or once in 2^64 times somebody's who is let in at once.
        let mark = self.key.hash_one((from, random));
        let [a, b, ..] = mark.to_le_bytes();
        let row = usize::from(u16::from_le_bytes([a, b])) % ROWS;
        let Some(row) = self.rows.get_mut(row) else { return false };
        let known = row.contains(&mark);
        if !known {
            row.rotate_right(1);
            row[0] = mark;
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_again_is_known_by_address_and_hello() {
        let mut knocks = Knocks::default();
        let (here, port): (SocketAddr, SocketAddr) =
            ("192.0.2.1:4000".parse().unwrap(), "192.0.2.1:4001".parse().unwrap());
        for (about, from, random, known) in [
            ("the first", here, 7, false),
            ("again", here, 7, true),
            ("and again", here, 7, true),
            ("another port", port, 7, false),
            ("another hello", here, 8, false),
            ("still", here, 7, true),
        ] {
            assert_eq!(knocks.again(from, &[random; 32]), known, "{about}");
        }
    }

    /// A client comes again within a second, and is known then, after 100,000 others: of a thousand, one is not.
    #[test]
    fn a_flood_does_not_make_many_forgotten() {
        let mut knocks = Knocks::default();
        let address = |host: u32, port| SocketAddr::from((host.to_be_bytes(), port));
        let mut known = |hosts: std::ops::Range<u32>, port| {
            hosts.filter(|host| knocks.again(address(*host, port), &[1; 32])).count()
        };
        assert_eq!(known(0..1000, 1), 0);
        assert_eq!(known(0..100_000, 2), 0, "strangers are taken for strangers");
        assert!(known(0..1000, 1) > 980);
        assert_eq!(knocks.rows.len(), ROWS, "it keeps no more than it has room for");
    }
}
