//! Telemetry, traces: one span for each request, from its arrival to what was decided of it.
//!
//! Takes:   a request with its arrival, then the [`Decision`].
//! Gives:   the span `request` at level debug, with `sip.method`, `sip.call_id` and `flow.id`, and once they are
//!          known `auth.scheme`, `enabler.name` and `assoc.rule`; inside a dialog `assoc.id`, `assoc.state`, `assoc.level`,
//!          `assoc.class` and `assoc.generation`, as it stood before.
//! Keeps:   nothing. While nobody listens at that level a span is one load: no field is read.
//! Refuses: nothing. Call-IDs and addresses appear as [`Redacted`] alone; a request that waits for a lookup ends
//!          its span with that.
//! Sources: SEC_CF 1.1 SEC-001; V-49.

use std::fmt;

use tracing::field::{Empty, display};
use tracing::{Level, Span};

use super::Redacted;
use crate::authentication::Kind;
use crate::journey::Decision;
use crate::transport::{Arrival, Flow};
use crate::wire::Message;

/// The span of a request; none for a response.
pub fn request(arrival: &Arrival, message: &Message) -> Span {
    if !message.is_request() {
        return Span::none();
    }
    tracing::debug_span!(
        "request",
        sip.method = message.method().map_or("", |method| method.as_str()),
        sip.call_id = %Redacted(&String::from_utf8_lossy(message.call_id())),
        flow.id = %FlowId(&arrival.flow),
        auth.scheme = Empty,
        assoc.id = Empty,
        assoc.rule = Empty,
        assoc.state = Empty,
        assoc.level = Empty,
        assoc.class = Empty,
        assoc.generation = Empty,
        enabler.name = Empty,
    )
}

/// Notes in the span of the request at hand what was decided of it.
pub fn decided(decision: &Decision) {
    if !tracing::enabled!(Level::DEBUG) || decision.status != 0 {
        return;
    }
    let span = Span::current();
    if decision.evidence != Kind::None {
        span.record("auth.scheme", decision.evidence.as_str());
    }
    if let Some(dialog) = decision.dialog {
        span.record("assoc.id", dialog.id);
        span.record("assoc.state", dialog.state.as_str());
        span.record("assoc.level", dialog.level);
        span.record("assoc.generation", dialog.generation);
        if let Some(class) = decision.class {
            span.record("assoc.class", class.as_str());
        }
    }
    if decision.rule != 0 {
        span.record("assoc.rule", decision.rule);
    }
    if let Some(class) = decision.class {
        span.record("enabler.name", display(class.as_str()));
    }
}

/// A flow as traces name it: a connection by its number, UDP by what its address is hashed to.
struct FlowId<'f>(&'f Flow);

impl fmt::Display for FlowId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Flow { transport, remote, connection, .. } = self.0;
        f.write_str(transport.uri_token())?;
        match connection {
            Some(id) => write!(f, "-{}.{}", id.slot, id.generation),
            None => Redacted(&remote.to_string()).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

    use super::*;
    use crate::testing::{Lab, Peer, lab::octets_of};

    /// Every field that any span has had, as text.
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<BTreeMap<&'static str, String>>>);

    impl Visit for Seen {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            self.0.lock().unwrap().insert(field.name(), format!("{value:?}").replace('"', ""));
        }
    }

    impl<S: tracing::Subscriber> Layer<S> for Seen {
        fn on_new_span(&self, span: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
            assert_eq!(span.metadata().name(), "request");
            span.record(&mut self.clone());
        }

        fn on_record(&self, _: &Id, record: &Record<'_>, _: Context<'_, S>) {
            record.record(&mut self.clone());
        }
    }

    fn walk(lab: &mut Lab, from: &Peer, text: &str) {
        let octets = octets_of(text);
        let message = Message::from_datagram(octets.clone()).expect("a message");
        request(&from.arrival(), &message).in_scope(|| {
            lab.receive_octets(from, octets);
            lab.decisions.drain(..).for_each(|decision| decided(&decision));
        });
    }

    /// V-49.
    #[test]
    fn a_request_is_a_span_that_says_what_was_found_and_names_nobody() {
        let seen = Seen::default();
        let listener = tracing_subscriber::registry().with(seen.clone());
        let (mut lab, alice) = (Lab::default(), Peer::tls("192.0.2.10:40000", 7));
        let mut key = lab.ue1();
        let text = |method: &str, tag: &str, credentials: &str| {
            format!(
                "{method} sip:bob@example.net SIP/2.0
Via: SIP/2.0/TLS 192.0.2.10;branch=z9hG4bK{method}
From: <sip:alice@example.net>;tag=1
To: <sip:bob@example.net>{tag}
Call-ID: secret@192.0.2.10
CSeq: 1 {method}
{credentials}Content-Length: 0
"
            )
        };
        let invite = key.credentials("INVITE", "sip:bob@example.net", b"");
        let invite = format!("Proxy-Authorization: {invite}\n");
        let response = "SIP/2.0 200 OK
From: <sip:alice@example.net>;tag=1
To: <sip:bob@example.net>;tag=2
Call-ID: secret@192.0.2.10
CSeq: 1 INVITE
Contact: <sip:bob@203.0.113.20>
Content-Length: 0
";
        let message = Message::from_datagram(octets_of(&text("BYE", "", ""))).expect("a message");
        assert!(request(&alice.arrival(), &message).is_disabled(), "nobody listens yet");
        tracing::subscriber::with_default(listener, || {
            let octets = octets_of(&text("INVITE", "", &invite));
            let message = Message::from_datagram(octets.clone()).expect("a message");
            let span = request(&alice.arrival(), &message);
            let sent = span.in_scope(|| lab.receive_octets(&alice, octets));
            let there = sent.iter().find(|sent| sent.message.is_request()).expect("at the core");
            let there = there.text();
            let vias = there.lines().filter(|line| line.starts_with("Via:"));
            let vias = vias.collect::<Vec<_>>().join("\n");
            let answer = response.replacen("\nFrom", &format!("\n{vias}\nFrom"), 1);
            lab.receive(&Peer::core(), &answer);
            lab.decisions.clear();
            let bye = text("BYE", ";tag=2", "");
            let bye = bye.replacen("sip:bob@example.net SIP", "sip:bob@203.0.113.20 SIP", 1);
            walk(&mut lab, &alice, &bye);
        });
        let seen = seen.0.lock().unwrap().clone();
        let call_id = Redacted("secret@192.0.2.10").to_string();
        for (field, value) in [
            ("sip.method", "BYE"),
            ("sip.call_id", call_id.as_str()),
            ("flow.id", "tls-7.0"),
            ("auth.scheme", "secure-flow"),
            ("assoc.id", "1000000000"),
            ("assoc.rule", "1"),
            ("assoc.state", "bound"),
            ("assoc.level", "2"),
            ("assoc.class", "sip"),
            ("assoc.generation", "0"),
            ("enabler.name", "sip"),
        ] {
            assert_eq!(seen.get(field).map(String::as_str), Some(value), "{field}: {seen:?}");
        }
        let all = format!("{seen:?}");
        assert!(!all.contains("secret") && !all.contains("192.0.2.10"), "V-49: {all}");
        assert!(!all.contains("alice"), "V-49: {all}");

        let udp = Peer::udp("192.0.2.10:5060").flow();
        let shown = FlowId(&udp).to_string();
        assert!(shown.starts_with("udp~") && !shown.contains("192"), "{shown}");
    }
}
