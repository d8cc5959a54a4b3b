//! Stage 7, responses: what comes back goes back, and what does not come is made up for.
//!
//! Takes:   responses, and word of destinations that cannot be reached.
//! Gives:   the response for the one who asked; the next destination where one failed.
//! Keeps:   nothing beside the context.
//! Refuses: responses without a transaction, from elsewhere than the request went (rule 16), beyond the bound of
//!          early dialogs (rule 27); challenges of UEs for realms of ours (rule 32).
//! Sources: RFC 3261 sections 16.7, 17.1.3 and 21.5.4; RFC 3263 section 4.3; RFC 4320 section 4.2; RFC 6026 section 7.3;
//!          `PX-12`, `PX-13`, `DNS-03`, `RG-06`.

use std::time::Duration;

use bytes::Bytes;

use super::bindings::{self, Told};
use super::context::{Branch, Context, Register, fits};
use super::outgoing::{self};
use super::reflected::{self, Found};
use super::returning::Way;
use super::transaction::{ClientInput, ClientKey, ServerInput};
use super::{Destination, Output, Settings, asserted, precheck, returning, session};
use crate::association::{Responder, Track};
use crate::instant::Now;
use crate::keys::push::UNDECIPHERABLE;
use crate::refusal::Refusal;
use crate::transport::{Flow, ListenerId, Side};
use crate::wire::{Edits, Message, Name, device};

use super::proxy::{Event, Hold, Place, Proxy};

/// What became of a response, of whose challenges rule 32 may have something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passed {
    /// All of it went on.
    Whole,
    /// The same, though it holds challenges that would have been taken out.
    Observed,
    /// It went on without some of its challenges.
    Cut,
    /// There was nothing else in it: 403 went back instead.
    Replaced,
}

impl Proxy {
    /// Takes a response.
    ///
    /// # Errors
    ///
    /// [`Refusal::ResponseAstray`] and [`Refusal::TooManyEarlyDialogs`]: it was dropped.
    pub fn respond(
        &mut self,
        response: &Message,
        from: Responder,
        now: Now,
    ) -> Result<Passed, Refusal> {
        let key = self.keys.client_of(response).ok_or(Refusal::ResponseAstray)?;
        let id = match self.clients.get(&key).copied().ok_or(Refusal::ResponseAstray)? {
            Place::Live(id) => id,
            Place::Lingering(number) => return self.accept_again(number, response, from, now),
        };
        let mut context = self.contexts.remove(&id).ok_or(Refusal::ResponseAstray)?;
        let taken = self.take_response(id, &mut context, key, response, from, now);
        self.put_back(id, context);
        taken
    }

    /// A further 2xx to an INVITE that was accepted, the same or that of another fork, goes back too.
    fn accept_again(
        &mut self,
        number: u64,
        response: &Message,
        from: Responder,
        now: Now,
    ) -> Result<Passed, Refusal> {
        let (accepted, reply_to) =
            self.lingering.accepted_at(number).ok_or(Refusal::ResponseAstray)?;
        let accepts = matches!(response.status(), Some(200..=299));
        if !accepts || !fits(&accepted.to, &from) || !goes_on(response) {
            return Err(Refusal::ResponseAstray);
        }
        if let Some(track) = &accepted.track {
            self.shared.gate.associations.respond(track, response, now)?;
        }
        let (settings, gate) = (self.settings(), &self.shared.gate);
        let ue = if accepted.side == Side::Ue { reply_to } else { from.flow }.listener;
        let mut edits =
            asserted::edit_response(response, accepted.side, gate, &settings.headers, ue);
        let (track, keeps) = (accepted.track, accepted.keeps);
        self.note_session(track.as_ref(), response, &mut edits, now);
        self.bind_route(track.as_ref(), &mut None, response, &mut edits, now);
        let way = Way { proof: None, on: reply_to.transport, keeps };
        if let Some(octets) = returning::print(response, edits, way) {
            self.outputs.push_back(Output { to: Destination::Flow(reply_to), octets });
        }
        Ok(Passed::Whole)
    }

    pub(super) fn take_response(
        &mut self,
        id: u64,
        context: &mut Context,
        key: ClientKey,
        response: &Message,
        from: Responder,
        now: Now,
    ) -> Result<Passed, Refusal> {
        let place = context.clients.iter().position(|branch| branch.key == key);
        let place = place.ok_or(Refusal::ResponseAstray)?;
        let branch = context.clients.get(place).ok_or(Refusal::ResponseAstray)?;
        if !fits(&branch.to, &from) {
            return Err(Refusal::ResponseAstray);
        }
        let cancel = branch.cancel;
        // One without a Via below ours would go nowhere, and end a transaction that still has hope. Where we ask for
        // ourselves there is none below (RFC 3261 section 8.1.3.3).
        if !cancel && goes_on(response) == (context.crossing.is_some() || context.own.is_some()) {
            return Err(Refusal::ResponseAstray);
        }
        if context.doubtful {
            self.shared.bindings.heard(&from.flow, now);
        }
        if let (Some(503), Destination::Target(target)) = (response.status(), &branch.to) {
            let pause = response.retry_after().unwrap_or(0);
            self.shared.resting.rest(target, pause, now.mono);
        }
        let events = self.tell_client(id, context, place, ClientInput::Response(response), now);
        let mut passed = Passed::Whole;
        if cancel {
            return Ok(passed);
        }
        if context.own.is_some() {
            self.key_delivered(context, response, &events, now);
            self.own_ended(context, &events, now);
            return Ok(passed);
        }
        let unwrapped = self.take_receipt(context, response, now);
        let response = unwrapped.as_ref().unwrap_or(response);
        if unwrapped.is_some() && response.status() == Some(UNDECIPHERABLE) {
            self.give_up_push(context, now);
            return Ok(passed);
        }
        for event in events {
            match event {
                Event::Answer(status) => {
                    let ue = if context.side == Side::Ue { context.reply_to } else { from.flow };
                    passed = self.answered(id, context, response, status, ue.listener, now)?;
                }
                Event::Gone { .. } => {}
            }
        }
        Ok(passed)
    }

    /// A response that the context has to act on.
    pub(super) fn answered(
        &mut self,
        id: u64,
        context: &mut Context,
        response: &Message,
        status: u16,
        ue: ListenerId,
        now: Now,
    ) -> Result<Passed, Refusal> {
        if status == 100 {
            return Ok(Passed::Whole);
        }
        // RFC 5626 section 7: another flow of the same instance takes its place.
        if status == 430 && context.side == Side::Core && self.next_destination(id, context, now) {
            return Ok(Passed::Whole);
        }
        // RFC 5626 section 11.5: what it says is said between proxies, and an endpoint never receives it.
        if status == 430 && context.side == Side::Ue {
            self.end_with(context, 480, now);
            return Ok(Passed::Whole);
        }
        if status == 503 {
            context.unavailable = true;
            if self.next_destination(id, context, now) {
                return Ok(Passed::Whole);
            }
            self.give_up(context, now);
            return Ok(Passed::Whole);
        }
        if let Some(mut crossing) = context.crossing.take() {
            let answered = self.answered_across(context, &mut crossing, response, ue, now);
            context.crossing = Some(crossing);
            return answered.map(|()| Passed::Whole);
        }
        if let Some(track) = &context.track {
            self.shared.gate.associations.respond(track, response, now)?;
        }
        if matches!(status, 200..=299) {
            self.note_registration(context, response, now);
            // Whoever called may have lost his connection while it rang.
            if context.side == Side::Ue && !self.shared.is_open(&context.flow) {
                self.shared.gate.associations.lose(&context.flow, now);
            }
        }
        let settings = self.settings();
        let (side, gate) = (context.side, &self.shared.gate);
        let mut edits = asserted::edit_response(response, side, gate, &settings.headers, ue);
        self.note_session(context.track.as_ref(), response, &mut edits, now);
        self.bind_route(context.track.as_ref(), &mut context.told, response, &mut edits, now);
        let passed = self.filter_challenges(side, response, &mut edits);
        if passed == Passed::Replaced {
            self.answer(context, 403, now);
            return Ok(passed);
        }
        let proof = context.register.as_ref().and_then(|register| register.proof.as_deref());
        let way = Way { proof, on: context.reply_to.transport, keeps: context.keeps };
        if let Some(octets) = returning::print(response, edits, way) {
            self.send_back(context, status, octets, now);
        }
        Ok(passed)
    }

    /// A session has an end, and the caller may have to be told of it.
    fn note_session(&self, track: Option<&Track>, response: &Message, edits: &mut Edits, now: Now) {
        if let Some(track) = track.filter(|_| session::refreshed(response)) {
            let length = session::agreed(response, track.session, edits);
            self.shared.gate.associations.note_session(track, response, length, now);
        }
    }

    /// Rule 32, for what a UE answers to the core.
    fn filter_challenges(&self, to: Side, response: &Message, edits: &mut Edits) -> Passed {
        if to != Side::Core {
            return Passed::Whole;
        }
        let (settings, gate) = (self.settings(), &self.shared.gate);
        let is_own =
            |realm: &[u8]| gate.authentication.is_own_realm(realm) || settings.serves(realm);
        let mut without = Edits::new();
        let observed = gate.associations.only_observed(Refusal::ChallengeReflected);
        let edits = if observed { &mut without } else { edits };
        match reflected::take_out(response, settings.challenge_filter, is_own, edits) {
            Found::Nothing => Passed::Whole,
            _ if observed => Passed::Observed,
            Found::Some => Passed::Cut,
            Found::Only => Passed::Replaced,
        }
    }

    pub(super) fn note_registration(&mut self, context: &Context, response: &Message, now: Now) {
        let (Some(register), Some((request, _))) = (&context.register, &context.request) else {
            return;
        };
        let Register { binding, caller, flow, asked, aor, .. } = &**register;
        let (bindings, principal) = (&self.shared.bindings, &caller.principal);
        let granted = if asked.ends { Duration::ZERO } else { device::granted(response, request) };
        let mut routes = response.values(Name::ServiceRoute).map(Box::from).peekable();
        let service_route = routes.peek().is_some().then(|| routes.collect());
        let timer = returning::flow_timer(response, flow.transport).map(Duration::from_secs);
        let open = self.shared.is_open(flow);
        let told = Told { caller, granted, service_route, pings: timer, open };
        let mut left = bindings.confirm(*binding, told, now);
        for device in &asked.ended {
            left.extend(bindings.end(principal, aor, *device, now));
        }
        if asked.ends_all {
            left.extend(bindings.end_all(principal, aor, now));
        }
        let flows = self.shared.gate.authentication.flows();
        if !granted.is_zero() && open {
            flows.note_registered(flow, caller, granted, now);
        }
        left.push(*flow);
        for flow in left {
            if !bindings.is_registered(&flow, principal, now) {
                flows.note_deregistered(&flow, caller);
            }
            if flow.transport.is_reliable() {
                let silence = bindings.pings(&flow, now);
                let silence = silence.map(|(pings, until)| (bindings::grace(pings), until));
                self.holds.push_back(Hold { flow, silence });
            }
        }
    }

    /// Tries the next destination; `false` if there is none.
    pub(super) fn next_destination(&mut self, id: u64, context: &mut Context, now: Now) -> bool {
        if context.remaining.is_empty() || context.cancelled {
            return false;
        }
        let ready = |to: &Destination| !self.shared.resting.rests(to, now.mono);
        let to = context.remaining.remove(context.remaining.iter().position(ready).unwrap_or(0));
        let (Some(printed), Some(request)) = (&context.printed, &context.request) else {
            return false;
        };
        let part = match (&context.crossing, Message::from_datagram(printed.octets.clone())) {
            (Some(_), Ok(left)) => {
                precheck::loop_part(&left, outgoing::other(context.side), &self.loop_key)
            }
            _ => precheck::loop_part(&request.0, context.side, &self.loop_key),
        };
        let branch = self.branch(&part);
        let settings = self.settings();
        let side = outgoing::other(context.side);
        let Ok(printed) = outgoing::reprint(printed, &settings, side, &to, &branch) else {
            return false;
        };
        if let Some(track) = &context.track {
            match &to {
                Destination::Flow(flow) => self.shared.gate.associations.reroute(track, *flow),
                Destination::Target(server) => {
                    self.shared.gate.associations.note_server(track, server);
                }
            }
        }
        self.start_client(id, context, printed, to, &branch, now);
        true
    }

    /// No destination is left: 500 if one was there but not ready, else as 408.
    pub(super) fn give_up(&mut self, context: &mut Context, now: Now) {
        let status = if context.cancelled {
            487
        } else if context.side == Side::Core && context.unreachable {
            430
        } else if context.unavailable {
            500
        } else {
            408
        };
        self.end_with(context, status, now);
    }

    /// Nothing comes of the request: a final answer of our own says so.
    fn end_with(&mut self, context: &mut Context, status: u16, now: Now) {
        if let Some(crossing) = &context.crossing {
            crossing.refused();
        }
        if let Some(track) = &context.track {
            self.shared.gate.associations.fail(track, now);
        }
        self.answer(context, status, now);
    }

    /// Answers with a response of our own.
    pub(super) fn answer(&mut self, context: &mut Context, status: u16, now: Now) {
        let Some(request) = &context.request else { return };
        let (message, arrival) = request;
        let octets = if status == 100 {
            crate::wire::Reply::to(message, 100)
                .seen_from(arrival.flow.source_to_tell())
                .octets()
                .map(Bytes::from)
        } else {
            self.shared.gate.reply(message, arrival, status, |reply| reply)
        };
        if let Some(octets) = octets {
            self.send_back(context, status, octets, now);
        }
    }

    pub(super) fn send_back(
        &mut self,
        context: &mut Context,
        status: u16,
        octets: Bytes,
        now: Now,
    ) {
        self.tell_server(context, ServerInput::Respond { status, octets }, now);
        if status >= 200 && context.request.take().is_some() {
            context.printed = None;
            self.count_down(&context.flow);
        }
    }

    pub(super) fn count_down(&mut self, flow: &Flow) {
        if let Some(held) = self.unanswered.get_mut(flow) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.unanswered.remove(flow);
            }
        }
    }

    /// The destination cannot be reached: whatever waits for it goes elsewhere, or is given up.
    pub fn transport_failed(&mut self, failed: &Destination, now: Now) {
        if let Destination::Flow(flow) = failed
            && flow.connection.is_none()
        {
            self.shared.bindings.lost(flow);
        }
        let settings = self.settings();
        let fails = |branch: &Branch| leads_to(&branch.to, failed, &settings);
        let way = self.way(failed);
        let ids: Vec<u64> =
            self.on_the_way.range((way, 0)..=(way, u64::MAX)).map(|(_, id)| *id).collect();
        for id in ids {
            #[cfg(test)]
            tests::LOOKED.set(tests::LOOKED.get() + 1);
            let Some(mut context) = self.contexts.remove(&id) else { continue };
            let place = context.clients.iter().position(fails);
            if let Some(place) = place {
                let cancel = context.clients.get(place).is_some_and(|branch| branch.cancel);
                let events =
                    self.tell_client(id, &mut context, place, ClientInput::TransportFailed, now);
                if !cancel {
                    self.lost(id, &mut context, &events, now);
                }
            }
            self.put_back(id, context);
        }
    }

    /// A client transaction ended without an answer.
    pub(super) fn lost(&mut self, id: u64, context: &mut Context, events: &[Event], now: Now) {
        if context.own.is_some() {
            return self.own_ended(context, events, now);
        }
        for event in events {
            let Event::Gone { unavailable } = event else { continue };
            // A flow in doubt that does not answer is gone.
            context.unreachable = *unavailable || context.doubtful;
            context.unavailable |= *unavailable;
            if !self.next_destination(id, context, now) {
                self.give_up(context, now);
            }
        }
    }
}

/// Whether a response has a Via below ours.
fn goes_on(response: &Message) -> bool {
    response.values(Name::Via).nth(1).is_some()
}

/// Whether what is sent to `to` goes to the destination that failed: a server on UDP is known by its address, and by
/// the side of the socket that it was sent from.
fn leads_to(to: &Destination, failed: &Destination, settings: &Settings) -> bool {
    let on_core = |flow: &Flow| {
        settings.listener(flow.listener).is_some_and(|listener| listener.side == Side::Core)
    };
    match (to, failed) {
        (Destination::Target(target), Destination::Flow(flow)) => {
            flow.connection.is_none()
                && on_core(flow)
                && target.transport == flow.transport
                && target.address == flow.remote
        }
        (to, failed) => to == failed,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::admission::Rate;
    use crate::testing::{Lab, LabSettings, Peer, Sent};

    std::thread_local! {
        /// Contexts that were looked at because something cannot be reached.
        pub(super) static LOOKED: Cell<usize> = const { Cell::new(0) };
    }

    /// Sends so many MESSAGEs to the core, and gives what went there.
    fn messages(lab: &mut Lab, many: u32) -> Vec<Sent> {
        let mut key = lab.ue1();
        let mut sent = Vec::new();
        for number in 0..many {
            let credentials = key.credentials("MESSAGE", "sip:bob@example.net", b"");
            let text = format!(
                "MESSAGE sip:bob@example.net SIP/2.0
Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK{number};rport
Max-Forwards: 70
From: <sip:alice@example.net>;tag=a
To: <sip:bob@example.net>
Call-ID: {number}
CSeq: 1 MESSAGE
Proxy-Authorization: {credentials}
Content-Length: 0
"
            );
            let peer = Peer::udp(&format!("192.0.2.10:{}", 1024 + number % 10));
            sent.extend(lab.receive(&peer, &text));
        }
        sent
    }

    #[test]
    fn a_flow_that_ends_costs_what_waits_for_it_and_not_what_waits() {
        let mut settings = LabSettings::default();
        let rate = Rate::per_second(10_000);
        (settings.sip.demands.rate, settings.sip.demands.dialogs) = (rate, None);
        let mut lab = Lab::new(settings);
        let sent = messages(&mut lab, 2000);
        assert_eq!((sent.len(), lab.journey().proxy().on_the_way.len()), (2000, 2000));
        LOOKED.set(0);
        lab.close(&Peer::tcp("192.0.2.99:4000", 7));
        assert_eq!(LOOKED.get(), 0, "nothing waits for that flow");
        for one in &sent[..1500] {
            let text = one.text().replace("MESSAGE sip:bob@example.net SIP/2.0", "SIP/2.0 200 OK");
            lab.receive_octets(&Peer::core(), text.into_bytes());
        }
        assert_eq!(lab.journey().proxy().on_the_way.len(), 500, "what is answered waits no more");
        let now = lab.now;
        lab.journey().unreachable(&Destination::Flow(Peer::core().flow()), now);
        assert_eq!(LOOKED.get(), 500);
        assert_eq!(lab.journey().proxy().on_the_way.len(), 0);
    }
}
