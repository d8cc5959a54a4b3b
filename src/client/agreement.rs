//! The UE, agreement: which protection it and the edge settle on, and how it shows that nobody talked them down.
//!
//! 1. The first request says what the UE can do, and asks for an agreement.
//! 2. The edge gives its list; the UE takes the mechanism with the highest preference that it knows.
//! 3. Every later request mirrors that list. If the edge finds it altered, it says so, and the UE goes no further.
//!
//! Takes:   responses with Security-Server, and the digits by which a Digest response covers the list.
//! Gives:   Security-Client or Security-Verify, each with Require and Proxy-Require; the mechanism agreed on.
//! Keeps:   the list that was given. Bound: 16 mechanisms.
//! Refuses: a list that does not parse or has one preference twice, one that has nothing in common with ours, a second
//!          list.
//! Sources: RFC 3329 sections 2.2 to 2.4.

use super::answer::Unanswerable;
use crate::authentication::digest::Hash;
use crate::authentication::sec_agree::TAG;
use crate::wire::sec_agree::collapsed;
use crate::wire::{Mechanism, Message, Name, Text};

/// What protects the requests of a UE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// TLS.
    Tls,
    /// Digest, by this hash; with the body or without.
    Digest(Hash, bool),
}

impl Protection {
    /// Its name, as RFC 3329 has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Digest(..) => "digest",
        }
    }
}

/// Where an agreement stands.
#[derive(Clone, Debug)]
pub struct Agreement {
    tls: bool,
    floor: Hash,
    given: Option<(Vec<u8>, Protection)>,
}

impl Agreement {
    /// Nothing agreed on yet. `tls` says whether the UE speaks TLS; algorithms below `floor` it does not know.
    pub fn new(tls: bool, floor: Hash) -> Self {
        Self { tls, floor, given: None }
    }

    /// What was agreed on.
    pub fn made(&self) -> Option<Protection> {
        self.given.as_ref().map(|(_, protection)| *protection)
    }

    /// The list that was given.
    pub fn list(&self) -> Option<&[u8]> {
        self.given.as_ref().map(|(list, _)| list.as_slice())
    }

    /// Takes the list of a 421 or 494.
    ///
    /// # Errors
    ///
    /// [`Unanswerable::Altered`] if there is one already: the edge found it altered. [`Unanswerable::Malformed`],
    /// [`Unanswerable::NothingInCommon`].
    pub fn take(&mut self, response: &Message) -> Result<Protection, Unanswerable> {
        if self.given.is_some() {
            return Err(Unanswerable::Altered);
        }
        let offered: Option<Vec<Mechanism<'_>>> =
            response.mechanisms(Name::SecurityServer).collect();
        let offered = offered.filter(|all| !all.is_empty()).ok_or(Unanswerable::Malformed)?;
        let mut preferences: Vec<u16> = offered.iter().filter_map(|one| one.preference()).collect();
        let written = preferences.len();
        preferences.sort_unstable();
        preferences.dedup();
        if preferences.len() != written {
            return Err(Unanswerable::Malformed);
        }
        // Of those without a preference the first: all rank below those with one.
        let known = offered.into_iter().rev().filter_map(|one| Some((one, self.knows(one)?)));
        let best = known.max_by_key(|(one, _)| one.preference().map_or(0, |q| q.saturating_add(1)));
        let (_, protection) = best.ok_or(Unanswerable::NothingInCommon)?;
        let rows: Vec<&[u8]> = response.fields_named(Name::SecurityServer).collect();
        self.given = Some((collapsed(&rows.join(&b", "[..])), protection));
        Ok(protection)
    }

    fn knows(&self, one: Mechanism<'_>) -> Option<Protection> {
        if one.is("tls") {
            return self.tls.then_some(Protection::Tls);
        }
        let algorithm = one.param("d-alg").unwrap_or(b"MD5");
        let (hash, session) = Hash::of(algorithm).filter(|_| one.is("digest"))?;
        let int = one.param("d-qop").is_some_and(|qop| qop.eq_ignore_ascii_case(b"auth-int"));
        // Its digits are 32: no other hash fits.
        let fits = hash == Hash::Md5 && !session && hash >= self.floor;
        fits.then_some(Protection::Digest(hash, int))
    }

    /// Puts the headers of one request; `digits` cover the list, where Digest was agreed on.
    pub fn put(&self, text: &mut Text, digits: Option<&[u8]>) {
        for name in ["Require", "Proxy-Require"] {
            text.field(name, |value| {
                value.put(TAG);
            });
        }
        let Some((list, _)) = &self.given else {
            let digest = self.floor == Hash::Md5;
            let own = match (self.tls, digest) {
                (true, true) => "tls, digest;d-alg=MD5;d-qop=auth-int",
                (true, false) => "tls",
                (false, _) => "digest;d-alg=MD5;d-qop=auth-int",
            };
            text.field("Security-Client", |value| {
                value.put(own);
            });
            return;
        };
        text.field("Security-Verify", |value| {
            for (number, one) in crate::wire::split::commas(list).enumerate() {
                value.put(if number == 0 { "" } else { ", " }).put(one);
                let is_digest = Mechanism::parse(one).is_some_and(|one| one.is("digest"));
                if let Some(digits) = digits.filter(|_| is_digest) {
                    value.put(";d-ver=\"").put(digits).put("\"");
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn given(list: &str) -> Message {
        let text = format!("SIP/2.0 494 X\r\nSecurity-Server: {list}\r\n\r\n");
        Message::from_datagram(Bytes::from(text)).expect("well formed")
    }

    #[test]
    fn the_highest_preference_among_those_known_is_taken() {
        let md5 = Protection::Digest(Hash::Md5, false);
        for (tls, floor, list, expected) in [
            (true, Hash::Md5, "digest;q=0.1, tls;q=0.5", Ok(Protection::Tls)),
            (true, Hash::Md5, "digest;q=0.5, tls;q=0.1", Ok(md5)),
            (false, Hash::Md5, "tls;q=0.5, digest;q=0.1", Ok(md5)),
            (false, Hash::Md5, "digest;d-qop=auth-int", Ok(Protection::Digest(Hash::Md5, true))),
            (true, Hash::Md5, "digest, tls", Ok(md5)),
            (true, Hash::Md5, "ipsec-3gpp;q=0.9, tls", Ok(Protection::Tls)),
            (true, Hash::Sha256, "digest;q=0.5, tls;q=0.1", Ok(Protection::Tls)),
            (false, Hash::Sha256, "digest", Err(Unanswerable::NothingInCommon)),
            (false, Hash::Md5, "digest;d-alg=SHA-256", Err(Unanswerable::NothingInCommon)),
            (false, Hash::Md5, "tls;q=0.5, digest;q=0.5", Err(Unanswerable::Malformed)),
            (false, Hash::Md5, "tls;q=9", Err(Unanswerable::Malformed)),
        ] {
            let mut agreement = Agreement::new(tls, floor);
            assert_eq!(agreement.take(&given(list)), expected, "{list}");
            let again = agreement.take(&given(list));
            assert_eq!(again == Err(Unanswerable::Altered), expected.is_ok(), "{list}");
        }
    }
}
