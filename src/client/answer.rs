//! The UE, answers: from a challenge to credentials, and from Authentication-Info to trust in the server.
//!
//! With a card, each request takes three: one that names the realm and the user, if it is asked to; one that answers
//! the challenge of the card; before that, one with AUTS, if the card is out of step with the network.
//!
//! Takes:   401 and 407 responses, the credentials of the user, the name that was dialled; perhaps lists of whom to trust.
//! Gives:   Authorization and Proxy-Authorization rows; whether the server proved itself.
//! Keeps:   the nonce of each realm and the count used on it.
//! Refuses: a bootstrapping realm of another host than was dialled; algorithms below the user's floor; a second
//!          challenge without `stale` to credentials that were sent; a wrong `rspauth`; a challenge that was not made
//!          with the card's key.
//! Sources: RFC 7616 sections 3.3 to 3.6; RFC 8760 section 2.4; RFC 3310 section 3; TS 24.109 clause 5.2 and annex B.3; TS 33.222
//!          clause 5.3 (name check).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

use super::agreement::{Agreement, Protection};
use super::bootstrap::Bootstrapped;
use crate::authentication::aka::{AkaAlgorithm, AkaNonce, print_auts};
use crate::authentication::digest::{Ha1, Hash, Inputs, Qop, Response};
use crate::authentication::gba::prefix_of;
use crate::identity::Impi;
use crate::keys::usim::{CardAnswer, Usim};
use crate::keys::{NafId, UaId};
use crate::provision::Lists;
use crate::wire::{Challenge, Message, Method, Name, Text, auth, split};

/// What a user can prove himself with.
#[derive(Clone)]
pub enum Credential {
    /// A name and a password, for one realm or for whichever asks.
    Account {
        /// Digest username.
        username: String,
        /// Digest password.
        password: Zeroizing<String>,
        /// The realm; any but a bootstrapping one if `None`.
        realm: Option<String>,
    },
    /// A bootstrapped key.
    Gba {
        /// What the bootstrapping run gave.
        keys: Arc<Bootstrapped>,
        /// For which protocol the NAF key is.
        ua: UaId,
    },
    /// A card that proves itself over SIP. Write its window down when the UE ends.
    Card {
        /// The private identity.
        impi: Impi,
        /// The realm; whichever asks if `None`.
        realm: Option<String>,
        /// The card.
        card: Arc<Mutex<Usim>>,
    },
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Account { username, .. } => write!(f, "Account({username})"),
            Self::Gba { keys, .. } => write!(f, "Gba({})", keys.btid),
            Self::Card { impi, .. } => write!(f, "Card({impi})"),
        }
    }
}

/// Why a challenge is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unanswerable {
    /// No row for which there are credentials.
    NoCredentials,
    /// The realm asks for a key of another host than was dialled: whoever asks would learn a response.
    ForeignHost(String),
    /// Every row is below the weakest algorithm that is accepted.
    TooWeak,
    /// The realm is not among those that this client was told to trust, or it was told of none.
    Unlisted(String),
    /// The credentials were sent, and were not good.
    Refused,
    /// The challenge or Authentication-Info does not parse.
    Malformed,
    /// The server's own proof is wrong.
    ServerUnproved,
    /// The edge says that the list it was shown is not the one it gave.
    Altered,
    /// The edge can do nothing of what the UE can do.
    NothingInCommon,
    /// The challenge was not made with the card's key, or its sequence number is not taken over.
    CardRefuses,
}

impl fmt::Display for Unanswerable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCredentials => f.write_str("no credentials for any realm that was asked for: a bootstrapped key, or an account"),
            Self::ForeignHost(host) => {
                write!(f, "asked for a key of {host}, which is not the host that was dialled")
            }
            Self::TooWeak => f.write_str("only algorithms weaker than accepted were offered"),
            Self::Unlisted(realm) => write!(f, "realm {realm} is not listed"),
            Self::Refused => {
                f.write_str("the credentials were refused: bootstrap again, or check the password")
            }
            Self::Malformed => f.write_str("the challenge is malformed"),
            Self::ServerUnproved => {
                f.write_str("the server does not know the key: its rspauth is wrong")
            }
            Self::Altered => {
                f.write_str("what the edge can do was altered on the way, or is another now")
            }
            Self::NothingInCommon => {
                f.write_str("the edge offers no protection that is known here")
            }
            Self::CardRefuses => f.write_str("the card does not take the challenge"),
        }
    }
}

impl std::error::Error for Unanswerable {}

/// One realm's protection space.
#[derive(Clone, Debug)]
struct Space {
    realm: String,
    username: String,
    ha1: Ha1,
    hash: Hash,
    nonce: String,
    opaque: Option<String>,
    /// Whether qop is auth-int.
    int: bool,
    count: u32,
    proxy: bool,
    /// Whether credentials on this nonce were sent.
    tried: bool,
    /// Set for the realm of a card.
    aka: Option<Aka>,
}

/// Where a card's realm stands.
#[derive(Clone, Debug)]
struct Aka {
    algorithm: AkaAlgorithm,
    step: Step,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// The user is named; a challenge is due.
    Named,
    /// The card's sequence number is told.
    Resync(String),
    /// The card has answered.
    Answered,
}

/// Answers challenges for one user.
#[derive(Clone, Debug)]
pub struct Answerer {
    credentials: Vec<Credential>,
    host: String,
    floor: Hash,
    cnonce: String,
    spaces: Vec<Space>,
    agreement: Option<Agreement>,
    lists: Option<Lists>,
}

impl Answerer {
    /// For a user with `credentials` who dialled `host`; algorithms below `floor` are not answered. `cnonce` is
    /// random text without quotes.
    pub fn new(credentials: Vec<Credential>, host: &str, floor: Hash, cnonce: String) -> Self {
        let host = host.to_ascii_lowercase();
        Self { credentials, host, floor, cnonce, spaces: Vec::new(), agreement: None, lists: None }
    }

    /// The same, for a user who was told whom to trust.
    pub fn trusting(mut self, lists: Lists) -> Self {
        self.lists = Some(lists);
        self
    }

    /// Whether a realm may be answered, and with that algorithm.
    fn judge(&self, realm: &str, hash: Hash) -> Result<(), Unanswerable> {
        if hash < self.floor {
            return Err(Unanswerable::TooWeak);
        }
        let Some(lists) = &self.lists else { return Ok(()) };
        let document = lists.current().filter(|document| document.trusts_realm(realm));
        let document = document.ok_or_else(|| Unanswerable::Unlisted(realm.to_owned()))?;
        let listed = document.algorithms.digests.contains(&hash);
        listed.then_some(()).ok_or(Unanswerable::TooWeak)
    }

    /// The same, for a user who wants an agreement with the edge; `tls` says whether he speaks TLS.
    pub fn agreeing(mut self, tls: bool) -> Self {
        self.agreement = Some(Agreement::new(tls, self.floor));
        self
    }

    /// Whether he wants one.
    pub fn agrees(&self) -> bool {
        self.agreement.is_some()
    }

    /// What was agreed on with the edge.
    pub fn agreed_on(&self) -> Option<Protection> {
        self.agreement.as_ref().and_then(Agreement::made)
    }

    /// Takes in the list of a 421 or 494, and the challenge beside it if Digest is to begin.
    ///
    /// # Errors
    ///
    /// [`Unanswerable`]; the request is not to be sent again then.
    pub fn agreed(&mut self, response: &Message) -> Result<(), Unanswerable> {
        let agreement = self.agreement.as_mut().ok_or(Unanswerable::NothingInCommon)?;
        match agreement.take(response)? {
            Protection::Tls => Ok(()),
            Protection::Digest(..) => self.challenged(response),
        }
    }

    /// How many challenges to one request may be answered.
    pub fn challenges_max(&self) -> u8 {
        let has_card = self.credentials.iter().any(|c| matches!(c, Credential::Card { .. }));
        if has_card { 4 } else { 2 }
    }

    /// Takes in a challenge: the first row, from the top, for which there are credentials.
    ///
    /// # Errors
    ///
    /// [`Unanswerable`]; no credentials are to be sent then.
    pub fn challenged(&mut self, response: &Message) -> Result<(), Unanswerable> {
        let mut trouble = Unanswerable::NoCredentials;
        for (name, proxy) in [(Name::ProxyAuthenticate, true), (Name::WwwAuthenticate, false)] {
            for row in response.fields_named(name) {
                let parsed = Challenge::parse(row).map_err(|_| Unanswerable::Malformed)?;
                let Some(challenge) = parsed else { continue };
                match self.take(&challenge, proxy) {
                    Ok(()) => return Ok(()),
                    Err(Unanswerable::NoCredentials) => {}
                    Err(why) => trouble = why,
                }
            }
        }
        Err(trouble)
    }

    fn take(&mut self, challenge: &Challenge<'_>, proxy: bool) -> Result<(), Unanswerable> {
        let text =
            |name| challenge.param(name).map(|value| String::from_utf8_lossy(value).into_owned());
        let algorithm = challenge.param("algorithm").unwrap_or(b"MD5");
        if let Some(algorithm) = AkaAlgorithm::of(algorithm) {
            return self.take_aka(challenge, algorithm, proxy);
        }
        let (mut hash, session) = Hash::of(algorithm).ok_or(Unanswerable::NoCredentials)?;
        let agreed = match self.agreed_on() {
            Some(Protection::Digest(hash, int)) => Some((hash, int)),
            Some(Protection::Tls) | None => None,
        };
        // What was agreed on takes the place of what the challenge says (RFC 3329 section 2.4).
        hash = agreed.map_or(hash, |(hash, _)| hash);
        if session {
            return Err(Unanswerable::NoCredentials);
        }
        let offered = text("realm").ok_or(Unanswerable::Malformed)?;
        let (realm, username, password) = self.choose(&offered)?;
        self.judge(&realm, hash)?;
        let stale = challenge.param("stale").is_some_and(|v| v.eq_ignore_ascii_case(b"true"));
        let before = self.spaces.iter().find(|space| space.realm == realm);
        if before.is_some_and(|space| space.tried) && !stale {
            return Err(Unanswerable::Refused);
        }
        let qops = challenge.param("qop").unwrap_or_default();
        let offers =
            |wanted: &[u8]| split::commas(qops).any(|qop| qop.eq_ignore_ascii_case(wanted));
        let ha1 = Ha1::new(hash, username.as_bytes(), realm.as_bytes(), password.as_bytes());
        let space = Space {
            username,
            ha1,
            hash,
            nonce: text("nonce").ok_or(Unanswerable::Malformed)?,
            opaque: text("opaque"),
            int: agreed.map_or(!offers(b"auth") && offers(b"auth-int"), |(_, int)| int),
            count: 0,
            proxy,
            tried: false,
            aka: None,
            realm: realm.clone(),
        };
        self.spaces.retain(|space| space.realm != realm);
        self.spaces.push(space);
        Ok(())
    }

    /// The same for the realm of a card.
    fn take_aka(
        &mut self,
        challenge: &Challenge<'_>,
        algorithm: AkaAlgorithm,
        proxy: bool,
    ) -> Result<(), Unanswerable> {
        let text =
            |name| challenge.param(name).map(|value| String::from_utf8_lossy(value).into_owned());
        let realm = text("realm").ok_or(Unanswerable::Malformed)?;
        let held = self.credentials.iter().find_map(|credential| match credential {
            Credential::Card { impi, realm: own, card } => {
                let fits = own.as_ref().is_none_or(|own| *own == realm);
                fits.then(|| (impi.to_string(), Arc::clone(card)))
            }
            Credential::Account { .. } | Credential::Gba { .. } => None,
        });
        let (username, card) =
            held.filter(|_| !algorithm.session).ok_or(Unanswerable::NoCredentials)?;
        self.judge(&realm, algorithm.hash)?;
        let before = self.spaces.iter().find(|space| space.realm == realm && space.tried);
        let before = before.and_then(|space| space.aka.as_ref()).map(|aka| &aka.step);
        let nonce = text("nonce").unwrap_or_default();
        let (step, password) = if nonce.is_empty() {
            if before.is_some() {
                return Err(Unanswerable::Refused);
            }
            (Step::Named, Zeroizing::default())
        } else {
            if before == Some(&Step::Answered) {
                return Err(Unanswerable::Refused);
            }
            let parsed = AkaNonce::parse(nonce.as_bytes()).ok_or(Unanswerable::Malformed)?;
            let mut card = card.lock().unwrap_or_else(PoisonError::into_inner);
            match card.authenticate(&parsed.rand, &parsed.autn) {
                Ok(CardAnswer::Good(answers)) => {
                    let password =
                        algorithm.password(answers.res.expose(), &answers.ck, &answers.ik);
                    (Step::Answered, password.ok_or(Unanswerable::Malformed)?)
                }
                Ok(CardAnswer::OutOfStep(auts)) if !matches!(before, Some(Step::Resync(_))) => {
                    (Step::Resync(print_auts(&auts)), Zeroizing::default())
                }
                Ok(CardAnswer::OutOfStep(_)) | Err(_) => return Err(Unanswerable::CardRefuses),
            }
        };
        let qops = challenge.param("qop").unwrap_or_default();
        let offers_auth = split::commas(qops).any(|qop| qop.eq_ignore_ascii_case(b"auth"));
        let ha1 = Ha1::new(algorithm.hash, username.as_bytes(), realm.as_bytes(), &password);
        self.spaces.retain(|space| space.realm != realm);
        self.spaces.push(Space {
            username,
            ha1,
            hash: algorithm.hash,
            nonce,
            opaque: text("opaque"),
            int: !offers_auth,
            count: 0,
            proxy,
            tried: false,
            aka: Some(Aka { algorithm, step }),
            realm,
        });
        Ok(())
    }

    /// The part of an offered realm that can be answered, with username and password.
    fn choose(&self, offered: &str) -> Result<(String, String, Zeroizing<String>), Unanswerable> {
        let mut foreign = None;
        for part in offered.split(';') {
            for credential in &self.credentials {
                let Credential::Gba { keys, ua } = credential else { continue };
                // A realm is for keys of one kind.
                let Some(fqdn) = part.strip_prefix(prefix_of(keys.kind())) else { continue };
                if !fqdn.eq_ignore_ascii_case(&self.host) {
                    foreign = Some(Unanswerable::ForeignHost(fqdn.to_owned()));
                    continue;
                }
                let password = keys.naf_password(&NafId::new(fqdn, *ua));
                let password = password.map_err(|_| Unanswerable::Malformed)?;
                return Ok((part.to_owned(), keys.btid.as_str().to_owned(), password));
            }
        }
        if let Some(foreign) = foreign {
            return Err(foreign);
        }
        let bootstrapping = offered.starts_with("3GPP-bootstrapping");
        self.credentials
            .iter()
            .find_map(|credential| match credential {
                Credential::Account { username, password, realm } => {
                    let fits = realm.as_ref().map_or(!bootstrapping, |realm| realm == offered);
                    fits.then(|| (offered.to_owned(), username.clone(), password.clone()))
                }
                Credential::Gba { .. } | Credential::Card { .. } => None,
            })
            .ok_or(Unanswerable::NoCredentials)
    }

    /// Puts the credentials of every realm that has asked, with the next count of each.
    pub fn authorize(&mut self, text: &mut Text, method: &str, uri: &str, body: &[u8]) {
        if matches!(Method::of(method.as_bytes()), Method::Ack | Method::Cancel) {
            return;
        }
        for space in &mut self.spaces {
            if let Some(aka) = space.aka.as_mut().filter(|_| space.count > 0) {
                // A card's challenge is good for one answer: the next request asks for another.
                aka.step = Step::Named;
                (space.nonce, space.count) = (String::new(), 0);
            }
            space.count = space.count.saturating_add(1);
            space.tried = true;
            let name = if space.proxy { "Proxy-Authorization" } else { "Authorization" };
            text.field(name, |value| space.put(value, method, uri, body, &self.cnonce));
        }
        let Some(agreement) = self.agreement.as_ref().filter(|_| method != "PRACK") else { return };
        let covers = |space: &&Space| space.aka.is_none() && space.hash == Hash::Md5;
        let space = self.spaces.iter().find(covers);
        let digits = space.zip(agreement.list()).map(|(space, list)| {
            space.compute(method, uri, body, &self.cnonce, |ha1, inputs| {
                Response::vouching(ha1, inputs, list)
            })
        });
        let is_digest = matches!(agreement.made(), Some(Protection::Digest(..)));
        let digits = digits.as_ref().filter(|_| is_digest);
        agreement.put(text, digits.map(Response::as_hex));
    }

    /// Takes other credentials in the place of those it has, and forgets what was asked of them: the next challenge
    /// is answered with a new key.
    pub fn renew(&mut self, credentials: Vec<Credential>) {
        self.credentials = credentials;
        self.spaces.clear();
    }

    /// Notes that a request with credentials was accepted: a later challenge is a new one.
    pub fn accepted(&mut self) {
        for space in &mut self.spaces {
            space.tried = false;
        }
    }

    /// Takes in Authentication-Info: checks `rspauth`, and takes the next nonce over.
    ///
    /// # Errors
    ///
    /// [`Unanswerable::ServerUnproved`] or [`Unanswerable::Malformed`]: nothing of the response is to be used.
    pub fn informed(&mut self, response: &Message, uri: &str) -> Result<(), Unanswerable> {
        let Some(info) = response.first(Name::AuthenticationInfo) else { return Ok(()) };
        let params = auth::pairs(info).map_err(|_| Unanswerable::Malformed)?;
        let find = |name: &str| {
            params
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()))
                .map(|(_, v)| v)
        };
        let Some(space) = self.spaces.iter_mut().find(|space| !space.proxy) else { return Ok(()) };
        if let Some(claimed) = find("rspauth")
            && !space.response("", uri, response.body(), &self.cnonce).verify(claimed)
        {
            return Err(Unanswerable::ServerUnproved);
        }
        if let Some(next) = find("nextnonce") {
            (space.nonce, space.count) = (String::from_utf8_lossy(next).into_owned(), 0);
        }
        Ok(())
    }
}

impl Space {
    fn response(&self, method: &str, uri: &str, body: &[u8], cnonce: &str) -> Response {
        self.compute(method, uri, body, cnonce, Response::compute)
    }

    fn compute(
        &self,
        method: &str,
        uri: &str,
        body: &[u8],
        cnonce: &str,
        how: impl Fn(&Ha1, &Inputs<'_>) -> Response,
    ) -> Response {
        let nc = format!("{:08x}", self.count);
        let inputs = Inputs {
            hash: self.hash,
            session: false,
            method: method.as_bytes(),
            uri: uri.as_bytes(),
            nonce: self.nonce.as_bytes(),
            cnonce: cnonce.as_bytes(),
            nc: nc.as_bytes(),
            qop: if self.int { Qop::AuthInt(body) } else { Qop::Auth },
        };
        how(&self.ha1, &inputs)
    }

    fn put(&self, text: &mut Text, method: &str, uri: &str, body: &[u8], cnonce: &str) {
        let Self { realm, username, nonce, hash, .. } = self;
        let algorithm = self.aka.as_ref().map_or(hash.as_str(), |aka| aka.algorithm.as_str());
        if nonce.is_empty() && self.aka.is_some() {
            text.put(format!(
                "Digest username=\"{username}\", realm=\"{realm}\", nonce=\"\", uri=\"{uri}\", \
                 algorithm={algorithm}, response=\"\""
            ));
            return;
        }
        let response = self.response(method, uri, body, cnonce);
        text.put(format!(
            "Digest username=\"{username}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
             algorithm={algorithm}, qop={}, nc={:08x}, cnonce=\"{cnonce}\", response=\"",
            if self.int { "auth-int" } else { "auth" },
            self.count
        ));
        text.put(response.as_hex()).put("\"");
        if let Some(opaque) = &self.opaque {
            text.put(", opaque=\"").put(opaque).put("\"");
        }
        if let Some(Step::Resync(auts)) = self.aka.as_ref().map(|aka| &aka.step) {
            text.put(", auts=\"").put(auts).put("\"");
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn challenge(rows: &[&str]) -> Message {
        let rows: String =
            rows.iter().map(|row| format!("Proxy-Authenticate: {row}\r\n")).collect();
        let text = format!("SIP/2.0 407 X\r\n{rows}\r\n");
        Message::from_datagram(Bytes::from(text)).expect("well formed")
    }

    fn account() -> Answerer {
        let account = Credential::Account {
            username: "alice".into(),
            password: Zeroizing::new("wonderland".into()),
            realm: Some("sip.example.com".into()),
        };
        Answerer::new(vec![account], "sip.example.com", Hash::Md5, "c".into())
    }

    #[test]
    fn the_topmost_row_that_can_be_answered_is() {
        let mut answerer = account();
        let rows = [
            r#"Digest realm="other.example", nonce="n0", algorithm=SHA-256, qop="auth""#,
            r#"Digest realm="sip.example.com", nonce="n1", algorithm=SHA3, qop="auth""#,
            r#"Digest realm="sip.example.com", nonce="n2", algorithm=SHA-256, qop="auth,auth-int""#,
            r#"Digest realm="sip.example.com", nonce="n3", algorithm=MD5, qop="auth""#,
        ];
        assert_eq!(answerer.challenged(&challenge(&rows)), Ok(()));
        for count in ["nc=00000001", "nc=00000002"] {
            let mut text = Text::new();
            answerer.authorize(&mut text, "MESSAGE", "sip:bob@example.com", b"");
            let row = String::from_utf8(text.finish().expect("printable")).expect("text");
            assert!(row.starts_with("Proxy-Authorization: Digest username=\"alice\""), "{row}");
            assert!(row.contains("nonce=\"n2\"") && row.contains("algorithm=SHA-256"), "{row}");
            assert!(row.contains(count), "{row}");
        }
    }

    #[test]
    fn a_second_challenge_is_answered_only_if_it_says_stale() {
        let mut answerer = account();
        let row = r#"Digest realm="sip.example.com", nonce="n", algorithm=MD5, qop="auth""#;
        assert_eq!(answerer.challenged(&challenge(&[row])), Ok(()));
        answerer.authorize(&mut Text::new(), "OPTIONS", "sip:a", b"");
        assert_eq!(answerer.challenged(&challenge(&[row])), Err(Unanswerable::Refused));
        let stale = format!("{row}, stale=true");
        assert_eq!(answerer.challenged(&challenge(&[&stale])), Ok(()));
    }

    /// V-146.
    #[test]
    fn renewed_credentials_wait_for_a_challenge() {
        let mut answerer = account();
        let row = r#"Digest realm="sip.example.com", nonce="n", algorithm=MD5, qop="auth""#;
        assert_eq!(answerer.challenged(&challenge(&[row])), Ok(()));
        answerer.authorize(&mut Text::new(), "OPTIONS", "sip:a", b"");
        let other = Credential::Account {
            username: "alice2".into(),
            password: Zeroizing::new("looking glass".into()),
            realm: None,
        };
        answerer.renew(vec![other]);
        let mut text = Text::new();
        answerer.authorize(&mut text, "BYE", "sip:a", b"");
        assert_eq!(text.finish().expect("printable"), b"", "what the old ones answered is gone");
        assert_eq!(answerer.challenged(&challenge(&[row])), Ok(()), "and asked of none before");
        let mut text = Text::new();
        answerer.authorize(&mut text, "BYE", "sip:a", b"");
        let row = String::from_utf8(text.finish().expect("printable")).expect("text");
        assert!(row.contains("username=\"alice2\""), "{row}");
    }

    /// V-146: no credentials are sent, and the user is told why in one line.
    #[test]
    fn weak_algorithms_and_foreign_realms_get_nothing() {
        let mut answerer = account();
        answerer.floor = Hash::Sha256;
        let md5 = r#"Digest realm="sip.example.com", nonce="n", algorithm=MD5, qop="auth""#;
        assert_eq!(answerer.challenged(&challenge(&[md5])), Err(Unanswerable::TooWeak));
        let other = r#"Digest realm="evil.example", nonce="n", algorithm=SHA-256, qop="auth""#;
        assert_eq!(answerer.challenged(&challenge(&[other])), Err(Unanswerable::NoCredentials));
        let mut text = Text::new();
        answerer.authorize(&mut text, "OPTIONS", "sip:a", b"");
        assert_eq!(text.finish().expect("printable"), b"", "nothing was begun");
        for why in [
            Unanswerable::NoCredentials,
            Unanswerable::ForeignHost("evil.example".into()),
            Unanswerable::TooWeak,
            Unanswerable::Unlisted("evil.example".into()),
        ] {
            let told = why.to_string();
            assert!(!told.is_empty() && !told.contains('\n'), "{told:?}");
        }
    }
}
