//! The messages, as devices and servers write them: a dozen headers and more, and bodies of use.

use crate::scene::Ue;

/// Where everybody calls.
pub(crate) const BOB: &str = "sip:bob@example.net";
/// Where he is.
pub(crate) const BOB_CONTACT: &str = "sip:bob@203.0.113.20:5060";

/// The head of a request of `ue` outside any dialog, up to what the method adds; signed if `credentials` says so.
fn head(ue: &mut Ue, method: &str, uri: &str, to: &str, number: usize, signed: bool) -> String {
    let credentials = signed.then(|| ue.sign(method, uri));
    head_with(ue, method, uri, to, number, credentials)
}

fn head_with(
    ue: &Ue,
    method: &str,
    uri: &str,
    to: &str,
    number: usize,
    credentials: Option<String>,
) -> String {
    let signed = credentials.is_some();
    let credentials = credentials.map(|value| format!("Proxy-Authorization: {value}\n"));
    let credentials = credentials.unwrap_or_default();
    let Ue { name, address, .. } = ue;
    let cseq = if method == "BYE" { 2 } else { 1 };
    format!(
        "{method} {uri} SIP/2.0
Via: SIP/2.0/UDP {address};branch=z9hG4bK-{number:08x}-{method}-{signed};rport
Max-Forwards: 70
Route: <sip:edge.example.net:5060;lr>
From: <sip:{name}@example.net>;tag=3fa91c{number:08x}
To: <{to}>
Call-ID: 7f2b91d0c4e84a3c{number:08x}@{address}
CSeq: {cseq} {method}
User-Agent: CPM-client/OMA2.2 RCS-client/UP_2.4 term-Vendor/Model-1.0.3 3gpp-gba
{credentials}"
    )
}

fn contact(ue: &Ue) -> String {
    format!(
        "Contact: <sip:{}@{};ob>;+sip.instance=\"<urn:gsma:imei:90420156-025763-0>\"\n",
        ue.name, ue.address
    )
}

/// A pager-mode MESSAGE of CPM: 15 headers, and a body of 1000 octets, which the credentials cover.
pub(crate) fn message(ue: &mut Ue, number: usize) -> String {
    let cpim = format!(
        "From: <sip:{name}@example.net>
To: <{BOB}>
DateTime: 2026-10-13T10:07:00Z
NS: imdn <urn:ietf:params:imdn>
imdn.Message-ID: Jfe84jf9{number:08x}
imdn.Disposition-Notification: positive-delivery, display

Content-Type: text/plain; charset=utf-8

",
        name = ue.name
    )
    .replace('\n', "\r\n");
    let words = "Shall we meet at the harbour at eight, or is the other side of the river easier? ";
    let words: String = words.chars().cycle().take(1000 - cpim.len()).collect();
    let credentials = ue.sign_whole("MESSAGE", BOB, &format!("{cpim}{words}"));
    let head = head_with(ue, "MESSAGE", BOB, BOB, number, Some(credentials));
    format!(
        "{head}P-Preferred-Identity: <sip:{name}@example.net>
Accept-Contact: *;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg\";require;explicit
Conversation-ID: f81d4fae-7dec-11d0-a765-00a0{number:08x}
Contribution-ID: 01234567-89ab-cdef-0123-4567{number:08x}
Content-Type: message/cpim
Content-Length: @

{cpim}{words}",
        name = ue.name
    )
}

fn sdp(of: &str) -> String {
    format!(
        "v=0
o=- 1790000000 1790000000 IN IP4 {of}
s=-
c=IN IP4 {of}
t=0 0
m=audio 49152 RTP/AVP 96 97 8 101
b=AS:49
a=rtpmap:96 AMR-WB/16000
a=fmtp:96 mode-change-capability=2;max-red=0
a=rtpmap:97 AMR/8000
a=fmtp:97 mode-change-capability=2;max-red=0
a=rtpmap:8 PCMA/8000
a=rtpmap:101 telephone-event/16000
a=fmtp:101 0-15
a=ptime:20
a=maxptime:240
a=sendrecv
"
    )
}

/// An INVITE with its offer: 15 headers.
pub(crate) fn invite(ue: &mut Ue, number: usize) -> String {
    let head = head(ue, "INVITE", BOB, BOB, number, true);
    let (contact, sdp) = (contact(ue), sdp("192.0.2.10"));
    format!(
        "{head}{contact}Supported: timer, 100rel, outbound, path
Allow: INVITE, ACK, CANCEL, BYE, PRACK, UPDATE, OPTIONS, MESSAGE, REFER, NOTIFY, INFO
Session-Expires: 1800;refresher=uac
Content-Type: application/sdp
Content-Length: @

{sdp}"
    )
}

/// What the callee adds to 180 and 200.
pub(crate) fn callee(status: u16) -> String {
    let contact =
        format!("Contact: <{BOB_CONTACT}>\nAllow: INVITE, ACK, CANCEL, BYE, PRACK, UPDATE\n");
    if status == 200 {
        return format!("{contact}Content-Type: application/sdp\n\n{}", sdp("203.0.113.20"));
    }
    contact
}

/// What a UE learns from the answer to its INVITE.
pub(crate) struct Callee {
    /// The URI of its Contact.
    pub(crate) uri: String,
    /// The value of To.
    to: String,
    /// Whether requests go by way of the edge.
    routed: bool,
}

impl Callee {
    /// The callee of every call through a proxy.
    pub(crate) fn proxied() -> Self {
        Self { uri: BOB_CONTACT.into(), to: format!("<{BOB}>;tag=b7c1"), routed: true }
    }
}

/// The callee of `response`.
pub(crate) fn learnt(response: &str) -> Callee {
    let row = |name: &str| response.lines().find_map(|line| line.strip_prefix(name));
    let contact = row("Contact: <").and_then(|rest| rest.split('>').next()).expect("a Contact");
    let to = row("To: ").expect("a To").trim().to_owned();
    Callee { uri: contact.to_owned(), to, routed: row("Record-Route:").is_some() }
}

/// A request inside the call `number`; an ACK is never signed.
pub(crate) fn inside(ue: &mut Ue, method: &str, number: usize, callee: &Callee) -> String {
    let head = head(ue, method, &callee.uri, BOB, number, method != "ACK");
    let head = head.replace(&format!("To: <{BOB}>"), &format!("To: {}", callee.to));
    let route = if callee.routed { "" } else { "Route: <sip:edge.example.net:5060;lr>\n" };
    format!("{}Content-Length: 0\n", head.replacen(route, "", 1))
}

/// A SUBSCRIBE to presence.
pub(crate) fn subscribe(ue: &mut Ue, number: usize) -> String {
    let head = head(ue, "SUBSCRIBE", BOB, BOB, number, true);
    let contact = contact(ue);
    format!(
        "{head}{contact}Event: presence
Accept: application/pidf+xml, application/rlmi+xml, multipart/related
Expires: 0
Supported: eventlist
Content-Length: 0
"
    )
}

/// The NOTIFY that answers it and ends the subscription, from the core.
pub(crate) fn notify(ue: &Ue, number: usize) -> String {
    let Ue { name, address, .. } = ue;
    let pidf = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<presence xmlns=\"urn:ietf:params:xml:ns:pidf\" entity=\"{BOB}\">
<tuple id=\"a8098c1a\"><status><basic>open</basic></status>
<contact priority=\"0.8\">{BOB}</contact><timestamp>2026-10-13T10:07:00Z</timestamp></tuple>
</presence>
"
    );
    format!(
        "NOTIFY sip:{name}@{address} SIP/2.0
Via: SIP/2.0/UDP 203.0.113.10:5060;branch=z9hG4bKn{number:08x};rport
Max-Forwards: 70
Route: <sip:edge.example.net:5060;lr>, <sip:edge.example.net:5060;lr>
From: <{BOB}>;tag=b7c1
To: <sip:{name}@example.net>;tag=3fa91c{number:08x}
Call-ID: 7f2b91d0c4e84a3c{number:08x}@{address}
CSeq: 1 NOTIFY
Contact: <sip:presence@203.0.113.10:5060>
Event: presence
Subscription-State: terminated;reason=timeout
Content-Type: application/pidf+xml
Content-Length: @

{pidf}"
    )
}

/// A REGISTER, with or without credentials.
pub(crate) fn register(ue: &mut Ue, number: usize, signed: bool) -> String {
    let to = format!("sip:{}@example.net", ue.name);
    let head = head(ue, "REGISTER", "sip:example.net", &to, number, signed);
    let contact = contact(ue);
    let contact = contact.trim_end();
    format!(
        "{head}{contact};reg-id=1;+g.oma.sip-im;+g.3gpp.smsip
Supported: path, outbound, gruu
Expires: 600
Content-Length: 0
"
    )
}

/// OPTIONS to the edge itself, as a keep-alive.
pub(crate) fn options(ue: &mut Ue, number: usize) -> String {
    let head = head(ue, "OPTIONS", "sip:example.net", "sip:example.net", number, false);
    let contact = contact(ue);
    format!("{head}{contact}Accept: application/sdp\nContent-Length: 0\n")
}

/// A response to `request` as the edge sent it. `more` are header lines, and perhaps a blank line and a body.
pub(crate) fn response(request: &str, status: u16, more: &str) -> String {
    let mut head = format!("SIP/2.0 {status} {}\n", if status == 200 { "OK" } else { "Ringing" });
    for line in request.lines().take_while(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap_or_default();
        if ["Via", "From", "To", "Call-ID", "CSeq", "Record-Route"].contains(&name) {
            head += line;
            if name == "To" && !line.contains(";tag=") {
                head += ";tag=b7c1";
            }
            head += "\n";
        }
    }
    let (more, body) = more.split_once("\n\n").unwrap_or((more.trim_end(), ""));
    let more = if more.is_empty() { String::new() } else { format!("{more}\n") };
    format!("{head}Server: Core/5.8 (x86_64/linux)\n{more}Content-Length: {}\n\n{body}", body.len())
}
