//! Assembly, revocation: what an operator takes back of a running edge.
//!
//! Takes:   a dialog's number, a caller's name, or a B-TID.
//! Gives:   how many keys, sessions and dialogs it was.
//! Keeps:   nothing; the cache keeps a B-TID that was taken back from being asked for again. A caller with another key,
//!          or an account, may begin new dialogs: an account is taken back in its file.
//! Refuses: nothing; what nobody has is none.
//! Sources: `dialog-association` sections 4 and 17; rule 19; V-73.

use super::Running;
use crate::association::Origin;
use crate::clock;
use crate::identity::{Btid, Impi, Principal, Proof};

/// What was taken back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revoked {
    /// Keys that are not taken any more, of those that were held.
    pub keys: usize,
    /// Sessions of the bootstrapping server in this process that are over.
    pub sessions: usize,
    /// Dialogs that can only be torn down, and those that do not come to be.
    pub dialogs: usize,
}

impl Revoked {
    /// Whether it was nothing.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// What people call a principal: an account is `username@realm` for them, all others have their name.
pub fn name_of(principal: &Principal) -> String {
    match principal.name.split_once('\t') {
        Some((realm, username)) if principal.proof == Proof::Account => {
            format!("{username}@{realm}")
        }
        _ => principal.name.to_string(),
    }
}

/// Whether people call a principal by that name.
pub fn is_called(principal: &Principal, name: &str) -> bool {
    *principal.name == *name || name_of(principal) == name
}

impl Running {
    /// Takes back every key of a B-TID, and its session where it is ours: no request and no handshake is judged by it any
    /// more, connections that stand on it are closed, and dialogs can only be torn down.
    pub fn revoke(&self, btid: &Btid) -> Revoked {
        let keys = self.keys.revoke(btid, clock::now());
        let ended = self.bsf.as_ref().filter(|bsf| bsf.end_session(btid));
        if let Some(bsf) = ended {
            // Whatever cannot be written now is written at the next beat, which tells of it.
            let _ = bsf.keep();
        }
        self.shared.gate.authentication.flows().take_back(|caller| {
            caller.principal.proof == Proof::Gba && *caller.key_name == *btid.as_str()
        });
        let associations = &self.shared.gate.associations;
        let dialogs = associations.revoke_key(Proof::Gba, btid.as_str(), clock::now());
        self.edge.keys_taken_back();
        Revoked { keys, sessions: usize::from(ended.is_some()), dialogs }
    }

    /// Takes back the keys of subscribers who are barred or gone at the bootstrapping server in this process.
    pub fn revoke_barred(&self) {
        let Some(bsf) = &self.bsf else { return };
        let barred = |btid: &Btid, principal: &Principal| {
            // Who is known by his B-TID alone is known to the server, and not here.
            let named = *principal.name != *btid.as_str();
            named
                && btid.bsf().eq_ignore_ascii_case(bsf.name())
                && Impi::new(&principal.name).is_some_and(|impi| bsf.bars(&impi))
        };
        self.keys.btids_of(barred).iter().for_each(|btid| {
            self.revoke(btid);
        });
    }

    /// Takes back all that came of one request: its dialogs can only be torn down.
    pub fn revoke_dialog(&self, id: u64) -> Revoked {
        let dialogs = self.shared.gate.associations.revoke_dialog(id, clock::now());
        Revoked { dialogs, ..Revoked::default() }
    }

    /// Takes back whatever somebody stands on: the bootstrapped keys that are known, what he proved on his flows, his
    /// dialogs.
    pub fn revoke_caller(&self, name: &str) -> Revoked {
        let mut revoked = Revoked::default();
        for btid in self.keys.btids_of(|_, principal| is_called(principal, name)) {
            let Revoked { keys, sessions, dialogs } = self.revoke(&btid);
            revoked.keys = revoked.keys.saturating_add(keys);
            revoked.sessions = revoked.sessions.saturating_add(sessions);
            revoked.dialogs = revoked.dialogs.saturating_add(dialogs);
        }
        let gate = &self.shared.gate;
        gate.authentication.flows().take_back(|caller| is_called(&caller.principal, name));
        let gone = |origin: &Origin, _| is_called(&origin.owner, name);
        let dialogs = gate.associations.revoke(gone, clock::now());
        revoked.dialogs = revoked.dialogs.saturating_add(dialogs);
        revoked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_principal_is_called_by_his_name_and_an_account_by_its_address() {
        let account = Principal::new(Proof::Account, "example.net\talice");
        let card = Principal::new(Proof::Gba, "alice@example.net");
        for (principal, name, expected) in [
            (&account, "alice@example.net", true),
            (&account, "example.net\talice", true),
            (&account, "alice", false),
            (&account, "bob@example.net", false),
            (&account, "alice@net", false),
            (&card, "alice@example.net", true),
            (&card, "example.net", false),
        ] {
            assert_eq!(is_called(principal, name), expected, "{principal:?} {name:?}");
        }
    }
}
