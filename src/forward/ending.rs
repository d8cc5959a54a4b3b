//! Stage 7, ending: bridged calls that end here, and not by a word of their ends.
//!
//! 1. A 2xx that crosses a CANCEL is acknowledged and ended on its own leg; one that nobody acknowledges in time, on both.
//! 2. A call whose UE stays away, whose key ends without another, which is taken back, or which nobody speaks of for too
//!    long is ended on both legs. What is not answered yet is cancelled on one leg and refused on the other.
//! 3. Where neither end has a session timer we are who refreshes, with UPDATE and no offer. Whoever does not answer it,
//!    or knows of no call, has none.
//!
//! Takes:   [`Errand`]s of stage 5, responses to our own requests, the time.
//! Gives:   BYE, UPDATE and ACK of our own; CANCEL, and a final answer, for what was taken back while it rang.
//! Keeps:   a context for each request of our own, which nobody waits for.
//! Refuses: requests under way whose owner was taken back (403).
//! Sources: RFC 3261 sections 9.1, 13.3.1.4 and 15; RFC 3311 section 5.1; RFC 3326; RFC 4028 sections 7.4 and 10;
//!          `B2-04`, `B2-07`, `B2-10`; `dialog-association` sections 11 to 13.

use std::sync::Arc;

use super::b2bua::own::{self, Own};
use super::bridging::{Accepted, Crossing, Legs};
use super::context::Context;
use super::outgoing::{Printed, facing, other};
use super::precheck::LoopPart;
use super::proxy::{Event, Proxy};
use super::route;
use super::transaction::ClientInput;
use super::{Destination, Output};
use crate::association::bridge::Way;
use crate::association::trial::Twins;
use crate::association::{Bridge, Errand, Why};
use crate::instant::Now;
use crate::transport::{Flow, ListenerId, Side};
use crate::wire::{Message, Method, Span};

/// What a request of our own is for.
#[derive(Debug)]
pub(super) enum Purpose {
    /// To end a dialog: whatever is answered, it is over.
    Farewell,
    /// To ask whether there is still a call.
    Question(Arc<Bridge>),
    /// To bring a UE the key of an association, for the pushes that wait under that number.
    Key(u64),
}

impl Purpose {
    /// The same, of what is beneath a trial.
    pub(super) fn twin(&self, twins: &Twins) -> Self {
        match self {
            Self::Farewell => Self::Farewell,
            Self::Question(bridge) => Self::Question(twins.bridge(bridge)),
            Self::Key(number) => Self::Key(*number),
        }
    }
}

impl Proxy {
    /// A 2xx to an INVITE that was cancelled: its dialog is acknowledged and ended, and the caller hears 487 (`B2-10`).
    pub(super) fn end_late(
        &mut self,
        context: &mut Context,
        crossing: &mut Crossing,
        response: &Message,
        now: Now,
    ) {
        let (Legs::Fresh(seed, _), tag) = (&crossing.legs, response.to_tag()) else { return };
        let associations = Arc::clone(&self.shared.gate.associations);
        let to = context.clients.iter().find(|branch| !branch.cancel);
        let bridge = associations.bridge_of(seed, tag, Way::of_response(response));
        if let (Some(bridge), Some(to)) = (bridge, to.map(|branch| branch.to.clone())) {
            let side = other(crossing.side);
            self.send_own_ack(&bridge, side, seed.left, &to);
            if !crossing.late.iter().any(|known| **known == *tag) {
                crossing.late.push(tag.into());
                self.send_own_bye(&bridge, side, LATE, to, now);
            }
        }
        if context.request.is_some() {
            self.give_up(context, now);
        }
    }

    /// Nobody acknowledged a 2xx in 64*T1: its dialog is ended on both legs (RFC 3261 section 13.3.1.4).
    pub(super) fn end_unacknowledged(&mut self, context: &mut Context, now: Now) {
        let Some(crossing) = &mut context.crossing else { return };
        let (side, came) = (crossing.side, crossing.came());
        for Accepted { bridge, .. } in std::mem::take(&mut crossing.accepted) {
            bridge.forget_ack(side, came);
            let up = self.shared.gate.associations.is_up(&bridge);
            if !up || !bridge.is_under_way(side, came) {
                continue;
            }
            let number = bridge.acknowledge(side, came);
            let to = self.way_to(&bridge, other(side), now);
            if let (Some(number), Some(to)) = (number, to) {
                self.send_own_ack(&bridge, other(side), number, &to);
            }
            self.hang_up(&bridge, reason(Why::Silent), now);
        }
    }

    /// Runs the errands of stage 5, and ends what was taken back while it was under way.
    pub fn run_errands(&mut self, now: Now) {
        for (bridge, errand) in self.shared.gate.associations.errands() {
            match errand {
                Errand::End(why) => self.hang_up(&bridge, reason(why), now),
                Errand::Refresh => self.ask(&bridge, now),
            }
        }
        let taken_back = self.shared.gate.associations.taken_back();
        if self.taken_back != taken_back {
            self.taken_back = taken_back;
            self.end_unwanted(now);
        }
    }

    /// Whether requests were taken back that this worker has not looked for yet.
    pub(super) fn is_behind(&self) -> bool {
        self.taken_back != self.shared.gate.associations.taken_back()
    }

    /// Cancels what was taken back before it formed a dialog, and refuses it. Looks at every context.
    fn end_unwanted(&mut self, now: Now) {
        let associations = Arc::clone(&self.shared.gate.associations);
        let unwanted = |context: &Context| {
            let track = context.track.as_ref();
            context.crossing.is_some()
                && context.request.is_some()
                && track.is_some_and(|track| !associations.is_wanted(track))
        };
        let found = self.contexts.iter().filter(|(_, context)| unwanted(context));
        let ids: Vec<u64> = found.map(|(id, _)| *id).collect();
        for id in ids {
            let Some(mut context) = self.contexts.remove(&id) else { continue };
            self.cancel_context(id, &mut context, now);
            self.answer(&mut context, 403, now);
            self.put_back(id, context);
        }
    }

    /// Nobody wants an answer any more.
    pub(super) fn cancel_context(&mut self, id: u64, context: &mut Context, now: Now) {
        context.cancelled = true;
        context.remaining.clear();
        for place in 0..context.clients.len() {
            self.tell_client(id, context, place, ClientInput::Cancel, now);
        }
    }

    /// Asks both ends whether there is still a call. Whom nobody can ask says nothing; if there is nobody at all, it is
    /// over.
    fn ask(&mut self, bridge: &Arc<Bridge>, now: Now) {
        let mut asked = false;
        for side in [Side::Ue, Side::Core] {
            let to = self.way_to(bridge, side, now).filter(|_| bridge.takes_update(side));
            if let Some(to) = to {
                let purpose = Purpose::Question(Arc::clone(bridge));
                self.send_own(bridge, side, Method::Update, None, purpose, to, now);
                asked = true;
            }
        }
        if !asked {
            self.hang_up(bridge, reason(Why::Silent), now);
        }
    }

    /// What came of a request of our own.
    ///
    /// Source: RFC 4028 section 10: without an answer, and for 408 and 481, the session is over.
    pub(super) fn own_ended(&mut self, context: &Context, events: &[Event], now: Now) {
        let bridge = match &context.own {
            Some(Purpose::Question(bridge)) => bridge,
            Some(Purpose::Key(number)) => {
                if events.iter().any(|event| matches!(event, Event::Gone { .. })) {
                    self.keying_over(*number, now);
                }
                return;
            }
            Some(Purpose::Farewell) | None => return,
        };
        for event in events {
            match event {
                Event::Answer(..200) => {}
                Event::Answer(408 | 481) | Event::Gone { .. } => {
                    self.hang_up(bridge, reason(Why::Silent), now);
                }
                Event::Answer(_) => self.shared.gate.associations.note_answer(bridge, now),
            }
        }
    }

    /// Ends a dialog of which one leg is gone, on both of them.
    fn hang_up(&mut self, bridge: &Arc<Bridge>, reason: &'static str, now: Now) {
        if !self.shared.gate.associations.hang_up(bridge, now) {
            return;
        }
        for side in [Side::Ue, Side::Core] {
            if let Some(to) = self.way_to(bridge, side, now) {
                self.send_own_bye(bridge, side, reason, to, now);
            }
        }
    }

    /// Where a request of our own to the peer on `side` goes.
    pub(super) fn way_to(&self, bridge: &Bridge, side: Side, now: Now) -> Option<Destination> {
        let (origin, anchors) = self.shared.gate.associations.reach(bridge)?;
        route::own_way(&self.shared, bridge, &origin, &anchors, side, now)
    }

    fn send_own_ack(&mut self, bridge: &Bridge, side: Side, number: u32, to: &Destination) {
        let (settings, branch) = (self.settings(), self.branch(OWN));
        let ack = Own { bridge, side, method: Method::Ack, number, reason: None };
        if let Some(octets) = own::print(&ack, &settings, to, &branch) {
            self.outputs.push_back(Output { to: to.clone(), octets });
        }
    }

    fn send_own_bye(
        &mut self,
        bridge: &Bridge,
        side: Side,
        reason: &'static str,
        to: Destination,
        now: Now,
    ) {
        self.send_own(bridge, side, Method::Bye, Some(reason), Purpose::Farewell, to, now);
    }

    /// A request of our own: a context that nobody waits for.
    #[allow(clippy::too_many_arguments, reason = "each is a part of one request")]
    fn send_own(
        &mut self,
        bridge: &Bridge,
        side: Side,
        method: Method,
        reason: Option<&'static str>,
        purpose: Purpose,
        to: Destination,
        now: Now,
    ) {
        let (settings, branch) = (self.settings(), self.branch(OWN));
        let Some(number) = bridge.own_number(side) else { return };
        let request = Own { bridge, side, method, number, reason };
        let Some(octets) = own::print(&request, &settings, &to, &branch) else { return };
        let listener = facing(&settings, side, &to).map(|listener| listener.id);
        let flow = flow_to(&to, listener.unwrap_or(ListenerId(0)));
        let mut context = Box::new(Context::own(method, flow, other(side), purpose));
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let printed = Printed { octets, via: Span::default() };
        self.start_client(id, &mut context, printed, to, &branch, now);
        self.put_back(id, context);
    }
}

/// What stands for a destination where a flow is asked for.
fn flow_to(to: &Destination, listener: ListenerId) -> Flow {
    match to {
        Destination::Flow(flow) => *flow,
        Destination::Target(target) => {
            let (transport, remote) = (target.transport, target.address);
            Flow { transport, listener, remote, connection: None }
        }
    }
}

/// Why a call ends, as a value of Reason (RFC 3326).
fn reason(why: Why) -> &'static str {
    match why {
        Why::Silent => "SIP;cause=408;text=\"Request Timeout\"",
        Why::Away => "SIP;cause=480;text=\"Temporarily Unavailable\"",
        Why::KeyOver => "SIP;cause=401;text=\"Unauthorized\"",
        Why::Revoked => "SIP;cause=403;text=\"Forbidden\"",
    }
}

/// Why one ends that was cancelled and answered at once.
const LATE: &str = "SIP;cause=487;text=\"Request Terminated\"";
/// The end of branches of our own requests: they go to where nothing comes back from.
pub(super) const OWN: &LoopPart = b"00000000";
