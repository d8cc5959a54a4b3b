//! Stage 4, callers: an authenticated peer instance, and what one request showed of it.
//!
//! Takes:   what digest, channel, flow and peer group proved.
//! Gives:   [`Caller`], [`Evidence`] and its level.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: SEC_CF 1.1 AUTH-001; RFC 5922 section 8.1 (one request's digest proves nothing about the next).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use smallvec::SmallVec;

use crate::enabler::{Class, ClassSet, Entitlement, Family};
use crate::identity::{Impu, Principal};
use crate::instant::WallTime;
use crate::transport::Group;

/// An authenticated peer: the principal, and the key that proved it.
#[derive(Debug)]
pub struct Caller {
    /// Whom.
    pub principal: Principal,
    /// When the key is to be made anew.
    pub renewal: Renewal,
    /// Public identities, the default one first.
    pub identities: Arc<[Impu]>,
    /// The key's own name: B-TID, username or certificate. Another key of one principal has another.
    pub key_name: Arc<str>,
    /// When the evidence ends, whatever the dialog wishes; `None` for accounts.
    pub expires: Option<WallTime>,
    /// The rank of the best algorithm used with this key: what it is held to.
    pub strongest: AtomicU8,
    /// What it may use of the classes that ask for a right.
    pub rights: Rights,
}

/// A subscriber's right to one service, as his user security settings give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uss {
    /// The service, by its identifier.
    pub gsid: u32,
    /// Flags that are set.
    pub flags: Vec<u32>,
}

impl Uss {
    /// The service that is none: everybody's settings for it name his identities (TS 29.109 annex A, GSID 0).
    pub const UNSPECIFIC: u32 = 0;
}

/// What a caller may use of the classes that ask for a right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Of a subscriber.
    pub uss: Arc<[Uss]>,
    /// Of an account that is held to a list.
    pub classes: Option<ClassSet>,
}

impl Rights {
    /// Whether they are enough for `class`, which asks for `asked`. Any other SIP asks for nothing.
    pub fn allow(&self, class: Class, asked: Entitlement) -> bool {
        if class.family() == Family::Sip {
            return true;
        }
        match (self.classes, asked) {
            (Some(classes), _) => classes.has(class),
            (None, Entitlement::None) => true,
            (None, Entitlement::Uss { gsid, flag }) => self
                .uss
                .iter()
                .any(|uss| uss.gsid == gsid && flag.is_none_or(|flag| uss.flags.contains(&flag))),
        }
    }
}

/// When a key that its peer can make anew is to be, while there is still time for it.
#[derive(Debug, Default)]
pub struct Renewal {
    /// When the key was made, 0 if that was not told; `None` for what no peer can make anew.
    pub born: Option<WallTime>,
    asked: AtomicBool,
}

impl Renewal {
    /// That of a key made then.
    pub fn of(born: WallTime) -> Self {
        Self { born: Some(born), asked: AtomicBool::new(false) }
    }
}

impl Caller {
    /// The same, with marks of its own: what is noted of one is not noted of the other.
    pub fn twin(&self) -> Arc<Self> {
        let asked = AtomicBool::new(self.renewal.asked.load(Ordering::Acquire));
        Arc::new(Self {
            principal: self.principal.clone(),
            renewal: Renewal { born: self.renewal.born, asked },
            identities: Arc::clone(&self.identities),
            key_name: Arc::clone(&self.key_name),
            expires: self.expires,
            strongest: AtomicU8::new(self.strongest.load(Ordering::Relaxed)),
            rights: self.rights.clone(),
        })
    }

    /// Whether the peer is to be asked for another key: once, in the last fifth of the key's life, or in its last
    /// `window` if that is longer. Whoever asks this has asked.
    pub fn is_to_renew(&self, wall: WallTime, window: Duration) -> bool {
        let (Some(born), Some(ends)) = (self.renewal.born, self.expires) else { return false };
        let known = born != WallTime::default();
        let last = if known {
            window.max(Duration::from_secs(ends.since(born).as_secs() / 5))
        } else {
            window
        };
        ends.since(wall) <= last && !self.renewal.asked.swap(true, Ordering::AcqRel)
    }

    /// Whether `identity`, in the form of [`crate::wire::Uri::identity`], is one of the caller's.
    pub fn owns(&self, identity: &[u8]) -> bool {
        self.identities.iter().any(|own| own.key() == identity)
    }

    /// What lists of callers name it by: the username of an account, else the name that was proved.
    pub fn known_as(&self) -> &str {
        let name = &*self.principal.name;
        name.split_once('\t').map_or(name, |(_, username)| username)
    }

    /// Whether the key has ended.
    pub fn has_expired(&self, wall: WallTime) -> bool {
        self.expires.is_some_and(|expires| expires <= wall)
    }
}

/// What one request showed of its sender.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// Credentials in this request: response right, nonce ours and fresh, count unspent.
    pub digest: Option<Arc<Caller>>,
    /// Whether the response covers the body.
    pub integral: bool,
    /// The flow's own handshake.
    pub channel: Option<Arc<Caller>>,
    /// Principals verified on this unbroken secure flow before.
    pub secure_flow: SmallVec<[Arc<Caller>; 1]>,
    /// Principals that registered from this cleartext flow.
    pub registered: SmallVec<[Arc<Caller>; 1]>,
    /// The peer group, on the core side.
    pub peer: Option<Group>,
}

/// The kinds of evidence, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The flow's own handshake.
    Channel,
    /// Credentials in this request.
    Digest,
    /// An earlier request on this secure flow.
    SecureFlow,
    /// A registration from this flow.
    Registered,
    /// A peer group.
    Peer,
    /// Nothing.
    None,
}

impl Kind {
    /// Its name in counters and traces.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Digest => "digest",
            Self::SecureFlow => "secure-flow",
            Self::Registered => "registered",
            Self::Peer => "peer",
            Self::None => "none",
        }
    }
}

impl Evidence {
    /// The caller that this very request proves: by credentials, else by its channel.
    pub fn caller(&self) -> Option<&Arc<Caller>> {
        self.digest.as_ref().or(self.channel.as_ref())
    }

    /// The level for a request that forms a dialog: an earlier request on the flow counts for nothing there.
    pub fn level(&self) -> u8 {
        match (&self.digest, &self.channel, self.peer) {
            (Some(digest), Some(channel), _) if digest.principal == channel.principal => 4,
            (Some(_), ..) => 2,
            (None, Some(_), _) => 3,
            (None, None, Some(group)) => {
                if group.by_certificate {
                    3
                } else {
                    1
                }
            }
            (None, None, None) => 0,
        }
    }

    /// What there is of `principal` for a request inside a dialog, and its level.
    pub fn of(&self, principal: &Principal) -> (Kind, u8) {
        let (kind, level, _) = self.shown(principal, |_| true);
        (kind, level)
    }

    /// The same, of those of his keys that `counts` takes, and the key's caller.
    pub fn shown(
        &self,
        principal: &Principal,
        counts: impl Fn(&Caller) -> bool,
    ) -> (Kind, u8, Option<&Arc<Caller>>) {
        let is = |caller: &&Arc<Caller>| caller.principal == *principal && counts(caller);
        let (digest, channel) = (self.digest.as_ref().filter(is), self.channel.as_ref().filter(is));
        match (digest, channel) {
            (Some(caller), Some(_)) => return (Kind::Digest, 4, Some(caller)),
            (None, Some(caller)) => return (Kind::Channel, 3, Some(caller)),
            (Some(caller), None) => return (Kind::Digest, 2, Some(caller)),
            (None, None) => {}
        }
        if let Some(caller) = self.secure_flow.iter().find(is) {
            return (Kind::SecureFlow, 2, Some(caller));
        }
        match self.registered.iter().find(is) {
            Some(caller) => (Kind::Registered, 1, Some(caller)),
            None => (Kind::None, 0, None),
        }
    }

    /// Its strongest kind, for counters and traces.
    pub fn kind(&self) -> Kind {
        if self.digest.is_some() {
            Kind::Digest
        } else if self.channel.is_some() {
            Kind::Channel
        } else if self.peer.is_some() {
            Kind::Peer
        } else if !self.secure_flow.is_empty() {
            Kind::SecureFlow
        } else if !self.registered.is_empty() {
            Kind::Registered
        } else {
            Kind::None
        }
    }
}
