//! Keys, Diameter, base: what two neighbours say to each other, whatever the application.
//!
//! Takes:   who we are ([`Local`]); messages of the base protocol.
//! Gives:   CER, CEA, DWR, DWA, DPR, DPA; [`Capabilities`] of the other end; answers that refuse.
//! Keeps:   nothing.
//! Refuses: capabilities without a name or a realm, by the Result-Code that says so.
//! Sources: RFC 6733 sections 5.3 to 5.5, 6.2, 7.1, 7.2 and 7.5.

use std::net::IpAddr;
use std::sync::Arc;

use super::codec::{ERROR, Fault, Header, Message, PROXIABLE, Printed, REQUEST, Writer};
use super::dictionary::{self as known, VENDOR_3GPP};

/// Who we are.
#[derive(Clone, Debug)]
pub struct Local {
    /// Our name: Origin-Host.
    pub host: Arc<str>,
    /// Our realm: Origin-Realm.
    pub realm: Arc<str>,
    /// What this program is called.
    pub product: Arc<str>,
    /// Applications that are spoken here.
    pub applications: Vec<u32>,
    /// Another number after each start.
    pub state_id: u32,
}

/// What a neighbour says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Origin-Host, lower case.
    pub host: Arc<str>,
    /// Origin-Realm, lower case.
    pub realm: Arc<str>,
    /// Applications.
    pub applications: Vec<u32>,
}

impl Capabilities {
    /// Whether it speaks one of `applications`, or passes on whatever comes.
    ///
    /// Source: RFC 6733 section 5.3.
    pub fn speaks(&self, applications: &[u32]) -> bool {
        let spoken = |own: &u32| *own == known::RELAY || applications.contains(own);
        self.applications.iter().any(spoken)
    }
}

/// Reads CER or CEA.
///
/// # Errors
///
/// A [`Fault`] about what is missing or wrong.
pub fn capabilities(message: &Message<'_>) -> Result<Capabilities, Fault> {
    let avps = message.avps();
    let name =
        |of| -> Result<Arc<str>, Fault> { Ok(avps.need(of)?.text()?.to_ascii_lowercase().into()) };
    let (host, realm) = (name(&known::ORIGIN_HOST)?, name(&known::ORIGIN_REALM)?);
    let mut applications = Vec::new();
    for plain in avps.all(&known::AUTH_APPLICATION_ID) {
        applications.push(plain.number()?);
    }
    for vendors in avps.all(&known::VENDOR_SPECIFIC_APPLICATION_ID) {
        if let Some(id) = vendors.group()?.one(&known::AUTH_APPLICATION_ID)? {
            applications.push(id.number()?);
        }
    }
    Ok(Capabilities { host, realm, applications })
}

fn header(flags: u8, command: u32, hop: u32, end: u32) -> Header {
    Header { flags, command, application: 0, hop, end }
}

impl Local {
    fn named(&self, header: Header) -> Writer {
        let mut writer = Writer::new(header);
        self.sign(&mut writer);
        writer
    }

    /// Adds Origin-Host and Origin-Realm.
    pub fn sign(&self, writer: &mut Writer) {
        writer.text(&known::ORIGIN_HOST, &self.host).text(&known::ORIGIN_REALM, &self.realm);
    }

    fn describe(&self, writer: &mut Writer, address: IpAddr) {
        let octets: Vec<u8> = match address {
            IpAddr::V4(ip) => [0, 1].into_iter().chain(ip.octets()).collect(),
            IpAddr::V6(ip) => [0, 2].into_iter().chain(ip.octets()).collect(),
        };
        writer
            .put(&known::HOST_IP_ADDRESS, &octets)
            .number(&known::VENDOR_ID, 0)
            .text(&known::PRODUCT_NAME, &self.product)
            .number(&known::ORIGIN_STATE_ID, self.state_id)
            .number(&known::SUPPORTED_VENDOR_ID, VENDOR_3GPP)
            // No TLS inside this connection: it stands below it, or nowhere.
            .number(&known::INBAND_SECURITY_ID, 0);
        for application in &self.applications {
            application_id(writer, *application);
        }
    }

    /// Capabilities-Exchange-Request. `address` is ours on this connection.
    pub fn cer(&self, address: IpAddr, hop: u32, end: u32) -> Printed {
        let mut writer = self.named(header(REQUEST, known::CAPABILITIES, hop, end));
        self.describe(&mut writer, address);
        writer.finish()
    }

    /// Capabilities-Exchange-Answer.
    pub fn cea(&self, request: &Header, address: IpAddr, result: u32) -> Printed {
        let mut writer = Writer::new(self.answering(request, result));
        writer.number(&known::RESULT_CODE, result);
        self.sign(&mut writer);
        self.describe(&mut writer, address);
        writer.finish()
    }

    /// Device-Watchdog-Request.
    pub fn dwr(&self, hop: u32, end: u32) -> Printed {
        let mut writer = self.named(header(REQUEST, known::WATCHDOG, hop, end));
        writer.number(&known::ORIGIN_STATE_ID, self.state_id);
        writer.finish()
    }

    /// Device-Watchdog-Answer.
    pub fn dwa(&self, request: &Header) -> Printed {
        let mut writer = Writer::new(request.answer());
        writer.number(&known::RESULT_CODE, known::SUCCESS);
        self.sign(&mut writer);
        writer.number(&known::ORIGIN_STATE_ID, self.state_id);
        writer.finish()
    }

    /// Disconnect-Peer-Request: we stop (REBOOTING).
    pub fn dpr(&self, hop: u32, end: u32) -> Printed {
        let mut writer = self.named(header(REQUEST, known::DISCONNECT, hop, end));
        writer.number(&known::DISCONNECT_CAUSE, 0);
        writer.finish()
    }

    /// Disconnect-Peer-Answer.
    pub fn dpa(&self, request: &Header) -> Printed {
        let mut writer = Writer::new(request.answer());
        writer.number(&known::RESULT_CODE, known::SUCCESS);
        self.sign(&mut writer);
        writer.finish()
    }

    /// The answer that refuses a request: with its Session-Id and Proxy-Info, and the AVP that is to blame.
    ///
    /// Source: RFC 6733 sections 6.2, 7.1 and 7.5.
    pub fn refuse(&self, request: &Header, whole: Option<&Message<'_>>, fault: Fault) -> Printed {
        let mut writer = Writer::new(self.answering(request, fault.code));
        if let Some(session) = whole.and_then(|it| it.avps().all(&known::SESSION_ID).next()) {
            writer.put(&known::SESSION_ID, session.value);
        }
        writer.number(&known::RESULT_CODE, fault.code);
        self.sign(&mut writer);
        if let Some((code, vendor)) = fault.about {
            let example = match known::find(code, vendor) {
                Some(known) => *known,
                None => known::Definition {
                    code,
                    vendor,
                    name: "",
                    kind: known::Kind::Octets,
                    mandatory: true,
                },
            };
            // An example of it, with zeroes for a value.
            let least: &[u8] = if example.kind == known::Kind::Group { &[] } else { &[0; 4] };
            writer.group(&known::FAILED_AVP, |inside| {
                inside.put(&example, least);
            });
        }
        if let Some(whole) = whole {
            retrace(&mut writer, whole);
        }
        writer.finish()
    }

    fn answering(&self, request: &Header, result: u32) -> Header {
        let answer = request.answer();
        // Errors of the protocol, and those alone, have the E bit.
        let error = if result / 1000 == 3 { ERROR } else { 0 };
        Header { flags: answer.flags | error, ..answer }
    }
}

/// Gives an answer the Proxy-Info of its request, in the same order.
///
/// Source: RFC 6733 section 6.2.
pub fn retrace(writer: &mut Writer, request: &Message<'_>) {
    for info in request.avps().all(&known::PROXY_INFO) {
        writer.put(&known::PROXY_INFO, info.value);
    }
}

/// The Vendor-Specific-Application-Id of one of 3GPP's.
pub fn application_id(writer: &mut Writer, application: u32) {
    writer.group(&known::VENDOR_SPECIFIC_APPLICATION_ID, |inside| {
        inside
            .number(&known::VENDOR_ID, VENDOR_3GPP)
            .number(&known::AUTH_APPLICATION_ID, application);
    });
}

/// What an answer says: a Result-Code, or an Experimental-Result-Code of 3GPP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Of the base protocol.
    Base(u32),
    /// Of 3GPP.
    Experimental(u32),
}

/// Reads it.
///
/// # Errors
///
/// A [`Fault`] if there is none, both, or one of another vendor.
pub fn verdict(message: &Message<'_>) -> Result<Verdict, Fault> {
    let avps = message.avps();
    let experimental = avps.one(&known::EXPERIMENTAL_RESULT)?;
    match (avps.one(&known::RESULT_CODE)?, experimental) {
        (Some(code), None) => Ok(Verdict::Base(code.number()?)),
        (None, Some(group)) => {
            let inside = group.group()?;
            if inside.need(&known::VENDOR_ID)?.number()? != VENDOR_3GPP {
                return Err(group.wrong(known::INVALID_AVP_VALUE));
            }
            Ok(Verdict::Experimental(inside.need(&known::EXPERIMENTAL_RESULT_CODE)?.number()?))
        }
        (None, None) => Err(Fault::about(known::MISSING_AVP, &known::RESULT_CODE)),
        (Some(_), Some(group)) => Err(group.wrong(known::AVP_OCCURS_TOO_OFTEN)),
    }
}

/// Prints a verdict.
pub fn tell(writer: &mut Writer, verdict: Verdict) {
    match verdict {
        Verdict::Base(code) => writer.number(&known::RESULT_CODE, code),
        Verdict::Experimental(code) => writer.group(&known::EXPERIMENTAL_RESULT, |inside| {
            inside
                .number(&known::VENDOR_ID, VENDOR_3GPP)
                .number(&known::EXPERIMENTAL_RESULT_CODE, code);
        }),
    };
}

/// The header of a request of an application; the link fills in the Hop-by-Hop Identifier.
pub fn asking(command: u32, application: u32, end: u32) -> Header {
    Header { flags: REQUEST | PROXIABLE, command, application, hop: 0, end }
}
