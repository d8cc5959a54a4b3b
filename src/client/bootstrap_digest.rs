//! The UE, bootstrap by password: the run on Ub with a SIP Digest password (GBA_Digest), over TLS alone.
//!
//! 1. A GET with the IMPI, that asks for such a run in User-Agent.
//! 2. 401: the topmost challenge that may be answered. `passwd` comes of the password and of what this connection exports,
//!    and the response is made with that: nobody who sits between two connections can use it.
//! 3. 200: `rspauth`, then the body. 401: step 2, at most twice.
//!
//! Takes:   a password, whom to ask, and each answer of the server with what its connection exports.
//! Gives:   [`UbGet`]; at the end [`Bootstrapped`].
//! Keeps:   what it needs between two answers.
//! Refuses: what a run with a card refuses; a challenge of a card; a nonce of over [`NONCE_MAX`] octets.
//! Sources: TS 33.220 annex B.5; TS 24.109 annex I.2, its first half; RFC 7616 sections 3.4 and 3.5. What of it was not to be
//!          read, `keys::derivation` says.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::bootstrap::{
    Asked, Bootstrapped, Origin, Proof, RESPONSES_MAX, UbFailure, UbGet, UbNext, UbPlan, UbReply,
};
use crate::authentication::digest::{Ha1, Hash};
use crate::instant::Now;
use crate::keys::bootstrap::{DIGEST_TOKENS, EXPORTER_LABEL};
use crate::keys::derivation::{derive_digest_ks, derive_digest_password};
use crate::keys::{Ks, TlsExport};
use crate::wire::Challenge;

/// Longest nonce that is answered, in octets.
pub const NONCE_MAX: usize = 256;

/// With what the user proves himself.
#[derive(Clone)]
pub struct UbPassword {
    /// The password.
    pub password: Zeroizing<String>,
    /// What may be answered: SHA-256, MD5 or both.
    pub algorithms: Vec<Hash>,
    /// The label under which both ends export.
    pub exporter: Arc<str>,
}

impl UbPassword {
    /// That password: SHA-256 and MD5, [`EXPORTER_LABEL`].
    pub fn new(password: Zeroizing<String>) -> Self {
        let algorithms = vec![Hash::Sha256, Hash::Md5];
        Self { password, algorithms, exporter: EXPORTER_LABEL.into() }
    }
}

impl fmt::Debug for UbPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UbPassword(.., {:?}, {:?})", self.algorithms, self.exporter)
    }
}

/// One run.
#[derive(Debug)]
pub struct DigestBootstrap<'a> {
    plan: &'a UbPlan,
    user: &'a UbPassword,
    /// The response that is out: what the server is to prove, and the key that it made.
    answered: Option<Box<(Proof, Ks)>>,
    responses: u8,
    over: bool,
}

impl<'a> DigestBootstrap<'a> {
    /// A run; the algorithms of `plan` are a card's, and not used.
    pub fn new(plan: &'a UbPlan, user: &'a UbPassword) -> Self {
        Self { plan, user, answered: None, responses: 0, over: false }
    }

    /// The first request.
    pub fn start(&self) -> UbGet {
        let impi = self.plan.impi.as_str();
        let home = impi.rsplit_once('@').map_or(impi, |(_, home)| home);
        let realm = self.plan.realm.as_deref().unwrap_or(home);
        self.get(format!(
            "Digest username=\"{impi}\",realm=\"{realm}\",nonce=\"\",uri=\"{}\",response=\"\"",
            self.plan.path
        ))
    }

    /// Takes an answer. `cnonce` is random; `exported` is what the connection exports on which the next request goes out.
    ///
    /// # Errors
    ///
    /// [`UbFailure`]; the run is over then.
    pub fn handle(
        &mut self,
        reply: &UbReply<'_>,
        cnonce: [u8; 16],
        exported: &TlsExport,
        now: Now,
    ) -> Result<UbNext, UbFailure> {
        let answered = self.answered.take();
        if std::mem::replace(&mut self.over, true) {
            return Err(UbFailure::Refused(reply.status));
        }
        match (reply.status, answered) {
            (401, _) if self.responses >= RESPONSES_MAX => Err(UbFailure::Refused(401)),
            (401, _) => self.challenged(reply, cnonce, exported),
            (200, Some(answered)) => self.conclude(*answered, reply, now),
            (status, _) => Err(UbFailure::Refused(status)),
        }
    }

    /// Step 2.
    fn challenged(
        &mut self,
        reply: &UbReply<'_>,
        cnonce: [u8; 16],
        exported: &TlsExport,
    ) -> Result<UbNext, UbFailure> {
        let offer = reply.challenges.iter().find_map(|row| self.read(row));
        let (hash, asked, realm) = offer.ok_or(UbFailure::NoUsableChallenge)?;
        let (impi, password) = (&self.plan.impi, self.user.password.as_bytes());
        let ha1 = Ha1::new(hash, impi.as_str().as_bytes(), realm.as_bytes(), password).octets();
        let unfit = |_| UbFailure::NoUsableChallenge;
        let password = derive_digest_password(&ha1, exported).map_err(unfit)?;
        let proof = asked.prove(impi, (hash, false), cnonce, &*password);
        let response = proof.response("GET", &self.plan.path, b"").octets();
        let ks = derive_digest_ks(&ha1, exported, &response).map_err(unfit)?;
        let credentials = proof.credentials(&self.plan.path, hash.as_str());
        self.responses = self.responses.saturating_add(1);
        (self.answered, self.over) = (Some(Box::new((proof, ks))), false);
        Ok(UbNext::Get(self.get(credentials)))
    }

    fn read(&self, row: &[u8]) -> Option<(Hash, Asked, String)> {
        let challenge = Challenge::parse(row).ok().flatten()?;
        // RFC 7616 section 3.3: MD5 where nothing is said.
        let (hash, session) = Hash::of(challenge.param("algorithm").unwrap_or(b"MD5"))?;
        let asked = Asked::read(&challenge, self.plan.realm.as_deref())?;
        let realm = asked.realm.clone();
        let fits = !session && self.user.algorithms.contains(&hash);
        let bounded = (1..=NONCE_MAX).contains(&asked.nonce.len());
        (fits && bounded).then_some((hash, asked, realm))
    }

    /// Step 3.
    fn conclude(
        &self,
        (proof, ks): (Proof, Ks),
        reply: &UbReply<'_>,
        now: Now,
    ) -> Result<UbNext, UbFailure> {
        let (info, expires) = proof.conclude(&self.plan.path, reply, now)?;
        Ok(UbNext::Done(Box::new(Bootstrapped {
            impi: self.plan.impi.clone(),
            btid: info.btid,
            ks,
            origin: Origin::Password(proof.asked.nonce.as_str().into()),
            created: now.wall,
            expires,
            tmpi: None,
        })))
    }

    fn get(&self, authorization: String) -> UbGet {
        let [token, _] = DIGEST_TOKENS;
        UbGet {
            target: self.plan.path.clone(),
            host: self.plan.server.clone(),
            user_agent: format!("{} {token}", self.plan.product),
            authorization,
        }
    }
}
