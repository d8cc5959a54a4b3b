//! Stage 4, the security agreement: what a listener and its first hop agreed on, and whether somebody altered it.
//!
//! 1. Each listener has one list of what it can do, made once; no request changes it.
//! 2. A request that asks for an agreement and shows none is told the list: 494; one that has to ask and does not: 421.
//! 3. Later requests mirror the list; over TLS that is all, in the clear the Digest response covers it with `d-ver`.
//!
//! Takes:   the mode of a listener, what it can do, a request and its flow.
//! Gives:   [`Agreed`]: nothing, by TLS, or by Digest with the `d-ver` still to be verified.
//! Keeps:   the list. Bounds: those of `wire::sec_agree`.
//! Refuses: 502 for a request that came through another hop, 421, and 494 for a list that is not there or not ours.
//!          ACK, CANCEL and PRACK are not refused. Mechanisms in Security-Client are not looked at: the list does not
//!          depend on them, so nobody can talk it down.
//! Sources: RFC 3329 sections 2.2 to 2.6; `SA-01` to `SA-07`; rule 12; V-99.

use std::sync::Arc;

use super::digest::{Ha1, Hash, Inputs, Qop, Response};
use crate::refusal::Refusal;
use crate::transport::{Flow, Transport};
use crate::wire::{Mechanism, Message, Method, Name};

/// The option tag.
pub const TAG: &str = "sec-agree";

/// What a listener does about agreements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: the three headers pass.
    #[default]
    Off,
    /// It agrees with those who ask for it.
    Accept,
    /// Requests in the clear have to agree first.
    Require,
}

/// How a listener agrees.
#[derive(Clone, Debug)]
pub struct Agreement {
    required: bool,
    list: Arc<str>,
    /// Lists of other listeners of the same name: a client that was sent here by one of them mirrors its list.
    of_others: Vec<Arc<str>>,
}

/// What a request shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreed<'m> {
    /// No agreement, and none is asked for.
    None,
    /// The list is ours, and TLS protects it.
    Tls,
    /// The list is ours if the response covers these digits.
    Digest(&'m [u8]),
}

impl Agreement {
    /// The agreement of a listener; `None` if it is off, or if there is nothing to agree on.
    ///
    /// `tls` says whether the listener's name can be reached by TLS, `digest` whether MD5 is taken on it: the 32 digits
    /// of `d-ver` fit no other hash.
    ///
    /// Source: RFC 3329 section 2.2; `SA-05`.
    pub fn new(mode: Mode, tls: bool, digest: bool) -> Option<Self> {
        let list = match (tls, digest) {
            (true, true) => "tls;q=0.5, digest;d-alg=MD5;d-qop=auth-int;q=0.1",
            (true, false) => "tls;q=0.5",
            (false, true) => "digest;d-alg=MD5;d-qop=auth-int;q=0.1",
            (false, false) => return None,
        };
        let required = mode == Mode::Require;
        (mode != Mode::Off).then(|| Self { required, list: list.into(), of_others: Vec::new() })
    }

    /// The same, where clients come that were told another listener's list.
    pub fn beside(mut self, other: &Self) -> Self {
        if other.list != self.list && !self.of_others.contains(&other.list) {
            self.of_others.push(Arc::clone(&other.list));
        }
        self
    }

    /// The value of Security-Server.
    pub fn list(&self) -> &str {
        &self.list
    }

    /// Whether Digest is among what can be agreed on.
    pub fn has_digest(&self) -> bool {
        mechanisms(&self.list).any(|mechanism| mechanism.is("digest"))
    }

    /// Looks at what a request shows of an agreement.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFirstHop`], [`Refusal::AgreementRequired`], [`Refusal::AgreementMismatch`].
    pub fn judge<'m>(&self, message: &'m Message, flow: &Flow) -> Result<Agreed<'m>, Refusal> {
        let exempt = [Method::Ack, Method::Cancel, Method::Prack];
        if message.method().is_none_or(|method| exempt.contains(&method)) {
            return Ok(Agreed::None);
        }
        let asks = [Name::Require, Name::ProxyRequire]
            .into_iter()
            .any(|name| message.has_option(name, TAG));
        let shows = message.has(Name::SecurityVerify);
        let protected = flow.transport == Transport::Tls;
        if !asks && !shows && (protected || !self.required) {
            return Ok(Agreed::None);
        }
        let outside = message.to_tag().is_empty();
        if message.values(Name::Via).nth(1).is_some() {
            // A 502 would end a dialog (RFC 5057 section 5.1), and the rules end none.
            return Err(if outside { Refusal::NotFirstHop } else { Refusal::AgreementMismatch });
        }
        if !shows {
            let knows = asks || !outside || message.has_option(Name::Supported, TAG);
            let refusal =
                if knows { Refusal::AgreementMismatch } else { Refusal::AgreementRequired };
            return Err(refusal);
        }
        let mirrors = |list: &str| same(message.mechanisms(Name::SecurityVerify), list);
        if protected && (mirrors(&self.list) || self.of_others.iter().any(|list| mirrors(list))) {
            return Ok(Agreed::Tls);
        }
        let found = message.mechanisms(Name::SecurityVerify).flatten();
        let digits = found.filter(|one| one.is("digest")).find_map(Mechanism::verifier);
        match digits.filter(|_| !protected && mirrors(&self.list)) {
            Some(digits) => Ok(Agreed::Digest(digits)),
            None => Err(Refusal::AgreementMismatch),
        }
    }

    /// Whether `digits` protect the list: made with the key of the credentials, by MD5 and over the body.
    ///
    /// Source: RFC 3329 section 2.2 (Digest-verify); section 2.4.
    pub fn covers(&self, digits: &[u8], ha1: &Ha1, inputs: &Inputs<'_>) -> bool {
        inputs.hash == Hash::Md5
            && matches!(inputs.qop, Qop::AuthInt(_))
            && Response::vouching(ha1, inputs, self.list.as_bytes()).verify(digits)
    }
}

fn mechanisms(list: &str) -> impl Iterator<Item = Mechanism<'_>> {
    list.split(", ").filter_map(|one| Mechanism::parse(one.as_bytes()))
}

/// Whether a list is `ours`: the same mechanisms in the same order.
fn same<'m>(mut list: impl Iterator<Item = Option<Mechanism<'m>>>, ours: &str) -> bool {
    let mirrored = mechanisms(ours).all(|own| list.next().flatten().is_some_and(|it| own.same(it)));
    mirrored && list.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_what_the_listener_can_do_and_no_two_with_one_preference() {
        for (mode, tls, digest, expected) in [
            (Mode::Accept, true, true, Some("tls;q=0.5, digest;d-alg=MD5;d-qop=auth-int;q=0.1")),
            (Mode::Require, true, false, Some("tls;q=0.5")),
            (Mode::Require, false, true, Some("digest;d-alg=MD5;d-qop=auth-int;q=0.1")),
            (Mode::Require, false, false, None),
            (Mode::Off, true, true, None),
        ] {
            let agreement = Agreement::new(mode, tls, digest);
            assert_eq!(agreement.as_ref().map(Agreement::list), expected);
            let Some(agreement) = agreement else { continue };
            assert_eq!(agreement.has_digest(), digest);
            let mut preferences: Vec<_> =
                mechanisms(&agreement.list).map(Mechanism::preference).collect();
            let all = preferences.len();
            preferences.dedup();
            assert_eq!(preferences.len(), all, "SA-01");
        }
    }
}
