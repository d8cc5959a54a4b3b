//! Stage 7, transaction keys: what makes two messages parts of one transaction, in sixteen octets.
//!
//! Takes:   a message that passed `wire::check`, and the flow it came on.
//! Gives:   [`ServerKey`] and [`ClientKey`], to be looked up in tables without strings.
//! Keeps:   the key of the hash, drawn once by the shell, so that nobody outside can make two messages collide.
//! Refuses: a top Via whose branch has no cookie (no key), but for the `_old` and `_any` functions.
//! Sources: RFC 3261 sections 17.1.3, 17.2.3 and 9.2; `TX-07`, `TX-08`. Branch and sent-by compare without case,
//!          methods with case (RFC 3261 section 7.3.1).

use std::hash::{Hash as _, Hasher as _};

use siphasher::sip128::{Hasher128 as _, SipHasher24};

use crate::transport::Flow;
use crate::wire::{Message, Name};

/// What a branch begins with since RFC 3261.
pub const COOKIE: &[u8] = b"z9hG4bK";

/// Names one server transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerKey(u128);

impl ServerKey {
    /// The same transaction on one flow alone, by a keyed hash of that.
    pub(in crate::forward) fn on(self, flow: u64) -> Self {
        Self(self.0 ^ (u128::from(flow) << 64 | u128::from(flow)))
    }

    /// A key of that number, for tests, and for what no request began.
    pub(in crate::forward) fn of_number(number: u128) -> Self {
        Self(number)
    }
}

/// Names one client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey(u128);

/// Makes keys.
#[derive(Clone)]
pub struct Keys {
    hasher: SipHasher24,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys(..)")
    }
}

impl Keys {
    /// Keys under this secret.
    pub fn new(secret: &[u8; 16]) -> Self {
        Self { hasher: SipHasher24::new_with_key(secret) }
    }

    /// The client transaction with this branch and method, ours.
    pub fn client(&self, branch: &[u8], method: &[u8]) -> ClientKey {
        let mut sum = Sum::new(self, Domain::Client);
        sum.folded(branch);
        sum.exact(method);
        ClientKey(sum.finish())
    }

    /// The client transaction that `response` belongs to: the branch of its top Via and the method of its CSeq.
    ///
    /// `None` if it has no CSeq.
    pub fn client_of(&self, response: &Message) -> Option<ClientKey> {
        Some(self.client(response.branch(), response.cseq()?.method))
    }

    /// The server transaction of `request`, whether it makes it or is a retransmission. On reliable transports the
    /// flow belongs to it, so that a branch guessed on another connection is another transaction.
    ///
    /// For ACK this is the transaction of the INVITE. `None` if the branch has no cookie.
    pub fn server(&self, request: &Message, flow: &Flow) -> Option<ServerKey> {
        self.target(request, owner_method(request), Some(flow))
    }

    /// The server transaction of another request with the branch and sent-by of `request`, but of `method`:
    /// what an ACK or a CANCEL is about. Without `flow` the transaction of any flow; the INVITE must have been
    /// entered under that key too, and the ACK or CANCEL is then judged.
    ///
    /// On unreliable transports both keys are the same. `None` if the branch has no cookie.
    pub fn target(
        &self,
        request: &Message,
        method: &[u8],
        flow: Option<&Flow>,
    ) -> Option<ServerKey> {
        let via = request.top_via()?;
        let branch = via.branch();
        if !has_cookie(branch) {
            return None;
        }
        let mut sum = Sum::new(self, Domain::Server);
        sum.folded(branch);
        sum.folded(via.host());
        sum.number(via.port().map_or(0, |port| u64::from(port) | 1 << 16));
        sum.exact(method);
        sum.flow(flow);
        Some(ServerKey(sum.finish()))
    }

    /// [`Keys::server`] by the second procedure, for peers that still send branches without cookie: Request-URI,
    /// From tag, Call-ID, CSeq and top Via.
    ///
    /// The To tag is left out, since that of an ACK is the response's: whoever finds an INVITE for an ACK compares
    /// it. `None` if the request has no CSeq or Via.
    pub fn server_old(&self, request: &Message, flow: &Flow) -> Option<ServerKey> {
        self.target_old(request, owner_method(request), Some(flow))
    }

    /// [`Keys::server`], by the second procedure where the branch has no cookie: for what was let in already.
    pub fn server_any(&self, request: &Message, flow: &Flow) -> Option<ServerKey> {
        self.server(request, flow).or_else(|| self.server_old(request, flow))
    }

    /// [`Keys::target`], by the second procedure where the branch has no cookie.
    pub fn target_any(&self, request: &Message, method: &[u8], flow: &Flow) -> Option<ServerKey> {
        let key = self.target(request, method, Some(flow));
        key.or_else(|| self.target_old(request, method, Some(flow)))
    }

    /// [`Keys::target`] by the second procedure.
    pub fn target_old(
        &self,
        request: &Message,
        method: &[u8],
        flow: Option<&Flow>,
    ) -> Option<ServerKey> {
        let mut sum = Sum::new(self, Domain::ServerOld);
        sum.exact(request.request_uri());
        sum.folded(request.from_tag());
        sum.exact(request.call_id());
        sum.number(request.cseq()?.number.into());
        sum.exact(request.values(Name::Via).next()?);
        sum.exact(method);
        sum.flow(flow);
        Some(ServerKey(sum.finish()))
    }
}

/// Whether a branch is one of RFC 3261: the cookie, and something behind it.
pub fn has_cookie(branch: &[u8]) -> bool {
    branch
        .split_at_checked(COOKIE.len())
        .is_some_and(|(cookie, rest)| cookie.eq_ignore_ascii_case(COOKIE) && !rest.is_empty())
}

fn owner_method(request: &Message) -> &[u8] {
    match request.method_octets() {
        b"ACK" => b"INVITE",
        method => method,
    }
}

/// What a hash is about: no client key is a server key.
#[derive(Clone, Copy)]
enum Domain {
    Client,
    Server,
    ServerOld,
}

/// Parts being hashed, each with its length before it.
struct Sum(SipHasher24);

impl Sum {
    fn new(keys: &Keys, domain: Domain) -> Self {
        let mut hasher = keys.hasher;
        hasher.write_u8(domain as u8);
        Self(hasher)
    }

    fn exact(&mut self, part: &[u8]) {
        self.number(part.len() as u64);
        self.0.write(part);
    }

    fn folded(&mut self, part: &[u8]) {
        self.number(part.len() as u64);
        for chunk in part.chunks(64) {
            let mut folded = [0_u8; 64];
            let (folded, _) = folded.split_at_mut(chunk.len());
            folded.copy_from_slice(chunk);
            folded.make_ascii_lowercase();
            self.0.write(folded);
        }
    }

    fn number(&mut self, number: u64) {
        self.0.write_u64(number);
    }

    fn flow(&mut self, flow: Option<&Flow>) {
        match flow.filter(|flow| flow.transport.is_reliable()) {
            Some(flow) => flow.hash(&mut self.0),
            None => self.0.write_u8(0),
        }
    }

    fn finish(self) -> u128 {
        self.0.finish128().as_u128()
    }
}
