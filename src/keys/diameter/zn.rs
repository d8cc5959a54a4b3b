//! Keys, Diameter, Zn: a NAF asks a bootstrapping server for a key.
//!
//! Takes:   a B-TID and the NAF it is for; or the messages of the other end.
//! Gives:   BIR and BIA; [`KeyAnswer`] of a BIA, [`KeyRequest`] of a BIR.
//! Keeps:   nothing.
//! Refuses: an answer to another question, a key that is not of 32 octets, one made by 2G GBA, an
//!          identity that is none: nothing of such an answer is believed. A request for another realm or host.
//! Sources: TS 29.109 clauses 5.2 and 6.3; TS 33.220 clause 4.5.3; RFC 6733 sections 6.1 and 6.2; threat V-31.

use std::sync::Arc;

use super::base::{Local, Verdict, application_id, asking, retrace, tell, verdict};
use super::codec::{Avp, Avps, Fault, Message, Printed, Writer};
use super::dictionary as known;
use super::guss::{self, Listed};
use crate::identity::{Btid, Impi};
use crate::instant::WallTime;
use crate::keys::bootstrap::NafRefusal;
use crate::keys::{GbaType, KeyAnswer, KsNaf, NafId, NafKey, UaId};

/// Most services of one request.
pub const SERVICES_MAX: usize = 16;

/// How a GAA-Service-Identifier is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceForm {
    /// Digits.
    #[default]
    Text,
    /// Four octets.
    Number,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Its Session-Id.
    pub session: String,
    /// The realm of the server.
    pub realm: Arc<str>,
    /// The server, if one in particular is meant.
    pub host: Option<Arc<str>>,
    /// The key's name.
    pub btid: Btid,
    /// For whom the key is.
    pub naf: NafId,
    /// Services whose settings are asked for.
    pub services: Vec<u32>,
    /// How they are written.
    pub form: ServiceForm,
}

impl Question {
    /// Bootstrapping-Info-Request.
    pub fn print(&self, local: &Local, end: u32) -> Printed {
        let mut writer = Writer::new(asking(known::BOOTSTRAPPING_INFO, known::ZN, end));
        writer.text(&known::SESSION_ID, &self.session);
        application_id(&mut writer, known::ZN);
        // NO_STATE_MAINTAINED.
        writer.number(&known::AUTH_SESSION_STATE, 1);
        local.sign(&mut writer);
        writer.text(&known::DESTINATION_REALM, &self.realm);
        if let Some(host) = &self.host {
            writer.text(&known::DESTINATION_HOST, host);
        }
        for service in &self.services {
            match self.form {
                ServiceForm::Text => {
                    writer.text(&known::GAA_SERVICE_IDENTIFIER, &service.to_string())
                }
                ServiceForm::Number => writer.number(&known::GAA_SERVICE_IDENTIFIER, *service),
            };
        }
        writer
            .text(&known::TRANSACTION_IDENTIFIER, self.btid.as_str())
            .put(&known::NAF_ID, &self.naf.octets())
            // Keys that stay on the card are no use to us.
            .number(&known::GBA_U_AWARENESS_INDICATOR, 0);
        writer.finish()
    }

    /// What a Bootstrapping-Info-Answer says to it. Whatever is wrong with it: [`KeyAnswer::Unavailable`].
    pub fn answer(&self, octets: &[u8], now: WallTime) -> KeyAnswer {
        self.read(octets, now).unwrap_or(KeyAnswer::Unavailable)
    }

    fn read(&self, octets: &[u8], now: WallTime) -> Result<KeyAnswer, Fault> {
        let message = Message::parse(octets)?;
        message.all_known()?;
        let avps = message.avps();
        let is = |avp: Option<Avp<'_>>, own: &[u8]| match avp {
            Some(avp) if avp.value != own => Err(avp.wrong(known::INVALID_AVP_VALUE)),
            _ => Ok(()),
        };
        is(Some(avps.need(&known::SESSION_ID)?), self.session.as_bytes())?;
        is(avps.one(&known::TRANSACTION_IDENTIFIER)?, self.btid.as_str().as_bytes())?;
        is(avps.one(&known::NAF_ID)?, &self.naf.octets())?;
        match verdict(&message)? {
            Verdict::Base(known::SUCCESS) => {}
            Verdict::Experimental(known::IDENTITY_UNKNOWN | known::BTID_INVALID) => {
                return Ok(KeyAnswer::Unknown);
            }
            Verdict::Experimental(known::NOT_AUTHORIZED) => return Ok(KeyAnswer::Forbidden),
            Verdict::Base(_) | Verdict::Experimental(_) => return Ok(KeyAnswer::Unavailable),
        }
        let kind = match avps.one(&known::GBA_TYPE)? {
            Some(avp) => {
                let read = avp.number().ok().and_then(gba_type);
                read.ok_or(avp.wrong(known::INVALID_AVP_VALUE))?
            }
            None => GbaType::Aka,
        };
        let key = avps.need(&known::ME_KEY_MATERIAL)?;
        let octets = key.value.try_into().map_err(|_| key.wrong(known::INVALID_AVP_VALUE))?;
        let expires = avps.need(&known::KEY_EXPIRY_TIME)?.time()?;
        let created = match avps.one(&known::BOOTSTRAP_INFO_CREATION_TIME)? {
            // A clock ahead of ours makes no key younger than it can be.
            Some(created) => created.time()?.min(now),
            None => now,
        };
        let impi = match avps.one(&known::USER_NAME)? {
            Some(name) => {
                let impi = Impi::new(name.text()?);
                Some(impi.ok_or(name.wrong(known::INVALID_AVP_VALUE))?)
            }
            None => None,
        };
        let Listed { identities, uss } = match avps.one(&known::GBA_USER_SEC_SETTINGS)? {
            Some(settings) => {
                guss::parse_list(settings.value).ok_or(settings.wrong(known::INVALID_AVP_VALUE))?
            }
            None => Listed::default(),
        };
        Ok(KeyAnswer::Known(Arc::new(NafKey {
            key: KsNaf::new(octets),
            impi,
            identities: identities.into(),
            uss: uss.into(),
            expires,
            created,
            kind,
            ready: Default::default(),
        })))
    }
}

/// What a NAF asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRequest<'a> {
    /// Its name, as it says.
    pub host: &'a str,
    /// The key's name; `None` if that could be none.
    pub btid: Option<Btid>,
    /// For whom the key is to be.
    pub naf: NafId,
    /// Services whose settings are asked for.
    pub services: Vec<u32>,
}

/// Reads a Bootstrapping-Info-Request to us.
///
/// # Errors
///
/// A [`Fault`] about what is missing, wrong, or meant for somebody else.
pub fn request<'a>(message: &Message<'a>, local: &Local) -> Result<KeyRequest<'a>, Fault> {
    let avps = message.avps();
    avps.need(&known::SESSION_ID)?;
    let host = avps.need(&known::ORIGIN_HOST)?.text()?;
    avps.need(&known::ORIGIN_REALM)?;
    addressed(message, local)?;
    let services = services(avps)?;
    let btid = avps.need(&known::TRANSACTION_IDENTIFIER)?;
    let btid = std::str::from_utf8(btid.value).ok().and_then(Btid::new);
    let naf = naf_of(avps)?;
    Ok(KeyRequest { host, btid, naf, services })
}

/// Whether a request is for our realm and, if it names one, for our host.
///
/// # Errors
///
/// A [`Fault`] if it is for somebody else: we pass nothing on.
pub fn addressed(message: &Message<'_>, local: &Local) -> Result<(), Fault> {
    let avps = message.avps();
    let realm = avps.need(&known::DESTINATION_REALM)?;
    let host = avps.one(&known::DESTINATION_HOST)?;
    let ours = |avp: &Avp<'_>, own: &str| avp.value.eq_ignore_ascii_case(own.as_bytes());
    if !ours(&realm, &local.realm) || host.is_some_and(|host| !ours(&host, &local.host)) {
        return Err(Fault::plain(known::UNABLE_TO_DELIVER));
    }
    Ok(())
}

/// The services of a request, at most [`SERVICES_MAX`].
pub(super) fn services(avps: Avps<'_>) -> Result<Vec<u32>, Fault> {
    let mut services = Vec::new();
    for avp in avps.all(&known::GAA_SERVICE_IDENTIFIER) {
        if services.len() == SERVICES_MAX {
            return Err(avp.wrong(known::AVP_OCCURS_TOO_OFTEN));
        }
        services.push(service(&avp)?);
    }
    Ok(services)
}

/// A service, in digits or in four octets.
fn service(avp: &Avp<'_>) -> Result<u32, Fault> {
    let digits = !avp.value.is_empty() && avp.value.iter().all(u8::is_ascii_digit);
    let read =
        if digits { avp.text().ok().and_then(|text| text.parse().ok()) } else { avp.number().ok() };
    read.ok_or(avp.wrong(known::INVALID_AVP_VALUE))
}

/// The NAF-Id of a request: the name, then five octets.
pub(super) fn naf_of(avps: Avps<'_>) -> Result<NafId, Fault> {
    let avp = avps.need(&known::NAF_ID)?;
    let read = |octets: &[u8]| {
        let (name, ua) = octets.split_last_chunk::<5>()?;
        let name = std::str::from_utf8(name).ok()?;
        let fits = !name.is_empty() && name.bytes().all(|octet| octet.is_ascii_graphic());
        fits.then(|| NafId::new(name, UaId(*ua)))
    };
    read(avp.value).ok_or(avp.wrong(known::INVALID_AVP_VALUE))
}

/// GBA-Type. That 2 is GBA_Digest is told by others; the table itself was not to be read.
///
/// Source: TS 29.109 clause 6.3.
fn gba_number(kind: GbaType) -> u32 {
    match kind {
        GbaType::Aka => 0,
        GbaType::Digest => 2,
    }
}

fn gba_type(number: u32) -> Option<GbaType> {
    [GbaType::Aka, GbaType::Digest].into_iter().find(|kind| gba_number(*kind) == number)
}

/// Bootstrapping-Info-Answer.
pub fn answer(
    local: &Local,
    request: &Message<'_>,
    services: &[u32],
    found: Result<&NafKey, NafRefusal>,
) -> Printed {
    let mut writer = Writer::new(request.header.answer());
    if let Some(session) = request.avps().all(&known::SESSION_ID).next() {
        writer.put(&known::SESSION_ID, session.value);
    }
    application_id(&mut writer, known::ZN);
    let said = match found {
        Ok(_) => Verdict::Base(known::SUCCESS),
        Err(refusal) => Verdict::Experimental(refusal.diameter_code()),
    };
    tell(&mut writer, said);
    writer.number(&known::AUTH_SESSION_STATE, 1);
    local.sign(&mut writer);
    if let Ok(key) = found {
        if let Some(impi) = &key.impi {
            writer.text(&known::USER_NAME, impi.as_str());
        }
        writer
            .put(&known::ME_KEY_MATERIAL, key.key.expose())
            .time(&known::KEY_EXPIRY_TIME, key.expires)
            .time(&known::BOOTSTRAP_INFO_CREATION_TIME, key.created);
        if !services.is_empty() {
            let list = guss::print_list(&key.identities, &key.uss, services);
            writer.text(&known::GBA_USER_SEC_SETTINGS, &list);
        }
        writer.number(&known::GBA_TYPE, gba_number(key.kind));
    }
    retrace(&mut writer, request);
    writer.finish()
}
