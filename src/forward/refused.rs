//! Stage 7, refused datagrams: whether what came back of a request to a host that refused it is a request of ours.
//!
//! Takes:   the beginning of a datagram that was sent, as somebody quotes it.
//! Gives:   [`Quoted`], what it was; whether it is under way to that flow.
//! Keeps:   nothing.
//! Refuses: what is no request, is cut before its branch ends, or is not under way: our branches cannot be guessed, so
//!          only who saw the request can quote one. A response that was refused says nothing that can be believed.
//! Sources: RFC 3261 sections 8.1.1.7 and 18.4; `dialog-association` section 4 (Suspect); RFC 5927 section 4.1.

use super::proxy::{Place, Proxy};
use super::{Destination, responses::leads_to};
use crate::transport::Flow;
use crate::wire::Via;

/// A request of ours, as far as it came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<'q> {
    method: &'q [u8],
    /// Its branch, which names the worker that sent it.
    pub branch: &'q [u8],
}

impl<'q> Quoted<'q> {
    /// Reads the first two lines: our Via is the first of all fields.
    pub fn of(octets: &'q [u8]) -> Option<Self> {
        let mut lines = octets.split(|octet| *octet == b'\n');
        let (start, via) = (lines.next()?, lines.next()?.strip_suffix(b"\r")?);
        let method = start.split(|octet| *octet == b' ').next()?;
        let branch = Via::parse(via.strip_prefix(b"Via: ")?)?.branch();
        Some(Self { method, branch })
    }
}

impl Proxy {
    /// Whether that request is under way to `flow`, and to no other.
    pub fn is_under_way(&self, quoted: &Quoted<'_>, flow: &Flow) -> bool {
        let key = self.keys.client(quoted.branch, quoted.method);
        let Some(Place::Live(id)) = self.clients.get(&key) else { return false };
        let (to, settings) = (Destination::Flow(*flow), self.settings());
        self.contexts.get(id).is_some_and(|context| {
            let branch = context.clients.iter().find(|branch| branch.key == key);
            branch.is_some_and(|branch| leads_to(&branch.to, &to, &settings))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_known_by_its_first_two_lines() {
        let whole = b"INFO sip:a@h SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK00x\r\nVia: SIP";
        let quoted = Quoted { method: b"INFO", branch: b"z9hG4bK00x" };
        assert_eq!(Quoted::of(whole), Some(quoted));
        for cut in 0..whole.len() - b"\r\nVia: SIP".len() {
            assert_eq!(Quoted::of(&whole[..cut]), None, "{cut}");
        }
        assert_eq!(Quoted::of(b"INFO sip:a@h SIP/2.0\r\nTo: x\r\n"), None);
    }
}
