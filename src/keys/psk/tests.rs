use std::sync::Mutex;
use std::time::Duration;

use super::*;
use crate::identity::Impi;
use crate::instant::Instant;
use crate::keys::derivation::derive_ks_naf;
use crate::keys::naf::{CacheBounds, NafCache};
use crate::keys::{GbaType, Ks, NafKey, Rand};

const SERVER: &str = "naf1.home1.net";
const BTID: &str = "I1U8vpY3qJ0hiuZNrke/NQ==@bsf.home1.net";
const ENDS: u64 = 1000;

fn at(seconds: u64) -> Now {
    Now { mono: Instant::from_micros(seconds * 1_000_000), wall: WallTime::from_unix(seconds) }
}

fn btid() -> Btid {
    Btid::new(BTID).expect("a name")
}

fn identity() -> String {
    PskName::identity_of(&btid())
}

/// A server that knows one B-TID; what it was asked for.
#[derive(Default)]
struct Server(Mutex<Vec<UaId>>);

impl KeySource for Server {
    fn naf_key(&self, asked: &Btid, naf: &NafId, _: Now) -> KeyAnswer {
        self.0.lock().unwrap().push(naf.ua());
        if *asked != btid() {
            return KeyAnswer::Unknown;
        }
        let ks = Ks::new([8; 32]);
        let impi = Impi::new("user1_private@home1.net").expect("a name");
        let key = derive_ks_naf(&ks, &Rand([7; 16]), &impi, naf).expect("short");
        let identities = [Impu::new("sip:user1@home1.net").expect("a URI")].into();
        let (created, expires) = (WallTime::from_unix(0), WallTime::from_unix(ENDS));
        let ready = Default::default();
        KeyAnswer::Known(Arc::new(NafKey {
            key,
            impi: Some(impi),
            identities,
            expires,
            uss: Arc::from([]),
            created,
            kind: Default::default(),
            ready,
        }))
    }
}

fn keys(source: Arc<dyn KeySource>) -> PskKeys {
    let settings = PskSettings {
        server_name: SERVER.into(),
        scheme: Scheme::ThreeGpp,
        keys: Some(source),
        decoy: [9; 32],
    };
    PskKeys::new(settings, provisioned(3))
}

fn provisioned(octet: u8) -> ProvisionedKeys {
    let one = Provisioned {
        key: PskKey::new(&[octet; 32]).expect("it fits"),
        identities: [Impu::new("sip:alice@home1.net").expect("a URI")].into(),
        expires: Some(WallTime::from_unix(ENDS)),
    };
    [("psk;alice@bsf.home1.net".into(), Arc::new(one))].into()
}

fn known(found: Found) -> Option<Psk> {
    match found {
        Found::Key(psk) => Some(psk).filter(|psk| psk.proof.is_some()),
        Found::Ask(lookup) => panic!("{lookup:?}"),
    }
}

#[test]
fn identities_are_read_in_every_spelling() {
    let name = Some(PskName::Bootstrapped(btid()));
    let own = |text: &str| Some(PskName::Provisioned(text.into()));
    let long = format!("3GPP-bootstrapping;AAAA@{}", "a".repeat(105));
    for (identity, expected) in [
        (identity(), name.clone()),
        (format!("3GPP-bootstrapping.{BTID}"), name.clone()),
        (format!("3GPP-bootstrapping{BTID}"), name),
        (format!("3GPP-bootstrapping;;{BTID}"), None),
        (format!("3GPP-bootstrapping-uicc;{BTID}"), None),
        (format!("3GPP-bootstrapping-digest;{BTID}"), None),
        (format!("3gpp-bootstrapping;{BTID}"), None),
        (BTID.to_owned(), None),
        ("3GPP-bootstrapping;@bsf.home1.net".to_owned(), None),
        ("3GPP-bootstrapping;AAAA@".to_owned(), None),
        ("3GPP-bootstrapping;AAAA".to_owned(), None),
        ("3GPP-bootstrapping".to_owned(), None),
        (String::new(), None),
        ("psk;alice@bsf.home1.net".to_owned(), own("psk;alice@bsf.home1.net")),
        ("psk;alice".to_owned(), None),
        ("psk.alice@bsf.home1.net".to_owned(), None),
        (format!("{long}a"), None),
    ] {
        assert_eq!(PskName::read(identity.as_bytes()), expected, "{identity:?}");
    }
    assert_eq!((long.len(), PskName::read(long.as_bytes()).is_some()), (IDENTITY_MAX + 1, false));
    assert!(PskName::read(&long.as_bytes()[..IDENTITY_MAX]).is_some(), "the longest");
    assert_eq!(PskName::read(b"3GPP-bootstrapping;\xff@bsf"), None);
}

#[test]
fn each_handshake_has_a_key_of_its_own() {
    for (of, scheme, ua) in [
        (PskUse::Suite(0x00a8), Scheme::ThreeGpp, [1, 0, 1, 0, 0xa8]),
        (PskUse::Suite(0xccac), Scheme::ThreeGpp, [1, 0, 1, 0xcc, 0xac]),
        (PskUse::Suite(0xccac), Scheme::Oma, [3, 0, 1, 0xcc, 0xac]),
        (PskUse::Tls13, Scheme::ThreeGpp, [1, 0, 0, 0, 7]),
        (PskUse::Tls13, Scheme::Oma, [1, 0, 0, 0, 7]),
    ] {
        let server = Arc::new(Server::default());
        let settings = PskSettings {
            server_name: SERVER.into(),
            scheme,
            keys: Some(Arc::<Server>::clone(&server)),
            decoy: [9; 32],
        };
        let keys = PskKeys::new(settings, ProvisionedKeys::new());
        let psk = known(keys.find(identity().as_bytes(), Some(SERVER), of, at(1)));
        let proof = psk.expect("known").proof.expect("somebody");
        assert_eq!(*server.0.lock().unwrap(), [UaId(ua)], "{of:?} {scheme:?}");
        assert_eq!(&*proof.caller.principal.name, "user1_private@home1.net");
        assert_eq!(&*proof.caller.key_name, BTID);
    }
}

/// V-47: whatever is wrong, a key comes back, always the same one, which no one has.
#[test]
fn who_is_not_known_gets_a_key_that_nobody_has() {
    let keys = keys(Arc::new(Server::default()));
    let of = PskUse::Suite(0xa8);
    let real = known(keys.find(identity().as_bytes(), None, of, at(1))).expect("no SNI, no doubt");
    let other = "3GPP-bootstrapping;AAAAAAAAAAAAAAAAAAAAAA==@bsf.home1.net".to_owned();
    for (name, identity, asked_for, now) in [
        ("unknown", &other, Some(SERVER), 1),
        ("another server", &identity(), Some("naf2.home1.net"), 1),
        ("a part of the name", &identity(), Some("home1.net"), 1),
        ("over", &identity(), Some(SERVER), ENDS),
        ("no prefix", &BTID.to_owned(), Some(SERVER), 1),
        ("unknown, provisioned", &"psk;bob@bsf.home1.net".to_owned(), Some(SERVER), 1),
        ("provisioned, over", &"psk;alice@bsf.home1.net".to_owned(), Some(SERVER), ENDS),
        ("provisioned, elsewhere", &"psk;alice@bsf.home1.net".to_owned(), Some("x"), 1),
        ("too long", &"x".repeat(IDENTITY_MAX + 1), Some(SERVER), 1),
    ] {
        let mut found = (0..2).map(|_| keys.find(identity.as_bytes(), asked_for, of, at(now)));
        let (Some(Found::Key(one)), Some(Found::Key(two))) = (found.next(), found.next()) else {
            panic!("{name}: it was to be asked for");
        };
        assert!(one.proof.is_none(), "{name}");
        assert_eq!(one.key.expose().len(), real.key.expose().len(), "{name}");
        assert_eq!(one.key.expose(), two.key.expose(), "{name}");
        assert_ne!(one.key.expose(), real.key.expose(), "{name}");
    }
}

/// A key that a password made is for Digest: in a handshake it is as one that nobody has.
#[test]
fn a_key_of_a_password_proves_nobody_in_a_handshake() {
    struct OfPassword(Server);
    impl KeySource for OfPassword {
        fn naf_key(&self, asked: &Btid, naf: &NafId, now: Now) -> KeyAnswer {
            let KeyAnswer::Known(key) = self.0.naf_key(asked, naf, now) else {
                return KeyAnswer::Unknown;
            };
            KeyAnswer::Known(Arc::new(NafKey { kind: GbaType::Digest, ..NafKey::clone(&key) }))
        }
    }
    let cards = keys(Arc::new(Server::default()));
    let passwords = keys(Arc::new(OfPassword(Server::default())));
    let find = |keys: &PskKeys| {
        let found = keys.find(identity().as_bytes(), Some(SERVER), PskUse::Tls13, at(1));
        known(found).is_some()
    };
    assert_eq!((find(&cards), find(&passwords)), (true, false));
}

#[test]
fn the_name_dialled_is_compared_as_names_are() {
    let keys = keys(Arc::new(Server::default()));
    for name in [SERVER, "NAF1.Home1.net", "naf1.home1.net."] {
        for identity in [identity(), "psk;alice@bsf.home1.net".to_owned()] {
            let psk = known(keys.find(identity.as_bytes(), Some(name), PskUse::Tls13, at(1)));
            assert!(psk.is_some(), "{name} {identity}");
        }
    }
}

#[test]
fn what_is_not_here_is_asked_for_once() {
    let cache = Arc::new(NafCache::new(CacheBounds::default(), ["bsf.home1.net"]));
    let keys = keys(Arc::<NafCache>::clone(&cache));
    let of = PskUse::Suite(0xa8);
    let find = |identity: &str, name| keys.find(identity.as_bytes(), Some(name), of, at(1));
    let Found::Ask(Lookup::NafKey { btid: asked, naf }) = find(&identity(), SERVER) else {
        panic!("nobody is asked");
    };
    assert_eq!((asked.as_str(), naf.ua()), (BTID, UaId::tls(0xa8)));
    for (identity, name) in [
        (identity().as_str(), "naf2.home1.net"),
        ("3GPP-bootstrapping;AAAA@attacker.example", SERVER),
        ("3GPP-bootstrapping-uicc;AAAA@bsf.home1.net", SERVER),
    ] {
        assert!(known(find(identity, name)).is_none(), "{identity} for {name}: nobody is asked");
    }
    // The server was away.
    assert!(keys.settle(identity().as_bytes(), Some(SERVER), of, at(1)).proof.is_none());
    let answer = Server::default().naf_key(&asked, &naf, at(1));
    cache.insert(&asked, &naf, answer, at(1));
    let psk = keys.settle(identity().as_bytes(), Some(SERVER), of, at(1));
    let proof = psk.proof.expect("it is here now");
    assert!(keys.holds(&proof, at(ENDS - 1)));
    assert!(!keys.holds(&proof, at(ENDS)), "its time is over");
    cache.revoke(&asked, at(2));
    assert!(!keys.holds(&proof, at(3)), "it was taken back");
    assert!(known(find(&identity(), SERVER)).is_none());
}

#[test]
fn a_provisioned_key_holds_while_it_is_there() {
    let keys = keys(Arc::new(Server::default()));
    let name = b"psk;alice@bsf.home1.net";
    let find = || known(keys.find(name, Some(SERVER), PskUse::Tls13, at(1)));
    let psk = find().expect("known");
    assert_eq!(psk.key.expose(), [3; 32]);
    let proof = psk.proof.expect("somebody");
    assert_eq!(proof.caller.principal.proof, Proof::ProvisionedKey);
    assert!(keys.holds(&proof, at(1)) && !keys.holds(&proof, at(1) + Duration::from_secs(ENDS)));
    keys.replace(provisioned(3));
    assert!(keys.holds(&proof, at(1)), "read again, it is the same");
    keys.replace(provisioned(4));
    assert!(!keys.holds(&proof, at(1)), "another key");
    assert_eq!(find().expect("known").key.expose(), [4; 32]);
    keys.replace(ProvisionedKeys::new());
    assert!(find().is_none());
}

#[test]
fn keys_are_not_printed() {
    let psk = known(keys(Arc::new(Server::default())).find(
        b"psk;alice@bsf.home1.net",
        None,
        PskUse::Tls13,
        at(1),
    ));
    let printed = format!("{psk:?}");
    assert!(printed.contains("PskKey(..)") && !printed.contains("[3, 3"), "{printed}");
    assert!(PskKey::new(&[]).is_none() && PskKey::new(&[0; KEY_MAX + 1]).is_none());
}
