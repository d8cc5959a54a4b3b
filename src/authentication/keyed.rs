//! Stage 4, keys: whose response it is, by accounts and by bootstrapped keys.
//!
//! Takes:   a row of credentials, and what its response was computed over.
//! Gives:   the caller and HA1, if the response is right.
//! Keeps:   nothing.
//! Refuses: keys that the key server keeps from us; a key of another kind than its realm is for, as if unknown; names that
//!          are not known look like wrong responses, and cost as much.
//! Sources: RFC 7616 section 3.4; TS 33.220 annexes B.3 and H (a key for each protocol); TS 29.109 (5402).

use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use super::caller::{Caller, Renewal, Rights};
use super::digest::{Ha1, Hash, Inputs, Response};
use super::{Authentication, Naf, Settings};
use crate::enabler::Family;
use crate::gate::{Halt, Lookup};
use crate::identity::{Btid, Impu, Principal, Proof};
use crate::instant::Now;
use crate::keys::{KeyAnswer, NafKey};
use crate::refusal::Refusal;
use crate::wire::Credentials;

impl Authentication {
    /// The caller and HA1, if the response is right; a name that is not known is computed for like any other.
    pub(super) fn right_one(
        &self,
        known: Option<(Arc<Caller>, Ha1)>,
        row: &Credentials<'_>,
        inputs: &Inputs<'_>,
    ) -> Option<(Arc<Caller>, Ha1)> {
        let (username, realm) = (row.username(), row.realm());
        let (caller, ha1) = match known {
            Some((caller, ha1)) => (Some(caller), ha1),
            None => (None, Ha1::new(inputs.hash, username, realm, &self.decoy)),
        };
        let right = Response::compute(&ha1, inputs).verify(row.response());
        caller.filter(|_| right).map(|caller| (caller, ha1))
    }

    /// The account that a row names.
    pub(super) fn of_account(
        &self,
        settings: &Settings,
        row: &Credentials<'_>,
        hash: Hash,
    ) -> Option<(Arc<Caller>, Ha1)> {
        let realm = settings.account_realm.as_ref()?;
        let username = std::str::from_utf8(row.username()).ok()?;
        let (accounts, realm) = (self.accounts.load(), realm.as_str());
        if self.aside {
            return accounts.aside(realm, username, hash);
        }
        accounts.user(realm, username, hash)
    }

    /// The bootstrapped caller whose key of `family` the response is right by. Of several keys each is asked for in
    /// turn; what none of them can be, is as if unknown.
    pub(super) fn right_key(
        &self,
        naf: &Naf,
        family: Family,
        row: &Credentials<'_>,
        inputs: &Inputs<'_>,
        now: Now,
    ) -> Result<Option<(Arc<Caller>, Ha1)>, Halt> {
        let (username, realm) = (row.username(), row.realm());
        let Some(btid) = naf.btid(username) else {
            return Ok(self.right_one(None, row, inputs));
        };
        let of = naf.realm_of(realm);
        let mut forbidden = false;
        for id in naf.naf_ids(family) {
            let known = match self.keys.naf_key(&btid, id, now) {
                KeyAnswer::Known(key)
                    if key.expires > now.wall && of.is_some_and(|(kind, _)| kind == key.kind) =>
                {
                    let hash = inputs.hash;
                    let make = || Ha1::new(hash, username, realm, key.password().as_bytes());
                    // Another spelling of the realm is another HA1.
                    let usual = of.is_some_and(|(_, own)| realm == own.as_bytes());
                    let ha1 = if usual { key.ready.ha1(hash, make) } else { make() };
                    Some((key.ready.caller(|| bootstrapped(&btid, &key)), ha1))
                }
                KeyAnswer::Known(_) | KeyAnswer::Unknown => None,
                KeyAnswer::Forbidden => {
                    forbidden = true;
                    continue;
                }
                KeyAnswer::Ask => {
                    let naf = id.clone();
                    return Err(Halt::Wait(Lookup::NafKey { btid, naf }));
                }
                KeyAnswer::Unavailable => return Err(Refusal::KeySourceUnavailable.into()),
            };
            forbidden = false;
            if let Some(right) = self.right_one(known, row, inputs) {
                return Ok(Some(right));
            }
        }
        if forbidden { Err(Refusal::KeyForbidden.into()) } else { Ok(None) }
    }
}

/// The caller that a bootstrapped key proves.
pub(crate) fn bootstrapped(btid: &Btid, key: &NafKey) -> Caller {
    Caller {
        principal: principal_of(btid, key),
        renewal: Renewal::of(key.created),
        identities: Arc::clone(&key.identities),
        key_name: btid.as_str().into(),
        expires: Some(key.expires),
        strongest: AtomicU8::new(0),
        rights: Rights { uss: Arc::clone(&key.uss), classes: None },
    }
}

/// Whom a bootstrapped key proves: its IMPI; where the server withholds that, the set of public identities; where it
/// names none either, nobody but the holder of this key, whom no other key can be linked to.
pub(crate) fn principal_of(btid: &Btid, key: &NafKey) -> Principal {
    let identities = || {
        let mut names: Vec<&str> = key.identities.iter().map(Impu::as_str).collect();
        names.sort_unstable();
        names.dedup();
        names.join(" ")
    };
    let name = match &key.impi {
        Some(impi) => impi.as_str().into(),
        None if key.identities.is_empty() => btid.as_str().into(),
        None => identities(),
    };
    Principal::new(Proof::Gba, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instant::{Instant, Now, WallTime};
    use crate::testing::lab::{UE1_PASSWORD, lab_key};

    /// `dialog-association` section 2.1: who makes another key is the same caller.
    #[test]
    fn a_key_without_impi_proves_the_set_of_its_public_identities() {
        let now = Now { mono: Instant::START, wall: WallTime::from_unix(1_790_000_000) };
        let btid = |name: &str| Btid::new(name).expect("a B-TID");
        let key = |impi: Option<&str>, identities: &[&str]| {
            let mut key = lab_key(UE1_PASSWORD, "x", identities, now);
            key.impi = impi.map(|impi| crate::identity::Impi::new(impi).expect("an IMPI"));
            key
        };
        let both = ["sip:b@x", "sip:a@x", "sip:b@x"];
        for (of, expected) in [
            (key(Some("ue1@x"), &both), "ue1@x"),
            (key(None, &both), "sip:a@x sip:b@x"),
            (key(None, &["sip:a@x", "sip:b@x"]), "sip:a@x sip:b@x"),
            (key(None, &[]), "r@bsf"),
        ] {
            assert_eq!(*principal_of(&btid("r@bsf"), &of).name, *expected);
        }
    }
}
