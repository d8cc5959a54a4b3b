//! Keys, bootstrap, digest: a run with a subscriber's SIP Digest password in the place of his card (GBA_Digest).
//!
//! 1. The request came over TLS, runs by password are switched on, and User-Agent asks for one. Every other request goes
//!    the way of cards: in the clear nobody is ever asked for a password.
//! 2. No nonce: a challenge of the home network's realm, at the pace of cards. Who has no password gets one that nobody
//!    can answer.
//! 3. A nonce: the challenge is taken out, whatever comes of it. `passwd` comes of H(A1) and of what this very connection
//!    exports: a response that was made for another connection, by way of somebody in between, is wrong here.
//! 4. Right: a session of that kind begins, as for a card. Wrong: step 2.
//!
//! Takes:   the request, its credentials, what its TLS connection exports.
//! Gives:   [`UbAnswer`].
//! Keeps:   see `mod`, whose state it works on.
//! Refuses: a response that does not cover the body, whatever is taken of cards; temporary names; another `nc` than the
//!          first; the eleventh challenge of a name within a minute.
//! Sources: TS 33.220 annex B.5; TS 24.109 annex I.2, its first half; RFC 7616 section 3.4. TS 33.220 annex M was not to be
//!          read: see `derivation` for what is taken from elsewhere. Threats V-139, V-140.

use std::sync::Arc;
use std::time::Duration;

use super::challenges::PendingDigest;
use super::claim::{Claim, Named};
use super::config::DigestConfig;
use super::message::{self, UbAnswer, UbOutcome, UbRequest, has_digest_token};
use super::run::{Asker, Made, hex};
use super::{Bsf, Fresh, State};
use crate::authentication::digest::Hash;
use crate::identity::Impi;
use crate::instant::Now;
use crate::keys::derivation::{
    derive_digest_ks, derive_digest_password, digest_nonce, digest_nonce_rand, is_tmpi,
};
use crate::keys::{GbaType, Rand, TlsExport};
use crate::wire::Credentials;

/// What a run by password stands on: the settings, and what the connection exports.
pub(super) type Ground<'a> = (&'a DigestConfig, &'a TlsExport);

impl Bsf {
    /// Step 1.
    pub(super) fn by_password<'a>(&'a self, request: &UbRequest<'a>) -> Option<Ground<'a>> {
        let asks = request.user_agent.is_some_and(has_digest_token);
        self.config.digest.as_ref().zip(request.exported).filter(|_| asks)
    }

    /// Steps 2 to 4.
    pub(super) fn answer_digest(
        &self,
        state: &mut State,
        ground: Ground<'_>,
        (impi, credentials, target): (&Impi, &Credentials<'_>, &str),
        fresh: &Fresh,
        now: Now,
    ) -> UbAnswer {
        let (of, _) = ground;
        let malformed = |why| UbAnswer::plain(400, UbOutcome::Malformed, why);
        if credentials.nonce().is_empty() {
            return self.challenge_digest(state, of, impi, fresh, now);
        }
        // RFC 7616 section 3.3: MD5 where nothing is said.
        let named = Hash::of(credentials.algorithm().unwrap_or(b"MD5"));
        let hash = named.filter(|(hash, session)| !session && of.algorithms.contains(hash));
        let Some((hash, _)) = hash else { return malformed("the algorithm was not offered") };
        let Some(claim) = Claim::read(credentials, target, Named::Digest(hash)) else {
            return malformed("the Authorization is not an answer to our challenge");
        };
        if let Some(answer) = self.conclude_digest(state, ground, (impi, hash), &claim, now) {
            return answer;
        }
        let mut answer = self.challenge_digest(state, of, impi, fresh, now);
        if answer.status == 401 {
            answer.outcome = UbOutcome::Refused;
        }
        answer
    }

    /// Steps 3 and 4. `None` if anything is wrong.
    fn conclude_digest(
        &self,
        state: &mut State,
        (of, exported): Ground<'_>,
        (impi, hash): (&Impi, Hash),
        claim: &Claim<'_>,
        now: Now,
    ) -> Option<UbAnswer> {
        let rand = digest_nonce_rand(claim.nonce_text)?;
        let pending = state.digests.take(&rand, now.mono)?;
        let right = pending.impi == *impi
            && claim.realm == of.realm.as_str().as_bytes()
            && claim.opaque.is_none_or(|opaque| opaque == pending.opaque.as_bytes())
            && claim.nc == b"00000001"
            && claim.qop == b"auth-int";
        if !right {
            return None;
        }
        let subscriber = match state.subscribers.get(impi) {
            Ok(record) => &record?.subscriber,
            Err(_) => return Some(UbAnswer::store_unavailable()),
        };
        let secret = subscriber.digest.as_ref()?;
        let ha1 = secret.ha1(hash, impi, &of.realm)?.octets();
        let (barred, key_lifetime) = (subscriber.barred, subscriber.key_lifetime);
        let password = derive_digest_password(&ha1, exported).ok()?;
        let asker = Asker { username: impi.as_str().into(), impi: impi.clone() };
        let (response, _) = self.responses(&asker, claim, &*password, None);
        if !response.verify(claim.response) {
            return None;
        }
        if barred {
            return Some(UbAnswer::barred());
        }
        let ks = derive_digest_ks(&ha1, exported, &response.octets()).ok()?;
        let kind = GbaType::Digest;
        let made = Made { kind, rand, ks, tmpi: None, guss: None, key_lifetime };
        self.begin(state, &asker, claim, &*password, made, now)
    }

    /// Step 2.
    fn challenge_digest(
        &self,
        state: &mut State,
        of: &DigestConfig,
        impi: &Impi,
        fresh: &Fresh,
        now: Now,
    ) -> UbAnswer {
        let (rand, opaque) = (Rand(fresh.rand), hex(&fresh.opaque));
        let known = match state.subscribers.get(impi) {
            // A temporary name is no subscriber's own.
            _ if is_tmpi(impi.as_str()) => None,
            Ok(record) => record.filter(|record| record.subscriber.digest.is_some()),
            Err(_) => return UbAnswer::store_unavailable(),
        };
        let Some(record) = known else {
            if self.config.reveal_unknown {
                return UbAnswer::plain(
                    403,
                    UbOutcome::Refused,
                    "not a subscriber with a password",
                );
            }
            let name = Arc::from(impi.as_str());
            if let Err(wait) = state.digest_strangers.entry(name).take(now.mono) {
                return UbAnswer::later(UbOutcome::Paced, wait);
            }
            return print(of, &rand, &opaque, UbOutcome::StrangerChallenged);
        };
        if let Err(wait) = record.digests.take(now.mono) {
            return UbAnswer::later(UbOutcome::Paced, wait);
        }
        state.digests.purge(now.mono);
        if state.digests.has(&rand) {
            return UbAnswer::later(UbOutcome::Unable, Duration::from_secs(60));
        }
        let answer = print(of, &rand, &opaque, UbOutcome::Challenged);
        state.digests.add(rand, PendingDigest { impi: impi.clone(), opaque }, now.mono);
        answer
    }
}

/// A challenge: the same for whoever asks.
fn print(of: &DigestConfig, rand: &Rand, opaque: &str, outcome: UbOutcome) -> UbAnswer {
    let nonce = digest_nonce(rand);
    let offer = |hash: &Hash| {
        let value = message::challenge(of.realm.as_str(), &nonce, hash.as_str(), opaque);
        ("WWW-Authenticate", value)
    };
    let headers = of.algorithms.iter().map(offer).collect();
    UbAnswer { status: 401, headers, body: Vec::new(), outcome }
}
