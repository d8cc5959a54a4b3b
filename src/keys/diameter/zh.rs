//! Keys, Diameter, Zh: a bootstrapping server asks the home for a vector and for the subscriber's settings.
//!
//! Takes:   a private identity, and the AUTS that came for a challenge; or the messages of the other end.
//! Gives:   MAR and MAA; [`HomeAnswer`] of a MAA, [`VectorRequest`] of a MAR.
//! Keeps:   nothing.
//! Refuses: an answer to another question or about another name, a vector of other lengths than AKA has, another
//!          scheme: nothing of such an answer is believed.
//! Sources: TS 29.109 clauses 4.2 and 6.3; TS 29.229 clauses 6.1.7 and 6.3.13; TS 33.102 clause 6.3.

use std::sync::Arc;

use super::base::{Local, Verdict, application_id, asking, retrace, tell, verdict};
use super::codec::{Avp, Fault, Message, Printed, Writer};
use super::dictionary as known;
use super::guss;
use super::zn::addressed;
use crate::identity::Impi;
use crate::keys::Rand;
use crate::keys::bootstrap::{Home, HomeAnswer};
use crate::keys::subscribers::Guss;
use crate::keys::vector::{Autn, Auts, Res, SessionKey, Vector};

/// The only scheme of Zh.
pub const SCHEME: &str = "Digest-AKAv1-MD5";

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its Session-Id.
    pub session: String,
    /// The realm of the home.
    pub realm: Arc<str>,
    /// Whose vector.
    pub impi: Impi,
    /// The card's sequence number, and the challenge it came for.
    pub resync: Option<(Rand, Auts)>,
}

impl Question {
    /// Multimedia-Auth-Request.
    pub fn print(&self, local: &Local, end: u32) -> Printed {
        let mut writer = Writer::new(asking(known::MULTIMEDIA_AUTH, known::ZH, end));
        writer.text(&known::SESSION_ID, &self.session);
        application_id(&mut writer, known::ZH);
        writer.number(&known::AUTH_SESSION_STATE, 1);
        local.sign(&mut writer);
        writer
            .text(&known::DESTINATION_REALM, &self.realm)
            .text(&known::USER_NAME, self.impi.as_str())
            .number(&known::SIP_NUMBER_AUTH_ITEMS, 1)
            .group(&known::SIP_AUTH_DATA_ITEM, |item| {
                item.text(&known::SIP_AUTHENTICATION_SCHEME, SCHEME);
                if let Some((rand, auts)) = &self.resync {
                    item.put(&known::SIP_AUTHORIZATION, &[&rand.0[..], &auts.0].concat());
                }
            });
        writer.finish()
    }

    /// What a Multimedia-Auth-Answer says to it. Whatever is wrong with it: [`HomeAnswer::Unavailable`].
    pub fn answer(&self, octets: &[u8]) -> HomeAnswer {
        self.read(octets).unwrap_or(HomeAnswer::Unavailable)
    }

    fn read(&self, octets: &[u8]) -> Result<HomeAnswer, Fault> {
        let message = Message::parse(octets)?;
        message.all_known()?;
        let avps = message.avps();
        let is = |avp: Avp<'_>, own: &str| match avp.value == own.as_bytes() {
            true => Ok(()),
            false => Err(avp.wrong(known::INVALID_AVP_VALUE)),
        };
        is(avps.need(&known::SESSION_ID)?, &self.session)?;
        match verdict(&message)? {
            Verdict::Base(known::SUCCESS) => {}
            Verdict::Base(known::AUTHENTICATION_REJECTED) => return Ok(HomeAnswer::AutsWrong),
            Verdict::Experimental(known::USER_UNKNOWN | known::IDENTITY_UNKNOWN) => {
                return Ok(HomeAnswer::Unknown);
            }
            Verdict::Base(_) | Verdict::Experimental(_) => return Ok(HomeAnswer::Unavailable),
        }
        if let Some(name) = avps.one(&known::USER_NAME)? {
            is(name, self.impi.as_str())?;
        }
        let item = avps.need(&known::SIP_AUTH_DATA_ITEM)?.group()?;
        let scheme = item.need(&known::SIP_AUTHENTICATION_SCHEME)?;
        is(scheme, SCHEME)?;
        let vector = vector(item)?;
        let guss = match avps.one(&known::GBA_USER_SEC_SETTINGS)? {
            Some(settings) => guss::parse(settings.value, &self.impi)
                .ok_or(settings.wrong(known::INVALID_AVP_VALUE))?,
            None => Guss::default(),
        };
        Ok(HomeAnswer::Known(Box::new(Home { vector, guss: Arc::new(guss) })))
    }
}

fn vector(item: super::codec::Avps<'_>) -> Result<Vector, Fault> {
    let challenge = item.need(&known::SIP_AUTHENTICATE)?;
    let wrong = |avp: &Avp<'_>| avp.wrong(known::INVALID_AVP_VALUE);
    let (rand, autn) = challenge.value.split_first_chunk::<16>().ok_or(wrong(&challenge))?;
    let autn: [u8; 16] = autn.try_into().map_err(|_| wrong(&challenge))?;
    let key = |of| {
        let avp = item.need(of)?;
        let octets: [u8; 16] = avp.value.try_into().map_err(|_| wrong(&avp))?;
        Ok(SessionKey::new(octets))
    };
    let expected = item.need(&known::SIP_AUTHORIZATION)?;
    Ok(Vector {
        rand: Rand(*rand),
        autn: Autn(autn),
        xres: Res::new(expected.value).ok_or(wrong(&expected))?,
        ck: key(&known::CONFIDENTIALITY_KEY)?,
        ik: key(&known::INTEGRITY_KEY)?,
    })
}

/// What a bootstrapping server asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VectorRequest {
    /// Whose vector.
    pub impi: Impi,
    /// The card's sequence number, and the challenge it came for.
    pub resync: Option<(Rand, Auts)>,
}

/// Reads a Multimedia-Auth-Request to us.
///
/// # Errors
///
/// A [`Fault`] about what is missing, wrong, or meant for somebody else.
pub fn request(message: &Message<'_>, local: &Local) -> Result<VectorRequest, Fault> {
    let avps = message.avps();
    avps.need(&known::SESSION_ID)?;
    addressed(message, local)?;
    let name = avps.need(&known::USER_NAME)?;
    let impi = Impi::new(name.text()?).ok_or(name.wrong(known::INVALID_AVP_VALUE))?;
    let item = avps.need(&known::SIP_AUTH_DATA_ITEM)?.group()?;
    let scheme = item.need(&known::SIP_AUTHENTICATION_SCHEME)?;
    if scheme.value != SCHEME.as_bytes() {
        return Err(scheme.wrong(known::INVALID_AVP_VALUE));
    }
    let resync = item.one(&known::SIP_AUTHORIZATION)?.as_ref().map(resync).transpose()?;
    Ok(VectorRequest { impi, resync })
}

/// The challenge and the AUTS of a SIP-Authorization.
pub(super) fn resync(avp: &Avp<'_>) -> Result<(Rand, Auts), Fault> {
    let wrong = avp.wrong(known::INVALID_AVP_VALUE);
    let (rand, auts) = avp.value.split_first_chunk::<16>().ok_or(wrong)?;
    Ok((Rand(*rand), Auts(auts.try_into().map_err(|_| wrong)?)))
}

/// Multimedia-Auth-Answer.
pub fn answer(local: &Local, request: &Message<'_>, impi: &Impi, found: &HomeAnswer) -> Printed {
    let mut writer = Writer::new(request.header.answer());
    if let Some(session) = request.avps().all(&known::SESSION_ID).next() {
        writer.put(&known::SESSION_ID, session.value);
    }
    application_id(&mut writer, known::ZH);
    let said = match found {
        HomeAnswer::Known(_) => Verdict::Base(known::SUCCESS),
        HomeAnswer::Unknown => Verdict::Experimental(known::IDENTITY_UNKNOWN),
        HomeAnswer::AutsWrong => Verdict::Base(known::AUTHENTICATION_REJECTED),
        HomeAnswer::Unavailable => Verdict::Base(known::UNABLE_TO_COMPLY),
    };
    tell(&mut writer, said);
    writer.number(&known::AUTH_SESSION_STATE, 1);
    local.sign(&mut writer);
    if let HomeAnswer::Known(home) = found {
        let Home { vector, guss } = &**home;
        let challenge = [&vector.rand.0[..], &vector.autn.0].concat();
        writer
            .text(&known::USER_NAME, impi.as_str())
            .number(&known::SIP_NUMBER_AUTH_ITEMS, 1)
            .group(&known::SIP_AUTH_DATA_ITEM, |item| {
                item.number(&known::SIP_ITEM_NUMBER, 1)
                    .text(&known::SIP_AUTHENTICATION_SCHEME, SCHEME)
                    .put(&known::SIP_AUTHENTICATE, &challenge)
                    .put(&known::SIP_AUTHORIZATION, vector.xres.expose())
                    .put(&known::CONFIDENTIALITY_KEY, vector.ck.expose())
                    .put(&known::INTEGRITY_KEY, vector.ik.expose());
            })
            .text(&known::GBA_USER_SEC_SETTINGS, &guss::print(impi, guss));
    }
    retrace(&mut writer, request);
    writer.finish()
}
