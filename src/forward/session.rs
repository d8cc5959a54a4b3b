//! Stage 7, session timers: so that calls whose ends are gone leave the table.
//!
//! 1. A request that sets up or refreshes a session leaves with an interval: its own, brought within bounds, or ours.
//! 2. Where the callee knows nothing of timers and the caller does, the answer tells the caller to refresh.
//! 3. What the answer says is how long the dialog is kept without a refresh. A proxy refreshes nothing, ends nothing.
//!
//! Takes:   INVITE and UPDATE on their way, and the 2xx to them.
//! Gives:   changes to Session-Expires, Min-SE and Require; the session's length for stage 5.
//! Keeps:   [`Asked`], with what is tracked of the request.
//! Refuses: an interval under 90 seconds, of whoever can ask for a longer one: 422.
//! Sources: RFC 4028 sections 5, 8.1 and 8.2.

use std::time::Duration;

use crate::refusal::Refusal;
use crate::wire::{Edits, Message, Method, Name, SessionExpires};

/// The shortest interval, in seconds: what the document has for the default.
pub const LEAST: u32 = 90;
/// What is asked for where nobody asks for anything.
pub const USUAL: u32 = 1800;
/// What a longer interval is brought down to.
const MOST: u32 = 7200;

/// What a request asked for as it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    seconds: u32,
    /// Whether its sender knows session timers.
    caller_knows: bool,
}

/// Brings the interval of a request within bounds; `None` for requests that have none.
///
/// # Errors
///
/// [`Refusal::SessionTooShort`].
pub fn ask(message: &Message, edits: &mut Edits) -> Result<Option<Asked>, Refusal> {
    if !matches!(message.method(), Some(Method::Invite | Method::Update)) {
        return Ok(None);
    }
    let caller_knows = message.has_option(Name::Supported, "timer");
    let min_row = message.rows(Name::MinSe).next();
    let told = message.first(Name::MinSe).and_then(SessionExpires::parse);
    let mut least = told.map_or(LEAST, |told| told.seconds);
    let row = message.rows(Name::SessionExpires).next();
    let asked = message.session_expires();
    let (Some(row), Some(asked)) = (row, asked) else {
        if row.is_some() {
            return Ok(None);
        }
        let seconds = USUAL.max(least);
        edits.insert(message.head_end(), |text| {
            text.field("Session-Expires", |value| {
                value.put_number(u64::from(seconds));
            });
        });
        return Ok(Some(Asked { seconds, caller_knows }));
    };
    if asked.seconds < LEAST && caller_knows {
        return Err(Refusal::SessionTooShort);
    }
    // Who knows timers says himself what is least.
    if !caller_knows && least < LEAST || asked.seconds < LEAST && told.is_none() {
        least = LEAST;
        match min_row {
            Some(row) => edits.replace(row.value(), |text| {
                text.put_number(u64::from(least));
            }),
            None => edits.insert(message.head_end(), |text| {
                text.field("Min-SE", |value| {
                    value.put_number(u64::from(least));
                });
            }),
        }
    }
    let seconds = asked.seconds.min(MOST).max(least);
    if seconds != asked.seconds {
        let value = row.value().of(message.octets());
        let end = memchr::memchr(b';', value).unwrap_or(value.len());
        let interval = message.span_of(value.get(..end).unwrap_or_default());
        edits.replace(interval, |text| {
            text.put_number(u64::from(seconds));
        });
    }
    Ok(Some(Asked { seconds, caller_knows }))
}

/// How long the session is that a 2xx confirms, once it has left; `None` without a timer.
pub fn agreed(response: &Message, asked: Option<Asked>, edits: &mut Edits) -> Option<Duration> {
    let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
    if let Some(said) = response.session_expires() {
        return Some(seconds(said.seconds));
    }
    let asked = asked.filter(|asked| asked.caller_knows && !response.has(Name::SessionExpires))?;
    let requires = response.has_option(Name::Require, "timer");
    edits.insert(response.head_end(), |text| {
        text.field("Session-Expires", |value| {
            value.put_number(u64::from(asked.seconds)).put(";refresher=uac");
        });
        if !requires {
            text.field("Require", |value| {
                value.put("timer");
            });
        }
    });
    Some(seconds(asked.seconds))
}

/// Whether a response is the 2xx of a request that sets up or refreshes a session.
pub fn refreshed(response: &Message) -> bool {
    matches!(response.status(), Some(200..=299))
        && matches!(response.cseq_method(), Method::Invite | Method::Update)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::lab::octets_of;

    fn message(start: &str, more: &str) -> Message {
        let text = format!("{start}\nCSeq: 1 INVITE\n{more}Content-Length: 0\n");
        Message::from_datagram(octets_of(&text)).expect("a message")
    }

    /// What leaves, and what is remembered: seconds and whether the caller knows timers.
    fn asked(more: &str) -> (String, Result<Option<(u32, bool)>, Refusal>) {
        let (message, mut edits) = (message("INVITE sip:b@c SIP/2.0", more), Edits::new());
        let asked = ask(&message, &mut edits);
        let text = String::from_utf8(edits.apply(&message).expect("printable")).expect("text");
        (text, asked.map(|asked| asked.map(|asked| (asked.seconds, asked.caller_knows))))
    }

    /// RFC 4028 section 8.1.
    #[test]
    fn an_interval_leaves_within_bounds_and_its_refresher_is_not_touched() {
        let knows = "Supported: timer\n";
        for (what, more, told, leaves) in [
            ("none", String::new(), Ok(Some((1800, false))), "Session-Expires: 1800\r\n"),
            (
                "none, but a least",
                "Min-SE: 4000\n".into(),
                Ok(Some((4000, false))),
                "Session-Expires: 4000\r\n",
            ),
            (
                "usual",
                format!("{knows}Session-Expires: 900;refresher=uas\n"),
                Ok(Some((900, true))),
                "Session-Expires: 900;refresher=uas\r\n",
            ),
            (
                "too long",
                format!("{knows}x: 86400;refresher=uas\n"),
                Ok(Some((7200, true))),
                "x: 7200;refresher=uas\r\n",
            ),
            (
                "too long, and least longer",
                "Session-Expires: 86400\nMin-SE: 10000\n".into(),
                Ok(Some((10_000, false))),
                "Session-Expires: 10000\r\n",
            ),
            (
                "under its own least",
                format!("{knows}Session-Expires: 100\nMin-SE: 600\n"),
                Ok(Some((600, true))),
                "Session-Expires: 600\r\n",
            ),
            (
                "too short",
                format!("{knows}Session-Expires: 89\n"),
                Err(Refusal::SessionTooShort),
                "",
            ),
            (
                "too short, and cannot be told",
                "Session-Expires: 60\n".into(),
                Ok(Some((90, false))),
                "Session-Expires: 90\r\n",
            ),
            ("no number", "Session-Expires: soon\n".into(), Ok(None), "Session-Expires: soon\r\n"),
        ] {
            let (text, found) = asked(&more);
            assert_eq!(found, told, "{what}");
            assert!(text.contains(leaves), "{what}: {text}");
        }
        let (text, _) = asked("Session-Expires: 60\n");
        assert!(text.contains("\r\nMin-SE: 90\r\n"), "{text}");
        let (text, _) = asked("Session-Expires: 60\nMin-SE: 50\n");
        assert!(text.contains("\r\nMin-SE: 90\r\n") && !text.contains("50"), "{text}");
    }

    /// RFC 4028 section 8.2.
    #[test]
    fn a_caller_who_knows_timers_is_told_to_refresh_where_the_callee_does_not() {
        let one = |caller_knows| Some(Asked { seconds: 1800, caller_knows });
        for (what, more, asked, length, added) in [
            (
                "the callee says so",
                "Session-Expires: 600;refresher=uas\n",
                one(true),
                Some(600),
                false,
            ),
            ("the caller alone", "", one(true), Some(1800), true),
            ("the caller alone, other needs", "Require: 100rel\n", one(true), Some(1800), true),
            ("neither", "", one(false), None, false),
            ("nobody was asked", "", None, None, false),
            ("no number", "Session-Expires: soon\n", one(true), None, false),
        ] {
            let (response, mut edits) = (message("SIP/2.0 200 OK", more), Edits::new());
            let found = agreed(&response, asked, &mut edits);
            assert_eq!(found, length.map(Duration::from_secs), "{what}");
            let text = String::from_utf8(edits.apply(&response).expect("printable")).expect("text");
            let said = "\r\nSession-Expires: 1800;refresher=uac\r\nRequire: timer\r\n";
            assert_eq!(text.contains(said), added, "{what}: {text}");
            assert!(refreshed(&response));
        }
    }
}
