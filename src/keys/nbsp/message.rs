//! Keys, Nbsp_GBA, messages: the question for a key, the key, and the problem, as JSON.
//!
//! Takes:   octets of a body, at most [`super::BODY_MAX`].
//! Gives:   [`Question`], [`NafKey`] and [`Problem`], and the octets of each.
//! Keeps:   nothing.
//! Refuses: what is no JSON object, lacks a property that is demanded, or has one of another type or pattern. Lists of
//!          over [`LIST_MAX`]. A key that was made by 2G GBA. A key without an end, though TS 29.309 lets it go unsaid: nobody would know when to stop.
//!          Properties that are not known are passed over.
//! Sources: TS 29.309 clause 6.1.6 (types); TS 33.220 clause 4.5.3; RFC 9457 section 3 (problem details).

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value, json};
use zeroize::{Zeroize as _, Zeroizing};

use crate::authentication::Uss;
use crate::identity::{Btid, Impi, Impu};
use crate::instant::WallTime;
use crate::keys::calendar::{parse_xml, print_xml};
use crate::keys::{GbaType, KsNaf, NafId, NafKey, UaId};

/// Most members of a list.
pub const LIST_MAX: usize = 64;

/// What a NAF asks: the key of one B-TID for one name and protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Which bootstrapping run.
    pub btid: Btid,
    /// For whom and for what.
    pub naf: NafId,
    /// Whether the NAF tells keys of the card from keys of the terminal.
    pub gba_u_aware: bool,
    /// The services whose user security settings it needs.
    pub gsids: Vec<u32>,
}

/// A no, with its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The reason, for programs.
    pub cause: String,
    /// The reason, for people.
    pub detail: String,
    /// The property that is wrong, if one is.
    pub param: Option<String>,
}

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No JSON object.
    Json,
    /// A property that is demanded is not there.
    Missing(&'static str),
    /// A property has another type or pattern.
    Wrong(&'static str),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json => f.write_str("no JSON object"),
            Self::Missing(name) => write!(f, "{name} is missing"),
            Self::Wrong(name) => write!(f, "{name} is not what it should be"),
        }
    }
}

impl std::error::Error for Malformed {}

impl Question {
    /// Reads `BootstrappingInfoRequest`.
    ///
    /// # Errors
    ///
    /// [`Malformed`].
    pub fn parse(octets: &[u8]) -> Result<Self, Malformed> {
        let object = object(octets)?;
        let btid = need(&object, "btId", |value| Btid::new(value.as_str()?))?;
        let naf = naf_of(&object)?;
        let gba_u_aware = may(&object, "gbaUAware", Value::as_bool)?.unwrap_or(false);
        let number = |value: &Value| u32::try_from(value.as_u64()?).ok();
        let gsids = may(&object, "gsIds", |value| list(value, number))?.unwrap_or_default();
        Ok(Self { btid, naf, gba_u_aware, gsids })
    }

    /// Writes it.
    pub fn print(&self) -> Vec<u8> {
        let mut object = json!({ "btId": self.btid.as_str(), "nafId": print_naf(&self.naf) });
        if self.gba_u_aware {
            put(&mut object, "gbaUAware", Value::Bool(true));
        }
        if !self.gsids.is_empty() {
            put(&mut object, "gsIds", json!(self.gsids));
        }
        object.to_string().into_bytes()
    }
}

/// Reads `BootstrappingInfoResponse`. Public identities are the `ueIds` of all settings, each once.
///
/// # Errors
///
/// [`Malformed`].
pub fn parse_key(octets: &[u8]) -> Result<NafKey, Malformed> {
    let object = Kept(object(octets)?);
    let key = need(&object.0, "meKeyMaterial", |value| {
        Some(KsNaf::new(*Zeroizing::new(hex(value.as_str()?)?)))
    })?;
    let time = |value: &Value| parse_xml(value.as_str()?);
    let expires = need(&object.0, "keyExpiryTime", time)?;
    let created = may(&object.0, "bootstrappingInfoCreationTime", time)?;
    let kind = may(&object.0, "gbaType", gba_type)?.unwrap_or_default();
    let impi = may(&object.0, "impi", |value| Impi::new(value.as_str()?))?;
    let settings = |value: &Value| {
        list(value, |one| one.as_object()?.get("uss").and_then(Value::as_object).and_then(setting))
    };
    let settings = may(&object.0, "ussList", settings)?.unwrap_or_default();
    let (mut uss, mut identities) = (Vec::new(), Vec::<Impu>::new());
    for (one, named) in settings {
        uss.push(one);
        for identity in named {
            if !identities.contains(&identity) && identities.len() < LIST_MAX {
                identities.push(identity);
            }
        }
    }
    Ok(NafKey {
        key,
        impi,
        identities: identities.into(),
        uss: uss.into(),
        created: created.unwrap_or(WallTime::from_unix(0)),
        expires,
        kind,
        ready: Default::default(),
    })
}

/// Writes `BootstrappingInfoResponse`: of the subscriber's settings those of `gsids`, each with all identities that the
/// NAF may see. The service 0, which is no service, is everybody's: it carries the identities alone.
pub fn print_key(key: &NafKey, gsids: &[u32]) -> Zeroizing<Vec<u8>> {
    let secret = print_hex(key.key.expose());
    let ids: Vec<Value> =
        key.identities.iter().map(|own| json!({ "ueId": own.as_str() })).collect();
    let unspecific = [Uss { gsid: Uss::UNSPECIFIC, flags: Vec::new() }];
    let asked = |one: &&Uss| gsids.contains(&one.gsid);
    let own = key.uss.iter().filter(asked);
    let told = own.chain(unspecific.iter().filter(asked).filter(|_| !ids.is_empty()));
    let settings: Vec<Value> = told
        .map(|one| {
            let flags: Vec<Value> = one.flags.iter().map(|flag| json!({ "flag": flag })).collect();
            let mut uss = json!({ "gsId": one.gsid, "gsType": 0, "ueIds": ids });
            if !flags.is_empty() {
                put(&mut uss, "flags", Value::Array(flags));
            }
            json!({ "uss": uss })
        })
        .collect();
    let mut object = json!({
        "meKeyMaterial": secret.as_str(),
        "keyExpiryTime": print_xml(key.expires),
        "bootstrappingInfoCreationTime": print_xml(key.created),
        "gbaType": gba_name(key.kind),
    });
    if let Some(impi) = &key.impi {
        put(&mut object, "impi", Value::from(impi.as_str()));
    }
    if !settings.is_empty() {
        put(&mut object, "ussList", Value::Array(settings));
    }
    let octets = Zeroizing::new(object.to_string().into_bytes());
    if let Value::Object(object) = object {
        drop(Kept(object));
    }
    octets
}

/// How a key was made, as it is written; no key of 2G GBA is taken.
fn gba_type(value: &Value) -> Option<GbaType> {
    let name = value.as_str()?;
    [GbaType::Aka, GbaType::Digest].into_iter().find(|kind| gba_name(*kind) == name)
}

fn gba_name(kind: GbaType) -> &'static str {
    match kind {
        GbaType::Aka => "3G_GBA",
        GbaType::Digest => "GBA_DIGEST",
    }
}

impl Problem {
    /// Reads `ProblemDetails`, of an answer with `status`. What cannot be read says nothing: the status decides.
    pub fn parse(status: u16, octets: &[u8]) -> Self {
        let object = object(octets).unwrap_or_default();
        let text = |name| object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self { status, cause: text("cause"), detail: text("detail"), param: None }
    }

    /// Writes it.
    pub fn print(&self) -> Vec<u8> {
        let mut object = json!({ "status": self.status, "cause": self.cause });
        if !self.detail.is_empty() {
            put(&mut object, "detail", Value::from(self.detail.as_str()));
        }
        if let Some(param) = &self.param {
            put(&mut object, "invalidParams", json!([{ "param": param }]));
        }
        object.to_string().into_bytes()
    }
}

/// The NAF of a question.
pub(super) fn naf_of(object: &Map<String, Value>) -> Result<NafId, Malformed> {
    let naf = need(object, "nafId", |value| Some(value.as_object()?.clone()))?;
    let fqdn = need(&naf, "nafFqdn", |value| host(value.as_str()?))?;
    let ua = need(&naf, "uaSecProtId", |value| Some(UaId(hex(value.as_str()?)?)))?;
    Ok(NafId::new(&fqdn, ua))
}

pub(super) fn print_naf(naf: &NafId) -> Value {
    json!({ "nafFqdn": naf.fqdn(), "uaSecProtId": print_hex(&naf.ua().0).as_str() })
}

/// An object with keys or a token in it, which are overwritten when they are no longer needed.
pub(super) struct Kept(pub(super) Map<String, Value>);

impl Drop for Kept {
    fn drop(&mut self) {
        for name in ["meKeyMaterial", "uiccKeyMaterial", "access_token"] {
            if let Some(Value::String(secret)) = self.0.get_mut(name) {
                secret.zeroize();
            }
        }
    }
}

pub(super) fn object(octets: &[u8]) -> Result<Map<String, Value>, Malformed> {
    if octets.len() > super::BODY_MAX {
        return Err(Malformed::Json);
    }
    match serde_json::from_slice(octets) {
        Ok(Value::Object(object)) => Ok(object),
        _ => Err(Malformed::Json),
    }
}

pub(super) fn need<T>(
    object: &Map<String, Value>,
    name: &'static str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<T, Malformed> {
    let value = object.get(name).ok_or(Malformed::Missing(name))?;
    read(value).ok_or(Malformed::Wrong(name))
}

pub(super) fn may<T>(
    object: &Map<String, Value>,
    name: &'static str,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Option<T>, Malformed> {
    object.get(name).map(|value| read(value).ok_or(Malformed::Wrong(name))).transpose()
}

pub(super) fn put(object: &mut Value, name: &str, value: Value) {
    if let Value::Object(object) = object {
        object.insert(name.to_owned(), value);
    }
}

pub(super) fn list<T>(value: &Value, read: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    let members = value.as_array().filter(|members| members.len() <= LIST_MAX)?;
    members.iter().map(read).collect()
}

/// One user security setting, and the identities it is for.
fn setting(uss: &Map<String, Value>) -> Option<(Uss, Vec<Impu>)> {
    let number = |value: &Value| u32::try_from(value.as_u64()?).ok();
    let gsid = number(uss.get("gsId")?)?;
    let flag = |one: &Value| number(one.as_object()?.get("flag")?);
    let flags = uss.get("flags").map_or(Some(Vec::new()), |flags| list(flags, flag))?;
    let id = |one: &Value| Impu::new(one.as_object()?.get("ueId")?.as_str()?);
    let ids = list(uss.get("ueIds")?, id)?;
    Some((Uss { gsid, flags }, ids))
}

fn host(text: &str) -> Option<Arc<str>> {
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'.' | b'_');
    (!text.is_empty() && text.len() <= 255 && text.bytes().all(fits)).then(|| text.into())
}

pub(super) fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut octets = [0; N];
    hex_into(text, &mut octets).then_some(octets)
}

/// Fills `octets` with what is written in `text`; `false` if that is not as many, or not in hexadecimal digits.
pub(super) fn hex_into(text: &str, octets: &mut [u8]) -> bool {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != octets.len() || !rest.is_empty() {
        return false;
    }
    let digit =
        |octet: u8| char::from(octet).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for (octet, [high, low]) in octets.iter_mut().zip(pairs) {
        let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return false };
        *octet = high << 4 | low;
    }
    true
}

pub(super) fn print_hex(octets: &[u8]) -> Zeroizing<String> {
    let mut text = String::with_capacity(octets.len().saturating_mul(2));
    for octet in octets {
        for half in [octet >> 4, octet & 15] {
            text.extend(char::from_digit(u32::from(half), 16));
        }
    }
    Zeroizing::new(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Value {
        json!({
            "btId": "cmFuZA==@bsf.example.net",
            "nafId": { "nafFqdn": "Naf.example.net", "uaSecProtId": "0300000003" },
            "gsIds": [0, 7],
            "somethingNew": [{}],
        })
    }

    #[test]
    fn a_question_is_read_and_written() {
        let asked = Question::parse(question().to_string().as_bytes()).unwrap();
        assert_eq!(asked.naf, NafId::new("naf.example.net", UaId::SIP_DIGEST));
        assert_eq!((asked.gba_u_aware, &asked.gsids[..]), (false, &[0, 7][..]));
        assert_eq!(Question::parse(&asked.print()), Ok(asked.clone()));
        let aware = Question { gba_u_aware: true, gsids: Vec::new(), ..asked };
        assert_eq!(Question::parse(&aware.print()), Ok(aware));
    }

    #[test]
    fn a_question_with_a_fault_is_refused_by_the_name_of_the_property() {
        use Malformed::{Json, Missing, Wrong};
        let bad = |path: &str, value: Value| {
            let mut question = question();
            *question.pointer_mut(path).unwrap() = value;
            Question::parse(question.to_string().as_bytes()).unwrap_err()
        };
        let many: Vec<u32> = (0..=64).collect();
        for (path, value, fault) in [
            ("/btId", json!(7), Wrong("btId")),
            ("/btId", json!("a\"b"), Wrong("btId")),
            ("/nafId", json!("naf"), Wrong("nafId")),
            ("/nafId", json!({}), Missing("nafFqdn")),
            ("/nafId/nafFqdn", json!(""), Wrong("nafFqdn")),
            ("/nafId/nafFqdn", json!("a b"), Wrong("nafFqdn")),
            ("/nafId/uaSecProtId", json!("030000000"), Wrong("uaSecProtId")),
            ("/nafId/uaSecProtId", json!("03000000033"), Wrong("uaSecProtId")),
            ("/nafId/uaSecProtId", json!("03 0000003"), Wrong("uaSecProtId")),
            ("/nafId/uaSecProtId", json!("é00000003"), Wrong("uaSecProtId")),
            ("/gsIds", json!(many), Wrong("gsIds")),
            ("/gsIds", json!([-1]), Wrong("gsIds")),
            ("/gsIds", json!([4_294_967_296_u64]), Wrong("gsIds")),
        ] {
            assert_eq!(bad(path, value.clone()), fault, "{path} {value}");
        }
        for octets in [&b""[..], b"[]", b"{", b"\xff", b"{}x"] {
            assert_eq!(Question::parse(octets), Err(Json), "{octets:?}");
        }
        assert_eq!(Question::parse(b"{}"), Err(Missing("btId")));
        assert_eq!(Question::parse(&[b' '; super::super::BODY_MAX + 1]), Err(Json));
    }

    fn key() -> NafKey {
        NafKey {
            key: KsNaf::new([0xab; 32]),
            impi: Impi::new("alice@example.net"),
            identities: [Impu::new("sip:alice@example.net").unwrap()].into(),
            uss: [Uss { gsid: 7, flags: vec![1, 2] }, Uss { gsid: 8, flags: Vec::new() }].into(),
            created: WallTime::from_unix(1_700_000_000),
            expires: WallTime::from_unix(1_800_000_000),
            kind: Default::default(),
            ready: Default::default(),
        }
    }

    #[test]
    fn a_key_is_written_and_read() {
        let read = parse_key(&print_key(&key(), &[7])).unwrap();
        assert_eq!(read.key.expose(), &[0xab; 32]);
        assert_eq!((read.impi, &read.identities), (key().impi, &key().identities));
        assert_eq!(&read.uss[..], &key().uss[..1], "of the settings, those that were asked for");
        assert_eq!((read.expires, read.created), (key().expires, key().created));
        assert_eq!(read.kind, GbaType::Aka);
        let of_password = NafKey { kind: GbaType::Digest, ..key() };
        let octets = print_key(&of_password, &[]);
        assert!(String::from_utf8_lossy(&octets).contains("\"gbaType\":\"GBA_DIGEST\""));
        assert_eq!(parse_key(&octets).unwrap().kind, GbaType::Digest);
        let bare = parse_key(&print_key(&key(), &[])).unwrap();
        assert!(bare.identities.is_empty() && bare.uss.is_empty());
        let nobody = NafKey { impi: None, identities: [].into(), ..key() };
        let anonymous = parse_key(&print_key(&nobody, &[0])).unwrap();
        assert!(anonymous.impi.is_none() && anonymous.uss.is_empty());
        let unspecific = parse_key(&print_key(&key(), &[0])).unwrap();
        assert_eq!(unspecific.identities, key().identities);
    }

    #[test]
    fn a_key_with_a_fault_is_refused() {
        let good: Value = serde_json::from_slice(&print_key(&key(), &[7])).unwrap();
        let bad = |path: &str, value: Value| {
            let mut answer = good.clone();
            *answer.pointer_mut(path).unwrap() = value;
            parse_key(answer.to_string().as_bytes()).unwrap_err()
        };
        for (path, value, fault) in [
            ("/meKeyMaterial", json!("ab"), Malformed::Wrong("meKeyMaterial")),
            ("/meKeyMaterial", json!("zz".repeat(32)), Malformed::Wrong("meKeyMaterial")),
            ("/keyExpiryTime", json!("soon"), Malformed::Wrong("keyExpiryTime")),
            ("/keyExpiryTime", json!(1_800_000_000), Malformed::Wrong("keyExpiryTime")),
            ("/gbaType", json!("2G_GBA"), Malformed::Wrong("gbaType")),
            ("/gbaType", json!(2), Malformed::Wrong("gbaType")),
            ("/impi", json!(""), Malformed::Wrong("impi")),
            ("/ussList", json!({}), Malformed::Wrong("ussList")),
            ("/ussList/0/uss", json!(1), Malformed::Wrong("ussList")),
            ("/ussList/0/uss/ueIds", json!("sip:a@b"), Malformed::Wrong("ussList")),
            ("/ussList/0/uss/gsId", json!("7"), Malformed::Wrong("ussList")),
        ] {
            assert_eq!(bad(path, value.clone()), fault, "{path} {value}");
        }
        let mut endless = good.clone();
        endless.as_object_mut().unwrap().remove("keyExpiryTime");
        let read = parse_key(endless.to_string().as_bytes());
        assert_eq!(read.unwrap_err(), Malformed::Missing("keyExpiryTime"));
    }

    #[test]
    fn a_problem_is_written_and_read() {
        let problem = Problem {
            status: 404,
            cause: "CONTEXT_NOT_FOUND".into(),
            detail: "no such B-TID".into(),
            param: None,
        };
        assert_eq!(Problem::parse(404, &problem.print()), problem);
        assert_eq!(Problem::parse(503, b"<html>").cause, "");
    }
}
