//! Keys, Nbsp_GBA, push: the question for push info and its answer, as JSON.
//!
//! Takes:   octets of a body, at most [`super::BODY_MAX`].
//! Gives:   [`PushQuestion`]; [`PushInfo`]; the octets of each.
//! Keeps:   nothing.
//! Refuses: as [`super::message`]. What our server cannot make is [`Unmade`], and said so: info for a public identity, for
//!          another application of the card than the USIM, a key that never leaves the card. Of answers: a key without an
//!          end, of another subscriber, that is over or lasts longer than was asked for; a GPI that the profile cannot read,
//!          for another application, or for the challenge that the card was out of step with.
//! Sources: TS 29.309 clauses 5.2.2.3 and 6.1.6 (`PushInfoRequest`, `PushInfoResponse`); TS 33.223.
//!
//! `gbaPushInfo` is the GPI in the profile of [`crate::keys::push`], which phones of others do not read. For whom the key is
//! stands in it where the phone alone reads it: one for another server than was asked for ends there, as one of another key.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::message::{
    Kept, Malformed, hex, hex_into, list, may, naf_of, need, object, print_hex, print_naf, put,
};
use crate::identity::{Impi, Ptid};
use crate::instant::WallTime;
use crate::keys::calendar::{parse_xml, print_xml};
use crate::keys::push::{CardApplication, Profile, PushInfo, PushRequest};
use crate::keys::vector::Auts;
use crate::keys::{KsNaf, Rand};

/// The only application of the card that info is made for, as NAFs name it.
const USIM: &str = "USIM";
/// The only kind of bootstrapping that push info comes of.
const GBA_TYPE: &str = "3G_GBA";

/// What a NAF asks that wants to speak to a subscriber first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushQuestion {
    /// What the bootstrapping server is asked.
    pub request: PushRequest,
    /// Whether the answer is to name the subscriber.
    pub names_subscriber: bool,
}

/// A question that is well formed, to which our server has no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmade(pub &'static str);

impl PushQuestion {
    /// Reads `PushInfoRequest`.
    ///
    /// # Errors
    ///
    /// [`Malformed`].
    pub fn parse(octets: &[u8]) -> Result<Result<Self, Unmade>, Malformed> {
        let object = object(octets)?;
        let impi = need(&object, "ueId", |value| Impi::new(value.as_str()?))?;
        let public = need(&object, "ueIdType", either("PRIVATE", "PUBLIC"))?;
        let label = need(&object, "uiccAppLabel", |value| Some(value.as_str()?.to_owned()))?;
        let naf = naf_of(&object)?;
        let ptid = need(&object, "ptId", |value| Ptid::new(value.as_str()?))?;
        let on_card = need(&object, "uiccOrMe", either("GBA_ME", "GBA_U"))?;
        let expires = need(&object, "requestedLifeTime", |value| parse_xml(value.as_str()?))?;
        let names_subscriber = may(&object, "privateIdRequest", Value::as_bool)?.unwrap_or(false);
        may(&object, "gbaUAware", Value::as_bool)?;
        let number = |value: &Value| u32::try_from(value.as_u64()?).ok();
        may(&object, "gsIds", |value| list(value, number))?;
        let auts = may(&object, "auts", |value| Some(Auts(hex(value.as_str()?)?)))?;
        let rand = may(&object, "rand", |value| Some(Rand(hex(value.as_str()?)?)))?;
        let feature = |value: &Value| value.as_str().map(drop);
        may(&object, "securityFeaturesRequest", |value| list(value, feature))?;
        let resync = match (rand, auts) {
            (None, None) => None,
            (Some(rand), Some(auts)) => Some((rand, auts)),
            (None, Some(_)) => return Err(Malformed::Missing("rand")),
            (Some(_), None) => return Err(Malformed::Missing("auts")),
        };
        if public {
            return Ok(Err(Unmade("ueIdType")));
        }
        if !label.eq_ignore_ascii_case(USIM) {
            return Ok(Err(Unmade("uiccAppLabel")));
        }
        if on_card {
            return Ok(Err(Unmade("uiccOrMe")));
        }
        let request = PushRequest { impi, naf, ptid, expires, resync };
        Ok(Ok(Self { request, names_subscriber }))
    }

    /// Writes it.
    pub fn print(&self) -> Vec<u8> {
        let PushRequest { impi, naf, ptid, expires, resync } = &self.request;
        let mut object = json!({
            "ueId": impi.as_str(),
            "ueIdType": "PRIVATE",
            "uiccAppLabel": USIM,
            "nafId": print_naf(naf),
            "ptId": ptid.as_str(),
            "uiccOrMe": "GBA_ME",
            "requestedLifeTime": print_xml(*expires),
        });
        if self.names_subscriber {
            put(&mut object, "privateIdRequest", Value::Bool(true));
        }
        if let Some((rand, auts)) = resync {
            put(&mut object, "rand", Value::from(print_hex(&rand.0).as_str()));
            put(&mut object, "auts", Value::from(print_hex(&auts.0).as_str()));
        }
        object.to_string().into_bytes()
    }

    /// Reads `PushInfoResponse`, which nobody has proved to be an answer to this question.
    ///
    /// # Errors
    ///
    /// [`Malformed`], also for what is well formed and no answer to it.
    pub fn read(
        &self,
        octets: &[u8],
        profile: &dyn Profile,
        now: WallTime,
    ) -> Result<PushInfo, Malformed> {
        let asked = &self.request;
        let object = Kept(object(octets)?);
        let secret = |value: &Value| Some(KsNaf::new(*Zeroizing::new(hex(value.as_str()?)?)));
        let key = need(&object.0, "meKeyMaterial", secret)?;
        may(&object.0, "uiccKeyMaterial", secret)?;
        let gpi = need(&object.0, "gbaPushInfo", |value| {
            let text = value.as_str()?;
            let mut octets = vec![0; text.len() / 2];
            hex_into(text, &mut octets).then(|| octets.into_boxed_slice())
        })?;
        let head = profile.gpi_head(&gpi).map_err(|_| Malformed::Wrong("gbaPushInfo"))?;
        let repeats = asked.resync.as_ref().is_some_and(|(rand, _)| *rand == head.rand);
        if repeats || head.application != CardApplication::Usim {
            return Err(Malformed::Wrong("gbaPushInfo"));
        }
        let time = |value: &Value| parse_xml(value.as_str()?);
        let fits = |ends: &WallTime| *ends > now && *ends <= asked.expires;
        let expires = need(&object.0, "keyExpiryTime", |value| time(value).filter(fits))?;
        may(&object.0, "bootstrappingInfoCreationTime", time)?;
        let own = |value: &Value| (value.as_str()? == asked.impi.as_str()).then_some(());
        may(&object.0, "impi", own)?;
        let kind = |value: &Value| (value.as_str()? == GBA_TYPE).then_some(());
        may(&object.0, "gbaType", kind)?;
        may(&object.0, "ussList", |value| list(value, |one| one.as_object().map(drop)))?;
        may(&object.0, "securityFeaturesResponse", |value| {
            list(value, |one| one.as_str().map(drop))
        })?;
        Ok(PushInfo { rand: head.rand, key, expires, gpi })
    }

    /// Writes `PushInfoResponse`. No settings come with it: a NAF that needs some has to refuse.
    pub fn answer(&self, info: &PushInfo, now: WallTime) -> Zeroizing<Vec<u8>> {
        let secret = print_hex(info.key.expose());
        let mut object = json!({
            "meKeyMaterial": secret.as_str(),
            "gbaPushInfo": print_hex(&info.gpi).as_str(),
            "keyExpiryTime": print_xml(info.expires),
            "bootstrappingInfoCreationTime": print_xml(now),
            "gbaType": GBA_TYPE,
        });
        if self.names_subscriber {
            put(&mut object, "impi", Value::from(self.request.impi.as_str()));
        }
        let octets = Zeroizing::new(object.to_string().into_bytes());
        if let Value::Object(object) = object {
            drop(Kept(object));
        }
        octets
    }
}

/// `false` for the one word, `true` for the other.
fn either(no: &'static str, yes: &'static str) -> impl Fn(&Value) -> Option<bool> {
    move |value| match value.as_str()? {
        word if word == no => Some(false),
        word if word == yes => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::LIST_MAX;
    use super::*;
    use crate::keys::{NafId, UaId};

    fn question() -> Value {
        json!({
            "ueId": "alice@example.net",
            "ueIdType": "PRIVATE",
            "uiccAppLabel": "USIM",
            "nafId": { "nafFqdn": "push.example.net", "uaSecProtId": "0100000005" },
            "ptId": "p@push.example.net",
            "uiccOrMe": "GBA_ME",
            "requestedLifeTime": "2027-01-01T00:00:00Z",
        })
    }

    #[test]
    fn a_question_is_written() {
        let request = PushRequest {
            impi: Impi::new("alice@example.net").unwrap(),
            naf: NafId::new("push.example.net", UaId::PUSH_LAYER),
            ptid: Ptid::new("p-1").unwrap(),
            expires: WallTime::from_unix(1_800_000_000),
            resync: None,
        };
        let asked = PushQuestion { request, names_subscriber: false };
        let told: Value = serde_json::from_slice(&asked.print()).unwrap();
        let names = question().as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert!(told.as_object().unwrap().keys().eq(&names), "{told}");
        let resync = Some((Rand([0xcd; 16]), Auts([0xab; 14])));
        let more = PushRequest { resync, ..asked.request.clone() };
        let more = PushQuestion { request: more, names_subscriber: true };
        for asked in [asked, more] {
            assert_eq!(PushQuestion::parse(&asked.print()), Ok(Ok(asked)));
        }
    }

    fn read(change: impl FnOnce(&mut Value)) -> Result<Result<PushQuestion, Unmade>, Malformed> {
        let mut question = question();
        change(&mut question);
        PushQuestion::parse(question.to_string().as_bytes())
    }

    #[test]
    fn a_question_is_read() {
        let asked = read(|_| {}).unwrap().unwrap();
        assert_eq!(asked.request.impi.as_str(), "alice@example.net");
        assert_eq!(asked.request.naf, NafId::new("push.example.net", UaId([1, 0, 0, 0, 5])));
        assert!(asked.request.resync.is_none() && !asked.names_subscriber);
        let again = read(|asked| {
            asked["auts"] = json!("ab".repeat(14));
            asked["rand"] = json!("CD".repeat(16));
            asked["privateIdRequest"] = json!(true);
        });
        let again = again.unwrap().unwrap();
        assert_eq!(again.request.resync, Some((Rand([0xcd; 16]), Auts([0xab; 14]))));
        assert!(again.names_subscriber);
    }

    #[test]
    fn a_fault_is_told_by_the_name_of_the_property() {
        for name in question().as_object().unwrap().keys() {
            let said = read(|asked| drop(asked.as_object_mut().unwrap().remove(name)));
            let Err(Malformed::Missing(missing)) = said else { panic!("{name}: {said:?}") };
            assert_eq!(missing, name);
        }
        for (name, value) in [
            ("ueId", json!("")),
            ("ueIdType", json!("private")),
            ("uiccAppLabel", json!(0)),
            ("ptId", json!("")),
            ("uiccOrMe", json!("GBA")),
            ("requestedLifeTime", json!(3600)),
            ("privateIdRequest", json!(0)),
            ("gsIds", json!(vec![0; LIST_MAX + 1])),
            ("auts", json!("ab".repeat(13))),
            ("rand", json!("ab".repeat(17))),
            ("securityFeaturesRequest", json!("GPL_U")),
        ] {
            let said = read(|asked| asked[name] = value);
            assert!(
                matches!(said, Err(Malformed::Wrong(wrong)) if wrong == name),
                "{name}: {said:?}"
            );
        }
        let half = read(|asked| asked["auts"] = json!("ab".repeat(14)));
        assert_eq!(half, Err(Malformed::Missing("rand")));
        for (name, value) in
            [("ueIdType", "PUBLIC"), ("uiccAppLabel", "ISIM"), ("uiccOrMe", "GBA_U")]
        {
            assert_eq!(read(|asked| asked[name] = json!(value)), Ok(Err(Unmade(name))));
        }
    }
}
