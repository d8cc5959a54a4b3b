//! Keys, Diameter, Zpn: a NAF asks a bootstrapping server for a key that is pushed to a subscriber.
//!
//! Takes:   a [`PushRequest`]; or the messages of the other end.
//! Gives:   GPR and GPA; [`PushAnswer`] of a GPA, [`PushQuestion`] of a GPR.
//! Keeps:   nothing.
//! Refuses: an answer to another question, a key that is not of 32 octets or made by 2G GBA, an end that is past or beyond
//!          what was asked for, push info that the profile cannot read, for another application of the card, or for the
//!          challenge that the card was out of step with: nothing of such an answer is believed. A request for another
//!          realm or host; one for what is not made here: info for a public identity, for another application than the
//!          USIM, a key that never leaves the card.
//! Sources: TS 29.109 clauses 5.4 and 6.3; TS 29.230 table 4.1; TS 33.223; RFC 6733 sections 6.1 and 6.2; threats V-31,
//!          V-139.
//!
//! GBA-Push-Info is the GPI in the profile of [`crate::keys::push`], which phones of others do not read. How TS 29.109 has
//! the AUTS carried was not at hand: it goes as on Zh, behind its challenge in the SIP-Authorization of a SIP-Auth-Data-Item.

use std::sync::Arc;

use super::base::{Local, Verdict, application_id, asking, retrace, tell, verdict};
use super::codec::{Avp, Fault, Message, Printed, Writer};
use super::dictionary as known;
use super::zh::{self, SCHEME};
use super::zn::{addressed, naf_of, services};
use crate::identity::{Impi, Ptid};
use crate::instant::WallTime;
use crate::keys::KsNaf;
use crate::keys::bootstrap::NoPush;
use crate::keys::push::{CardApplication, Profile, PushAnswer, PushInfo, PushRequest};

/// The only application of the card that info is made for, as NAFs name it.
const USIM: &str = "USIM";

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its Session-Id.
    pub session: String,
    /// The realm of the server.
    pub realm: Arc<str>,
    /// The server, if one in particular is meant.
    pub host: Option<Arc<str>>,
    /// What is asked for.
    pub request: PushRequest,
}

impl Question {
    /// GBAPush-Info-Request.
    pub fn print(&self, local: &Local, end: u32) -> Printed {
        let PushRequest { impi, naf, ptid, expires, resync } = &self.request;
        let mut writer = Writer::new(asking(known::GBAPUSH_INFO, known::ZPN, end));
        writer.text(&known::SESSION_ID, &self.session);
        application_id(&mut writer, known::ZPN);
        // NO_STATE_MAINTAINED.
        writer.number(&known::AUTH_SESSION_STATE, 1);
        local.sign(&mut writer);
        writer.text(&known::DESTINATION_REALM, &self.realm);
        if let Some(host) = &self.host {
            writer.text(&known::DESTINATION_HOST, host);
        }
        writer
            .text(&known::UE_ID, impi.as_str())
            .number(&known::UE_ID_TYPE, PRIVATE)
            .text(&known::UICC_APP_LABEL, USIM)
            .put(&known::NAF_ID, &naf.octets())
            // Keys that stay on the card are no use to us.
            .number(&known::GBA_U_AWARENESS_INDICATOR, 0)
            .number(&known::UICC_ME, GBA_ME)
            .time(&known::REQUESTED_KEY_LIFETIME, *expires)
            // So that the answer shows whom it is about.
            .number(&known::PRIVATE_IDENTITY_REQUEST, REQUESTED)
            .text(&known::NAF_SA_IDENTIFIER, ptid.as_str());
        if let Some((rand, auts)) = resync {
            writer.group(&known::SIP_AUTH_DATA_ITEM, |item| {
                item.text(&known::SIP_AUTHENTICATION_SCHEME, SCHEME)
                    .put(&known::SIP_AUTHORIZATION, &[&rand.0[..], &auts.0].concat());
            });
        }
        writer.finish()
    }

    /// What a GBAPush-Info-Answer says to it. Whatever is wrong with it: [`PushAnswer::Unavailable`].
    pub fn answer(&self, octets: &[u8], profile: &dyn Profile, now: WallTime) -> PushAnswer {
        self.read(octets, profile, now).unwrap_or(PushAnswer::Unavailable)
    }

    fn read(
        &self,
        octets: &[u8],
        profile: &dyn Profile,
        now: WallTime,
    ) -> Result<PushAnswer, Fault> {
        let message = Message::parse(octets)?;
        message.all_known()?;
        let (avps, asked) = (message.avps(), &self.request);
        let is = |avp: Option<Avp<'_>>, own: &[u8]| match avp {
            Some(avp) if avp.value != own => Err(avp.wrong(known::INVALID_AVP_VALUE)),
            _ => Ok(()),
        };
        is(Some(avps.need(&known::SESSION_ID)?), self.session.as_bytes())?;
        for name in [&known::USER_NAME, &known::UE_ID] {
            is(avps.one(name)?, asked.impi.as_str().as_bytes())?;
        }
        is(avps.one(&known::NAF_ID)?, &asked.naf.octets())?;
        is(avps.one(&known::NAF_SA_IDENTIFIER)?, asked.ptid.as_str().as_bytes())?;
        match verdict(&message)? {
            Verdict::Base(known::SUCCESS) => {}
            Verdict::Base(known::AUTHENTICATION_REJECTED) if asked.resync.is_some() => {
                return Ok(PushAnswer::AutsWrong);
            }
            Verdict::Experimental(known::IDENTITY_UNKNOWN) => return Ok(PushAnswer::Unknown),
            Verdict::Experimental(known::NOT_AUTHORIZED) => return Ok(PushAnswer::Forbidden),
            Verdict::Base(_) | Verdict::Experimental(_) => return Ok(PushAnswer::Unavailable),
        }
        if let Some(kind) = avps.one(&known::GBA_TYPE)?.filter(|kind| kind.number() != Ok(0)) {
            return Err(kind.wrong(known::INVALID_AVP_VALUE));
        }
        let key = avps.need(&known::ME_KEY_MATERIAL)?;
        let secret = key.value.try_into().map_err(|_| key.wrong(known::INVALID_AVP_VALUE))?;
        let ends = avps.need(&known::KEY_EXPIRY_TIME)?;
        let expires = ends.time()?;
        if expires <= now || expires > asked.expires {
            return Err(ends.wrong(known::INVALID_AVP_VALUE));
        }
        if let Some(created) = avps.one(&known::BOOTSTRAP_INFO_CREATION_TIME)? {
            created.time()?;
        }
        let gpi = avps.need(&known::GBA_PUSH_INFO)?;
        let unfit = gpi.wrong(known::INVALID_AVP_VALUE);
        let head = profile.gpi_head(gpi.value).map_err(|_| unfit)?;
        let repeats = asked.resync.as_ref().is_some_and(|(rand, _)| *rand == head.rand);
        if repeats || head.application != CardApplication::Usim {
            return Err(unfit);
        }
        let key = KsNaf::new(secret);
        let info = PushInfo { rand: head.rand, key, expires, gpi: gpi.value.into() };
        Ok(PushAnswer::Known(Box::new(info)))
    }
}

/// What a NAF asks for that wants to speak to a subscriber first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushQuestion<'a> {
    /// Its name, as it says.
    pub host: &'a str,
    /// What the bootstrapping server is asked.
    pub request: PushRequest,
    /// Whether the answer is to name the subscriber.
    pub names_subscriber: bool,
}

/// Reads a GBAPush-Info-Request to us.
///
/// # Errors
///
/// A [`Fault`] about what is missing, wrong, or meant for somebody else; DIAMETER_UNABLE_TO_COMPLY about what is well formed
/// and not made here.
pub fn request<'a>(message: &Message<'a>, local: &Local) -> Result<PushQuestion<'a>, Fault> {
    let avps = message.avps();
    avps.need(&known::SESSION_ID)?;
    let host = avps.need(&known::ORIGIN_HOST)?.text()?;
    avps.need(&known::ORIGIN_REALM)?;
    addressed(message, local)?;
    // No settings come with push info: a NAF that needs some has to refuse.
    services(avps)?;
    let wrong = |avp: &Avp<'_>| avp.wrong(known::INVALID_AVP_VALUE);
    let either = |avp: &Avp<'_>| match avp.number()? {
        number @ (0 | 1) => Ok(number),
        _ => Err(wrong(avp)),
    };
    let name = avps.need(&known::UE_ID)?;
    let impi = Impi::new(name.text()?).ok_or(wrong(&name))?;
    let kind = either(&avps.need(&known::UE_ID_TYPE)?)?;
    let label = avps.need(&known::UICC_APP_LABEL)?.text()?;
    let naf = naf_of(avps)?;
    avps.one(&known::GBA_U_AWARENESS_INDICATOR)?.as_ref().map(either).transpose()?;
    let holder = either(&avps.need(&known::UICC_ME)?)?;
    let expires = avps.need(&known::REQUESTED_KEY_LIFETIME)?.time()?;
    let named = avps.one(&known::PRIVATE_IDENTITY_REQUEST)?.as_ref().map(either).transpose()?;
    let ptid = avps.need(&known::NAF_SA_IDENTIFIER)?;
    let ptid = Ptid::new(ptid.text()?).ok_or(wrong(&ptid))?;
    avps.one(&known::SECURITY_FEATURE_REQUEST)?;
    let resync = match avps.one(&known::SIP_AUTH_DATA_ITEM)? {
        Some(item) => Some(zh::resync(&item.group()?.need(&known::SIP_AUTHORIZATION)?)?),
        None => None,
    };
    for (made, what) in [
        (kind == PRIVATE, &known::UE_ID_TYPE),
        (label.eq_ignore_ascii_case(USIM), &known::UICC_APP_LABEL),
        (holder == GBA_ME, &known::UICC_ME),
    ] {
        if !made {
            return Err(Fault::about(known::UNABLE_TO_COMPLY, what));
        }
    }
    let request = PushRequest { impi, naf, ptid, expires, resync };
    Ok(PushQuestion { host, request, names_subscriber: named == Some(REQUESTED) })
}

/// GBAPush-Info-Answer.
pub fn answer(
    local: &Local,
    request: &Message<'_>,
    asked: &PushQuestion<'_>,
    found: Result<&PushInfo, NoPush>,
    now: WallTime,
) -> Printed {
    let mut writer = Writer::new(request.header.answer());
    if let Some(session) = request.avps().all(&known::SESSION_ID).next() {
        writer.put(&known::SESSION_ID, session.value);
    }
    // As it was asked: some ask for push info in the application of Zn.
    application_id(&mut writer, request.header.application);
    match found {
        Ok(_) => tell(&mut writer, Verdict::Base(known::SUCCESS)),
        Err(refusal) => {
            let (said, why) = refused(refusal);
            tell(&mut writer, said);
            writer.text(&known::ERROR_MESSAGE, why);
        }
    }
    writer.number(&known::AUTH_SESSION_STATE, 1);
    local.sign(&mut writer);
    if let Ok(info) = found {
        if asked.names_subscriber {
            writer.text(&known::USER_NAME, asked.request.impi.as_str());
        }
        writer
            .put(&known::ME_KEY_MATERIAL, info.key.expose())
            .time(&known::KEY_EXPIRY_TIME, info.expires)
            .time(&known::BOOTSTRAP_INFO_CREATION_TIME, now)
            .put(&known::GBA_PUSH_INFO, &info.gpi)
            .number(&known::GBA_TYPE, 0);
        // No Security-Feature-Response: of what a NAF may ask for none is here, GPL_U is the card's.
    }
    retrace(&mut writer, request);
    writer.finish()
}

/// What a NAF is told for a refusal: the code, and the reason for people.
fn refused(refusal: NoPush) -> (Verdict, &'static str) {
    use Verdict::{Base, Experimental};
    match refusal {
        NoPush::NotAuthorised => {
            (Experimental(known::NOT_AUTHORIZED), "not for this name and protocol")
        }
        NoPush::Unknown => {
            (Experimental(known::IDENTITY_UNKNOWN), "no such subscriber, or a barred one")
        }
        NoPush::AutsWrong => (
            Base(known::AUTHENTICATION_REJECTED),
            "AUTS is not the card's, or not for this challenge",
        ),
        NoPush::Paced(_) => (Base(known::UNABLE_TO_COMPLY), "too often for this subscriber"),
        NoPush::Spent => (Base(known::UNABLE_TO_COMPLY), "none can be made for this subscriber"),
        NoPush::Unavailable => (Base(known::UNABLE_TO_COMPLY), "nobody can be looked up now"),
    }
}

/// UE-Id-Type: a private identity.
const PRIVATE: u32 = 0;
/// UICC-ME: the key leaves the card.
const GBA_ME: u32 = 0;
/// Private-Identity-Request: the answer is to name the subscriber.
const REQUESTED: u32 = 0;
