//! Stage 1, DTLS key exchanges: the identity of a shared key, read before an engine sees it.
//!
//! Takes:   datagrams of a handshake in the clear.
//! Gives:   the identity, once the message that names it is whole: so its key can be looked up first.
//! Keeps:   the message under way, at most [`EXCHANGE_MAX`] octets.
//! Refuses: longer messages, and fragments that do not fit together: the engine will refuse those itself.
//! Sources: RFC 4279 sections 2 to 4; RFC 6347 section 4.2.2; V-47.

use super::record::{Content, fragments, records};

/// Longest key exchange, in octets: an identity, and a public key of DHE.
pub const EXCHANGE_MAX: usize = 2048;

const CLIENT_KEY_EXCHANGE: u8 = 16;

/// A ClientKeyExchange, as far as it came.
#[derive(Debug, Default)]
pub struct Exchange {
    octets: Vec<u8>,
    came: Vec<bool>,
}

impl Exchange {
    /// Takes in what `datagram` has of it; the identity, if it is whole with that.
    pub fn take(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        for record in records(datagram) {
            if record.epoch != 0 || record.content != Some(Content::Handshake) {
                continue;
            }
            for fragment in fragments(record.body).into_iter().flatten() {
                if fragment.kind == CLIENT_KEY_EXCHANGE && fragment.length <= EXCHANGE_MAX {
                    self.put(fragment.length, fragment.offset, fragment.body)?;
                }
            }
        }
        let whole = !self.came.is_empty() && self.came.iter().all(|came| *came);
        whole.then(|| identity(&self.octets)).flatten()
    }

    fn put(&mut self, length: usize, offset: usize, part: &[u8]) -> Option<()> {
        if self.octets.len() != length {
            (self.octets, self.came) = (vec![0; length], vec![false; length]);
        }
        let end = offset.checked_add(part.len())?;
        self.octets.get_mut(offset..end)?.copy_from_slice(part);
        self.came.get_mut(offset..end)?.fill(true);
        Some(())
    }
}

/// The identity at the front of a key exchange with a shared key.
fn identity(body: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = body.split_first_chunk::<2>()?;
    rest.get(..usize::from(u16::from_be_bytes(*length))).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::super::record::{head, to_three};
    use super::*;

    fn part(kind: u8, body: &[u8], from: usize, to: usize) -> Vec<u8> {
        let (whole, part) = (to_three(body.len()), to_three(to - from));
        let fragment = [&[kind][..], &whole, &[0, 2], &to_three(from), &part, &body[from..to]];
        let fragment = fragment.concat();
        [&head(22, [254, 253], 3, fragment.len())[..], &fragment].concat()
    }

    #[test]
    fn the_identity_is_known_when_the_message_is_whole() {
        let body = [&[0, 5][..], b"alice", &[32], &[9; 32]].concat();
        let end = body.len();
        assert_eq!(Exchange::default().take(&part(16, &body, 0, end)), Some(b"alice".to_vec()));
        assert_eq!(Exchange::default().take(&part(11, &body, 0, end)), None, "a certificate");
        let mut pieces = Exchange::default();
        for (from, to, found) in [(10, 20, false), (0, 10, false), (0, 10, false), (20, end, true)]
        {
            let got = pieces.take(&part(16, &body, from, to));
            assert_eq!(got.is_some(), found, "{from} to {to}");
        }
        let both = [part(11, b"abc", 0, 3), part(16, &body, 0, end)].concat();
        assert_eq!(Exchange::default().take(&both), Some(b"alice".to_vec()));
        for odd in [&[0, 9, 1][..], &[0], &[]] {
            assert_eq!(Exchange::default().take(&part(16, odd, 0, odd.len())), None, "{odd:?}");
        }
        let long = vec![0; EXCHANGE_MAX + 1];
        assert_eq!(Exchange::default().take(&part(16, &long, 0, long.len())), None);
    }
}
