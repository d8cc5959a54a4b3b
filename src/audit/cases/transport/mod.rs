//! The audit, transport: what carries SIP, and what strangers can do to it before a message is read.
//!
//! Takes:   nothing.
//! Gives:   the cases of each carrier.
//! Keeps:   nothing.
//! Refuses: nothing.
//! Sources: none; each case names its own.

mod dtls;
mod streams;
mod tls;
mod websocket;

use super::super::case::{Case, Group, Over, Run};

/// The tables.
pub(super) const CASES: [&[Case]; 4] = [streams::CASES, tls::CASES, dtls::CASES, websocket::CASES];

/// A row: what all of them share is said once.
const fn row(
    name: &'static str,
    title: &'static str,
    threats: &'static [&'static str],
    clause: &'static str,
    why: &'static str,
    over: Over,
    run: Run,
) -> Case {
    Case {
        name,
        group: Group::Transport,
        title,
        threats,
        clause,
        why,
        remedy: match over {
            Over::Tls => {
                "Offer TLS 1.2 and 1.3 alone, and leave renegotiation off, as current libraries do unless they are told otherwise."
            }
            Over::Dtls => {
                "Ask for a cookie before anything is kept or sent, and drop without a word what does not open under the keys of a session."
            }
            Over::WebSocket => {
                "Hold the opening handshake to the subprotocol sip and to a list of origins, and frames to RFC 6455 and to a bound."
            }
            _ => {
                "Read streams by Content-Length alone, whatever the segments; give an opening a bounded time, from its first octet on."
            }
        },
        over,
        accounts: 0,
        disruptive: false,
        run,
    }
}
