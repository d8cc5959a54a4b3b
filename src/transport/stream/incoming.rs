//! Stage 1, the way into one connection: what was read, since when, and for how long it may go on so.
//!
//! Takes:   what was read and is not whole yet; the time.
//! Gives:   when patience ends, and what for; when an idle WebSocket is to be pinged.
//! Keeps:   what is not whole yet: at most its bound and one read more.
//! Refuses: nothing; who is late is told by [`Incoming::due`].
//! Sources: RFC 5626 section 5.4; `TR-08`, `KA-03`, `KA-05`.

use std::pin::Pin;
use std::task::Context;

use bytes::BytesMut;
use tokio::time::{Instant, Sleep};

use super::framing::Framing;
use super::{Closed, Patience};
use crate::transport::Transport;
use crate::transport::flows::Watch;
use crate::transport::ws::{Opcode, frame};

/// What was read, and since when.
pub(super) struct Incoming {
    pub(super) framing: Framing,
    /// What is not whole yet.
    pub(super) held: BytesMut,
    /// Whether more is to be read.
    pub(super) open: bool,
    /// Whether there may be something whole in what was read.
    pub(super) ready: bool,
    /// Whether any octet came.
    touched: bool,
    accepted: Instant,
    /// When something was read last.
    pub(super) now: Instant,
    /// When the message under way showed its first octet.
    begun: Option<Instant>,
    /// When the last message was whole.
    last: Instant,
}

impl Incoming {
    pub(super) fn new(transport: Transport, now: Instant) -> Self {
        Self {
            framing: Framing::new(transport),
            held: BytesMut::new(),
            open: true,
            ready: false,
            touched: false,
            accepted: now,
            now,
            begun: None,
            last: now,
        }
    }

    /// Puts back what was held and is not handled; nothing, if that is nothing.
    pub(super) fn hold(&mut self, held: BytesMut) {
        if !held.is_empty() {
            self.held = held;
        }
    }

    /// Nothing more is read, nor looked at.
    pub(super) fn stop(&mut self) {
        (self.open, self.ready) = (false, false);
    }

    /// Notes where the message under way stands, after all whole ones were taken.
    pub(super) fn settle(&mut self, held: &[u8]) {
        (self.ready, self.touched) = (false, true);
        if self.framing.is_under_way(held) {
            self.begun.get_or_insert(self.now);
        } else {
            self.begun = None;
        }
    }

    /// Notes that a message was whole.
    pub(super) fn begin_anew(&mut self) {
        (self.touched, self.begun, self.last) = (true, None, self.now);
    }

    /// When its patience ends, and what for.
    pub(super) fn due(
        &self,
        patience: &Patience,
        authenticated: bool,
    ) -> Option<(Instant, Closed)> {
        let after = |since: Instant, length| since.checked_add(length);
        let idle = after(self.last, patience.idle).filter(|_| !authenticated);
        let first = after(self.accepted, patience.first_octet);
        let first = first.filter(|_| !self.touched && !authenticated);
        let message = self.begun.and_then(|begun| {
            let headed = self.framing.has_head();
            after(begun, if headed { patience.message } else { patience.head })
        });
        let idle = idle.filter(|_| self.begun.is_none());
        [(idle, Closed::Idle), (first, Closed::Slow), (message, Closed::Slow)]
            .into_iter()
            .filter_map(|(at, why)| Some((at?, why)))
            .min_by_key(|(at, _)| *at)
    }

    /// When a peer that is held to its pings has been silent for too long; any octet is as good as a ping.
    pub(super) fn silent_at(&self, watch: Watch) -> Option<Instant> {
        let at = self.now.max(watch.since).checked_add(watch.silence)?;
        (at <= watch.until).then_some(at)
    }

    /// When the peer is to be asked whether it is there: a WebSocket that showed nothing since.
    pub(super) fn ping_at(&self, patience: &Patience) -> Option<Instant> {
        let Framing::Ws(ws) = &self.framing else { return None };
        ws.pinged.unwrap_or(self.now).max(self.now).checked_add(patience.ping)
    }

    /// Asks it.
    pub(super) fn ping(&mut self, now: Instant, out: &mut BytesMut) {
        if let Framing::Ws(ws) = &mut self.framing {
            ws.pinged = Some(now);
            frame::put(out, Opcode::Ping, b"", None);
        }
    }
}

/// A timer that may go off early, but never late: it is set anew only when it would be late.
pub(super) struct Alarm<'a> {
    pub(super) sleep: Pin<&'a mut Sleep>,
    pub(super) armed: Option<Instant>,
}

impl Alarm<'_> {
    /// Whether it goes off now. It will at `at`, or before.
    pub(super) fn rings(&mut self, at: Instant, context: &mut Context<'_>) -> bool {
        if self.armed.is_none_or(|armed| at < armed) {
            self.armed = Some(at);
            self.sleep.as_mut().reset(at);
        }
        let rings = self.sleep.as_mut().poll(context).is_ready();
        if rings {
            self.armed = None;
        }
        rings
    }
}
