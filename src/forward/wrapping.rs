//! Stage 7, wrapping: a push to a UE without a secure flow goes under an association with the UE.
//!
//! 1. There is an association that the UE has taken: the body is wrapped, and the message goes.
//! 2. There is none: the message waits, with its transaction. The first to wait for a UE asks for push info.
//! 3. Push info came: the GPI goes to the UE, in a MESSAGE of our own.
//! 4. The UE took it: all that waits is wrapped, and goes. Its card was out of step: push info is asked for once more.
//! 5. The UE's answer to a wrapped message says by a receipt that it holds the key; the receipt goes no further.
//! 6. Whatever else comes of it, or nothing within [`KEYING_LIMIT`]: 480 to the server, as without an association.
//!
//! Takes:   permitted pushes that no flow is safe enough for; answers of the source of push info, and of UEs.
//! Gives:   messages with their bodies wrapped; MESSAGEs of our own; lookups.
//! Keeps:   for each UE that one is made with, which pushes wait, at most [`WAITING_MAX`]; those are transactions, and counted.
//! Refuses: UEs whose card nobody proved: who says that he is a subscriber could have it fetched what he cannot open.
//! Sources: SEC_CF 1.1 SEC-004, CONF-002, CONF-003, INTE-002; TS 24.109 clause 4A; RFC 3428 sections 4 and 7; RFC 3261 section
//!          21.4.27.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use rand_core::Rng as _;
use smallvec::SmallVec;

use super::context::Context;
use super::ending::{OWN, Purpose};
use super::outgoing::{HOPS, Printed, other, put_via};
use super::proxy::{Event, OwnBranch, Proxy};
use super::{Destination, Settings};
use crate::authentication::aka_realm::Resync;
use crate::gate::Lookup;
use crate::identity::{Impi, Principal, Proof, Ptid};
use crate::instant::Now;
use crate::keys::push::naf::{PushBounds, PushedKeys};
use crate::keys::push::{
    ANSWER_FIELD, GPI_TYPE, GPL_TYPE, PushAnswer, PushRequest, UNDECIPHERABLE, answer_part,
};
use crate::keys::vector::Auts;
use crate::keys::{NafId, Rand};
use crate::transport::Side;
use crate::wheel::TimerKey;
use crate::wire::entity::{entity, put_body};
use crate::wire::octets::hex_digits;
use crate::wire::{Edits, Message, Method, Name, Span, Text};

/// How long a push waits for an association.
const KEYING_LIMIT: Duration = Duration::from_secs(10);
/// Most pushes that wait for one UE.
const WAITING_MAX: usize = 32;

/// What is pushed to UEs without a secure flow is wrapped with.
#[derive(Clone, Debug)]
pub struct Pushes {
    /// The associations.
    pub keys: Arc<PushedKeys>,
    /// For whom and for what their keys are: this edge, and the layer.
    pub naf: NafId,
    /// How long one is asked for.
    pub lifetime: Duration,
}

impl Pushes {
    /// The same without associations: what is asked of it changes nothing.
    pub(super) fn twin(&self) -> Self {
        let keys = PushedKeys::new(self.keys.profile(), PushBounds { ues: 1 });
        Self { keys: Arc::new(keys), naf: self.naf.clone(), lifetime: self.lifetime }
    }
}

/// What a context has to do with an association.
#[derive(Debug)]
pub(super) enum Pushing {
    /// It waits for one.
    Waits(Impi, Whole),
    /// It went under one, by that number.
    Wrapped(Impi, Rand, u32),
}

/// A message as it would go if it did not have to be wrapped.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) printed: Printed,
    pub(super) to: Destination,
    pub(super) branch: OwnBranch,
}

/// Associations that are being made, and what is to be asked for them.
#[derive(Debug, Default)]
pub(super) struct Keyings {
    all: HashMap<u64, Keying>,
    of: HashMap<Impi, u64>,
    lookups: VecDeque<Lookup>,
}

/// An association that is being made.
#[derive(Debug)]
struct Keying {
    impi: Impi,
    ptid: Ptid,
    /// Contexts of the pushes that wait.
    waiting: SmallVec<[u64; 2]>,
    /// The challenge of the GPI, once it is on its way.
    rand: Option<Rand>,
    /// Whether the card was out of step already.
    resynced: bool,
    timer: TimerKey,
}

/// The part of a question's number that is the keying's own; above it stands the worker.
const NUMBER: u64 = (1 << 56) - 1;

impl Proxy {
    /// The next lookup to be made.
    pub fn poll_lookup(&mut self) -> Option<Lookup> {
        self.keyings.lookups.pop_front()
    }

    /// Whose card the UE has that `owner` registered from, if it was proved and associations can be had.
    pub(super) fn card_of(&self, owner: Option<&Principal>) -> Option<Impi> {
        self.shared.pushes.as_ref()?;
        let owner = owner.filter(|owner| matches!(owner.proof, Proof::Gba | Proof::Aka))?;
        Impi::new(&owner.name)
    }

    /// Step 1, or 2.
    pub(super) fn start_wrapped(
        &mut self,
        id: u64,
        context: &mut Context,
        impi: Impi,
        whole: Whole,
        now: Now,
    ) {
        if let Some((printed, rand, number)) = self.wrap(&impi, &whole.printed, now) {
            context.push = Some(Box::new(Pushing::Wrapped(impi, rand, number)));
            return self.start_client(id, context, printed, whole.to, &whole.branch, now);
        }
        let number = match self.keyings.of.get(&impi) {
            Some(number) => Some(*number),
            None => self.begin_keying(impi.clone(), now),
        };
        match number.and_then(|number| self.keyings.all.get_mut(&number)) {
            Some(keying) if keying.waiting.len() < WAITING_MAX => {
                keying.waiting.push(id);
                context.push = Some(Box::new(Pushing::Waits(impi, whole)));
            }
            _ => self.give_up_push(context, now),
        }
    }

    fn wrap(&self, impi: &Impi, printed: &Printed, now: Now) -> Option<(Printed, Rand, u32)> {
        let keys = &self.shared.pushes.as_ref()?.keys;
        let message = Message::from_datagram(printed.octets.clone()).ok()?;
        let wrapped = keys.wrap(impi, &entity(&message), now)?;
        let octets = put_body(&message, GPL_TYPE, &wrapped.octets).ok()?;
        Some((Printed { octets, via: printed.via }, wrapped.rand, wrapped.number))
    }

    fn begin_keying(&mut self, impi: Impi, now: Now) -> Option<u64> {
        let ptid = Ptid::new(&format!("p-{}", self.fresh()))?;
        let number = self.next & NUMBER;
        self.next = self.next.wrapping_add(1);
        let timer = self.wheel.insert(now.mono + KEYING_LIMIT, number);
        let waiting = SmallVec::new();
        let keying =
            Keying { impi: impi.clone(), ptid, waiting, rand: None, resynced: false, timer };
        self.keyings.all.insert(number, keying);
        self.keyings.of.insert(impi, number);
        self.ask_for_key(number, None, now);
        Some(number)
    }

    fn ask_for_key(&mut self, number: u64, resync: Option<Resync>, now: Now) {
        let (Some(keying), Some(pushes)) =
            (self.keyings.all.get(&number), self.shared.pushes.as_ref())
        else {
            return;
        };
        let asked = Box::new(PushRequest {
            impi: keying.impi.clone(),
            naf: pushes.naf.clone(),
            ptid: keying.ptid.clone(),
            expires: now.wall + pushes.lifetime,
            resync,
        });
        let asker = (u64::from(self.worker) << 56) | number;
        self.keyings.lookups.push_back(Lookup::PushKey { asked, asker });
    }

    /// Step 3.
    pub fn push_answered(&mut self, asker: u64, now: Now) {
        let Some(pushes) = self.shared.pushes.clone() else { return };
        let (number, answer) = (asker & NUMBER, pushes.keys.fetch(asker, now));
        let Some(keying) = self.keyings.all.get_mut(&number).filter(|it| it.rand.is_none()) else {
            return;
        };
        let PushAnswer::Known(info) = answer else { return self.keying_over(number, now) };
        if !pushes.keys.begin(&keying.impi, &info, &keying.ptid, now) {
            return self.keying_over(number, now);
        }
        keying.rand = Some(info.rand);
        if !self.send_key(number, &info.gpi, &pushes.naf, now) {
            self.keying_over(number, now);
        }
    }

    /// Sends the GPI to where the first of the pushes goes; `false` if it cannot be.
    fn send_key(&mut self, number: u64, gpi: &[u8], naf: &NafId, now: Now) -> bool {
        let (settings, branch) = (self.settings(), self.branch(OWN));
        let ids = [self.fresh(), self.fresh()];
        let keying = self.keyings.all.get(&number);
        let first = keying.and_then(|keying| self.contexts.get(keying.waiting.first()?));
        let Some(Pushing::Waits(_, whole)) = first.and_then(|context| context.push.as_deref())
        else {
            return false;
        };
        let Destination::Flow(flow) = whole.to else { return false };
        let to = whole.to.clone();
        let octets = print_key(&settings, naf.fqdn(), whole, &branch, gpi, &ids);
        let Some(octets) = octets else { return false };
        let (side, purpose) = (other(Side::Ue), Purpose::Key(number));
        let mut context = Box::new(Context::own(Method::Message, flow, side, purpose));
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        let printed = Printed { octets, via: Span::default() };
        self.start_client(id, &mut context, printed, to, &branch, now);
        self.put_back(id, context);
        true
    }

    /// Step 4, if it was a GPI that was answered.
    pub(super) fn key_delivered(
        &mut self,
        context: &Context,
        response: &Message,
        events: &[Event],
        now: Now,
    ) {
        let Some(Purpose::Key(number)) = context.own else { return };
        let answer = events.iter().find_map(|event| match event {
            Event::Answer(status @ 200..) => Some(*status),
            Event::Answer(_) | Event::Gone { .. } => None,
        });
        let Some(status) = answer else { return };
        let pushes = self.shared.pushes.clone();
        let (Some(keying), Some(pushes)) = (self.keyings.all.get_mut(&number), pushes) else {
            return;
        };
        let Some(rand) = keying.rand else { return };
        if status < 300 {
            pushes.keys.taken(&keying.impi, &rand);
            return self.send_waiting(number, now);
        }
        let auts = answer_part(response, "auts").and_then(|auts| auts.try_into().ok()).map(Auts);
        match auts.filter(|_| status == UNDECIPHERABLE && !keying.resynced) {
            Some(auts) => {
                pushes.keys.failed(&keying.impi, &rand);
                (keying.rand, keying.resynced) = (None, true);
                self.ask_for_key(number, Some((rand, auts)), now);
            }
            None => self.keying_over(number, now),
        }
    }

    fn send_waiting(&mut self, number: u64, now: Now) {
        let Some(keying) = self.end_keying(number) else { return };
        for id in keying.waiting {
            let Some(mut context) = self.contexts.remove(&id) else { continue };
            let push = context.push.take().map(|push| *push);
            if let Some(Pushing::Waits(impi, whole)) = push {
                match self.wrap(&impi, &whole.printed, now) {
                    Some((printed, rand, number)) => {
                        context.push = Some(Box::new(Pushing::Wrapped(impi, rand, number)));
                        let Whole { to, branch, .. } = whole;
                        self.start_client(id, &mut context, printed, to, &branch, now);
                    }
                    None => self.give_up_push(&mut context, now),
                }
            }
            self.put_back(id, context);
        }
    }

    fn end_keying(&mut self, number: u64) -> Option<Keying> {
        let keying = self.keyings.all.remove(&number)?;
        self.keyings.of.remove(&keying.impi);
        self.wheel.cancel(keying.timer);
        Some(keying)
    }

    /// No association came of it, or not in time.
    pub(super) fn keying_over(&mut self, number: u64, now: Now) {
        let Some(keying) = self.end_keying(number) else { return };
        if let (Some(rand), Some(pushes)) = (keying.rand, &self.shared.pushes) {
            pushes.keys.failed(&keying.impi, &rand);
        }
        for id in keying.waiting {
            let Some(mut context) = self.contexts.remove(&id) else { continue };
            self.give_up_push(&mut context, now);
            self.put_back(id, context);
        }
    }

    /// Step 6.
    pub(super) fn give_up_push(&mut self, context: &mut Context, now: Now) {
        context.push = None;
        if let Some(pushes) = &self.shared.pushes {
            pushes.keys.noted().refused.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(crossing) = &context.crossing {
            crossing.refused();
        }
        if let Some(track) = &context.track {
            self.shared.gate.associations.fail(track, now);
        }
        self.answer(context, 480, now);
    }

    /// Step 5, of a message that went wrapped: the response without what is ours to read.
    pub(super) fn take_receipt(
        &self,
        context: &Context,
        response: &Message,
        now: Now,
    ) -> Option<Message> {
        let Some(Pushing::Wrapped(impi, rand, number)) = context.push.as_deref() else {
            return None;
        };
        let keys = &self.shared.pushes.as_ref()?.keys;
        match response.status()? {
            200..=299 => {
                if let Some(receipt) = answer_part(response, "gpl") {
                    keys.confirm(impi, rand, *number, &receipt, now);
                }
            }
            UNDECIPHERABLE => keys.failed(impi, rand),
            _ => {}
        }
        let mut edits = Edits::new();
        let ours = ANSWER_FIELD.as_bytes();
        for row in response.fields() {
            if row.name_span().of(response.octets()).eq_ignore_ascii_case(ours) {
                edits.remove(row.line());
            }
        }
        Message::from_datagram(edits.apply(response).ok()?.into()).ok()
    }

    /// 24 hexadecimal digits of randomness.
    fn fresh(&mut self) -> String {
        let (high, low) = (self.rng.next_u64().to_be_bytes(), self.rng.next_u32().to_be_bytes());
        let digits = high.into_iter().chain(low).flat_map(hex_digits);
        digits.map(char::from).collect()
    }
}

/// The MESSAGE that carries a GPI, to where a push goes.
fn print_key(
    settings: &Settings,
    fqdn: &str,
    push: &Whole,
    branch: &[u8],
    gpi: &[u8],
    [tag, call]: &[String; 2],
) -> Option<Bytes> {
    let message = Message::from_datagram(push.printed.octets.clone()).ok()?;
    let mut text = Text::new();
    text.put("MESSAGE ").put(message.request_uri()).put(" SIP/2.0").end_line();
    put_via(&mut text, settings, Side::Ue, &push.to, branch);
    for route in message.values(Name::Route) {
        text.field("Route", |value| {
            value.put_unfolded(route);
        });
    }
    text.field("Max-Forwards", |value| {
        value.put_number(HOPS);
    });
    text.field("From", |value| {
        value.put("<sip:").put(fqdn).put(">;tag=").put(tag);
    });
    let to = message.to()?;
    text.field("To", |value| {
        value.put("<").put(to.uri().octets()).put(">");
    });
    text.field("Call-ID", |value| {
        value.put(call).put("@").put(fqdn);
    });
    text.field("CSeq", |value| {
        value.put("1 MESSAGE");
    });
    text.field("Content-Type", |value| {
        value.put(GPI_TYPE);
    });
    text.field("Content-Length", |value| {
        value.put_number(gpi.len() as u64);
    });
    text.end_line().put_body(gpi);
    text.finish().ok().map(Bytes::from)
}
