//! Stage 2, steps: how many octets the parsers have looked at, counted in tests alone.
//!
//! Takes:   a number of octets that are about to be walked over.
//! Gives:   their sum, by which a test shows that time grows with length and no faster.
//! Keeps:   one counter for each thread, in tests; nothing and no code elsewhere.
//! Refuses: nothing.
//! Sources: `V-12`.

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Notes that `octets` octets are walked over.
#[inline(always)]
pub(super) fn count(octets: usize) {
    // A walk over nothing is a step too.
    #[cfg(test)]
    STEPS.with(|steps| steps.set(steps.get() + octets + 1));
    #[cfg(not(test))]
    let _ = octets;
}

/// What `work` walked over.
#[cfg(test)]
pub(super) fn of(work: impl FnOnce()) -> usize {
    let before = STEPS.with(std::cell::Cell::get);
    work();
    STEPS.with(std::cell::Cell::get) - before
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};

    use super::super::{
        Credentials, Edits, Event, Features, Framed, Framer, MediaType, Message, Name, Reply, check,
    };
    use super::of;

    /// Everything that reads a message, whether the check would have let it through or not.
    fn read_all(message: &Message) {
        let _ = (check::check(message), check::branch(message));
        let _ = (message.top_via(), message.from(), message.to(), message.cseq(), message.uri());
        let _ = (message.expires(), message.retry_after(), message.content_type(), message.event());
        let _ = message.uri().map(|uri| (uri.identity(), uri.equivalent(&uri)));
        for name in [Name::Via, Name::Contact, Name::Route, Name::From, Name::PAssertedIdentity] {
            for address in message.addresses(name).flatten() {
                let _ = (address.tag(), address.uri().identity(), address.uri().param("maddr"));
            }
        }
        for features in message.features(Name::AcceptContact).flatten() {
            let _ = features.claims("+g.3gpp.icsi-ref").count();
        }
        for row in message.fields_named(Name::Authorization) {
            let _ = Credentials::parse(row);
        }
        for row in message.fields_named(Name::Other) {
            let _ = (MediaType::parse(row), Event::parse(row), Features::parse(row));
        }
        let _ = Reply::to(message, 400).to_tag(b"t").octets();
        let mut edits = Edits::new();
        edits.retain(message, Name::Route, |value| value.len() > 2);
        let _ = edits.apply(message);
    }

    fn steps(octets: &[u8]) -> usize {
        of(|| match Message::from_datagram(Bytes::copy_from_slice(octets)) {
            Ok(message) => read_all(&message),
            Err(why) => why.rest.iter().for_each(|message| read_all(message)),
        })
    }

    /// One header of each kind that is parsed, filled with `filler`, `length` octets in all.
    fn hostile(name: &str, filler: &[u8], length: usize) -> Vec<u8> {
        let mut octets = b"OPTIONS sip:a@b SIP/2.0\r\n".to_vec();
        while octets.len() < length {
            octets.extend_from_slice(name.as_bytes());
            octets.extend_from_slice(b": ");
            let left = length.saturating_sub(octets.len()).clamp(1, 7 * 1024);
            octets.extend(filler.iter().cycle().take(left.next_multiple_of(filler.len())));
            octets.extend_from_slice(b"\r\n");
        }
        octets.extend_from_slice(b"\r\n");
        octets
    }

    /// V-12. Sixteen times the octets cost at most seventeen times the steps, whatever they are.
    #[test]
    fn v_12_work_grows_with_length_and_no_faster() {
        for name in [
            "Via",
            "From",
            "t",
            "Contact",
            "Route",
            "P-Asserted-Identity",
            "Authorization",
            "Accept-Contact",
            "CSeq",
            "Other",
        ] {
            for filler in [
                &b" "[..],
                b",",
                b"\"",
                b"\"\"",
                b";",
                b"(",
                b"((a) ",
                b"<",
                b"<>",
                b"\\",
                b"\\\"",
                b"\r\n ",
                b"\t\r\n\t",
                b"%",
                b"%41",
                b"a=b,",
                b";a=b",
                b";a=\"b\"",
                b"sip:a@b;",
                b"<sip:a@b>,",
                b":",
                b"@",
                b"=",
                b"[",
                b"x",
                b"SIP/2.0/UDP a;b=c,",
                b"*;+x=\"a,b\";",
                b"\"a\" <sip:a;b=c?d=e>;f=g, ",
            ] {
                let (short, long) = (
                    steps(&hostile(name, filler, 4 * 1024)),
                    steps(&hostile(name, filler, 64 * 1024)),
                );
                let filler = String::from_utf8_lossy(filler);
                assert!(long <= 17 * short, "{name}: {filler:?}: {short} steps, then {long}");
                assert!(long <= 64 * 64 * 1024, "{name}: {filler:?}: {long} steps");
            }
        }
    }

    /// V-12. Octets that come one at a time are looked at a bounded number of times.
    #[test]
    fn v_12_a_dribbled_stream_costs_linear_work() {
        let framed = |length| {
            let mut octets = hostile("Other", b"a,", length);
            octets.truncate(octets.len() - 2);
            octets.extend_from_slice(b"Content-Length: 0\r\n\r\n");
            of(|| {
                let (mut framer, mut held) = (Framer::new(), BytesMut::new());
                for (at, octet) in octets.iter().enumerate() {
                    held.extend_from_slice(&[*octet]);
                    match framer.next(&mut held, 128 * 1024) {
                        Framed::More => assert!(at + 1 < octets.len()),
                        Framed::Message(message) => assert_eq!(message.octets(), &octets),
                        other => panic!("{other:?}"),
                    }
                }
            })
        };
        let (short, long) = (framed(3 * 1024), framed(48 * 1024));
        assert!(long <= 17 * short, "{short} steps, then {long}");
    }
}
