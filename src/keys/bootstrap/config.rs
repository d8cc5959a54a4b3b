//! Keys, bootstrap, configuration: what the operator decides.
//!
//! Takes:   [`BsfConfig`].
//! Gives:   the realm of the challenges, once the whole makes sense.
//! Keeps:   nothing.
//! Refuses: what could not stand in a header or a B-TID, AKAv1 beside AKAv2, keys of less than a minute; for passwords no
//!          hash, one twice, or one that a home does not keep H(A1) of.
//! Sources: TS 24.109 annexes A and I; RFC 4169 section 4.1; RFC 5705 section 4; RFC 8760 section 2.4.

use std::sync::Arc;
use std::time::Duration;

use crate::admission::rate::Rate;
use crate::authentication::aka::{AkaAlgorithm, AkaVersion};
use crate::authentication::digest::Hash;
use crate::identity::Realm;
use crate::keys::push::Profile;
use crate::keys::push::p1::P1;

/// The label under which TLS exports what a run by password is bound to, unless the operator names another. The registry
/// of exporter labels has `TLS_MK_Extr` as well; which of the two UEs use was not to be read.
pub const EXPORTER_LABEL: &str = "EXPORTER_GBA_Digest";

/// Runs by password: GBA_Digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestConfig {
    /// The realm of the challenges, and of H(A1): the home network's domain.
    pub realm: Realm,
    /// What is offered, the preferred one first: SHA-256, MD5 or both.
    pub algorithms: Vec<Hash>,
    /// The label under which the TLS connection exports 48 octets, without a context.
    pub exporter: Arc<str>,
}

impl DigestConfig {
    /// For that realm: SHA-256, [`EXPORTER_LABEL`].
    pub fn new(realm: Realm) -> Self {
        Self { realm, algorithms: vec![Hash::Sha256], exporter: EXPORTER_LABEL.into() }
    }
}

/// What the operator decides.
#[derive(Clone, Debug)]
pub struct BsfConfig {
    /// The server's name: in B-TIDs, and the `realm` unless another is given.
    pub name: Arc<str>,
    /// The realm of the challenges, where it is not the name.
    pub realm: Option<Realm>,
    /// The path that UEs ask for.
    pub path: Arc<str>,
    /// The product in `Server`.
    pub product: Arc<str>,
    /// What is offered, strongest first. AKAv1 and AKAv2 may not stand together (RFC 4169 section 4.1).
    pub algorithms: Vec<AkaAlgorithm>,
    /// How long keys live, for subscribers without a time of their own.
    pub key_lifetime: Duration,
    /// Whether temporary identities are offered.
    pub tmpi: bool,
    /// Whether the body tells our time, for UEs whose clock is wrong.
    pub tell_time: bool,
    /// `danger`: whether a response that covers no body (`qop=auth`) is taken. Some UEs can do no better.
    pub accept_auth: bool,
    /// `danger`: whether a name that is no subscriber is answered 403 at once, which tells names apart.
    pub reveal_unknown: bool,
    /// How often one source may ask.
    pub source_rate: Rate,
    /// Whether names that are nobody's here are another's, whose home is asked (Zh).
    pub home: bool,
    /// Most unanswered challenges.
    pub max_challenges: usize,
    /// Most sessions.
    pub max_sessions: usize,
    /// Runs by password; none are offered if it is not there, and none ever without TLS.
    pub digest: Option<DigestConfig>,
    /// How push info is written down.
    pub push: Arc<dyn Profile>,
}

impl BsfConfig {
    /// A server of that name: AKAv1-MD5, keys of one hour, temporary identities.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            realm: None,
            path: "/".into(),
            product: concat!("sipward/", env!("CARGO_PKG_VERSION")).into(),
            algorithms: vec![AkaAlgorithm::V1_MD5],
            key_lifetime: Duration::from_secs(3600),
            tmpi: true,
            tell_time: false,
            accept_auth: false,
            reveal_unknown: false,
            // Many UEs share one address behind an operator's NAT; the pace of each name is what protects cards.
            source_rate: Rate { count: 3000, period: Duration::from_secs(60), burst: 4000 },
            home: false,
            max_challenges: 16_384,
            max_sessions: 400_000,
            digest: None,
            push: Arc::new(P1),
        }
    }
}

/// Why a server cannot be made as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BsfUnfit {
    /// The name cannot be a realm or stand in a B-TID.
    Name,
    /// The path does not begin with `/`, or has a space, a quote or a control character in it.
    Path,
    /// The product holds a control character.
    Product,
    /// No algorithm, one twice, or AKAv1 beside AKAv2.
    Algorithms,
    /// A key would live less than a minute.
    KeyLifetime,
    /// For passwords: no hash, one twice, or another than MD5 and SHA-256; or no label.
    Digest,
}

/// The realm of the challenges.
pub(super) fn check(config: &BsfConfig) -> Result<Arc<str>, BsfUnfit> {
    let own = Realm::new(&config.name).ok_or(BsfUnfit::Name)?;
    let name_right = config.name.bytes().all(|octet| {
        octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-' | b'_' | b':' | b'[' | b']')
    });
    if !name_right {
        return Err(BsfUnfit::Name);
    }
    let graphic = |octet: u8| octet.is_ascii_graphic() && octet != b'"';
    if !config.path.starts_with('/') || !config.path.bytes().all(graphic) {
        return Err(BsfUnfit::Path);
    }
    if config.product.bytes().any(|octet| !(graphic(octet) || octet == b' ')) {
        return Err(BsfUnfit::Product);
    }
    let algorithms = &config.algorithms;
    let twice = has_twice(algorithms);
    let of = |version| algorithms.iter().any(|algorithm| algorithm.version == version);
    if algorithms.is_empty() || twice || (of(AkaVersion::V1) && of(AkaVersion::V2)) {
        return Err(BsfUnfit::Algorithms);
    }
    if config.key_lifetime < Duration::from_secs(60) {
        return Err(BsfUnfit::KeyLifetime);
    }
    if let Some(DigestConfig { algorithms, exporter, .. }) = &config.digest {
        let kept = |hash: &Hash| matches!(hash, Hash::Md5 | Hash::Sha256);
        let good = !algorithms.is_empty() && algorithms.iter().all(kept) && !has_twice(algorithms);
        if !good || exporter.is_empty() {
            return Err(BsfUnfit::Digest);
        }
    }
    Ok(config.realm.as_ref().unwrap_or(&own).as_str().into())
}

fn has_twice<T: PartialEq>(list: &[T]) -> bool {
    list.iter().enumerate().any(|(at, one)| list.iter().take(at).any(|before| before == one))
}
