//! Keys, Nbsp_GBA, push: the question for push info and its answer, as JSON; the server's end.
//!
//! Takes:   octets of a body, at most [`super::BODY_MAX`].
//! Gives:   [`PushQuestion`]; the octets of an answer.
//! Keeps:   nothing.
//! Refuses: as [`super::message`]. What our server cannot make is [`Unmade`], and said so: info for a public identity, for
//!          another application of the card than the USIM, a key that never leaves the card.
//! Sources: TS 29.309 clauses 5.2.2.3 and 6.1.6 (`PushInfoRequest`, `PushInfoResponse`); TS 33.223.
//!
//! `gbaPushInfo` is the GPI in the profile of [`crate::keys::push`], which phones of others do not read.

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::message::{Kept, Malformed, hex, list, may, naf_of, need, object, print_hex, put};
use crate::identity::{Impi, Ptid};
use crate::instant::WallTime;
use crate::keys::Rand;
use crate::keys::calendar::{parse_xml, print_xml};
use crate::keys::push::{PushInfo, PushRequest};
use crate::keys::vector::Auts;

/// The only application of the card that info is made for, as NAFs name it.
const USIM: &str = "USIM";

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

    /// Writes `PushInfoResponse`. No settings come with it: a NAF that needs some has to refuse.
    pub fn answer(&self, info: &PushInfo, now: WallTime) -> Zeroizing<Vec<u8>> {
        let secret = print_hex(info.key.expose());
        let mut object = json!({
            "meKeyMaterial": secret.as_str(),
            "gbaPushInfo": print_hex(&info.gpi).as_str(),
            "keyExpiryTime": print_xml(info.expires),
            "bootstrappingInfoCreationTime": print_xml(now),
            "gbaType": "3G_GBA",
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
