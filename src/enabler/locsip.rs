//! Stage 6, LOCSIP: where somebody is.
//!
//! Takes:   SUBSCRIBE from the UE side and what follows it; NOTIFY inside its dialog from the core.
//! Gives:   the right to have them forwarded.
//! Keeps:   nothing. What a PIDF-LO says is not looked at.
//! Refuses: watchers who may not watch, filters and wishes that ask too much, other bodies; NOTIFY on a flow that
//!          is not secure, or too often.
//! Sources: OMA LOCSIP as its identifiers are registered; RFC 3856; RFC 4661; RFC 6446; RFC 6447; RFC 6442 section
//!          4.2; V-118, V-125, V-128.

use super::body::{self, filter};
use super::check::{notify_wish, watcher};
use super::{Class, Demands, EnablerPolicy, Family, Meter, Toll, Tolls, speaker};
use crate::admission::Rate;
use crate::association::{Bound, Ruling};
use crate::refusal::Refusal;
use crate::transport::{Flow, Side};
use crate::wire::Method;

/// The policy of class `locsip`.
#[derive(Clone, Debug)]
pub struct Locsip {
    /// Its demands.
    pub demands: Demands,
    /// Who may watch, by identity or username; `None` for everybody.
    pub watchers: Option<Vec<String>>,
    /// What filters may ask.
    pub filters: filter::Limits,
    /// Questions that are answered once: SUBSCRIBE with Expires 0.
    pub fetch_rate: Rate,
    /// NOTIFYs of one dialog.
    pub notify_rate: Rate,
}

impl Default for Locsip {
    fn default() -> Self {
        let demands = Demands {
            secure: true,
            core_level: 3,
            open_max: Some(5),
            body_max_to_ue: 64 * 1024,
            ..Demands::new(Rate::per_minute(60), 16 * 1024)
        };
        Self {
            demands,
            watchers: None,
            filters: filter::Limits { filters: 8, min_moved: 10 },
            fetch_rate: Rate::per_minute(10),
            notify_rate: Rate { burst: 5, ..Rate::per_second(1) },
        }
    }
}

const FILTER_TYPE: &str = "application/simple-filter+xml";
const NEWS: [&str; 2] = ["application/pidf+xml", "multipart/related"];

impl Locsip {
    fn check_watcher(&self, bound: &Bound<'_>) -> Result<(), Refusal> {
        let message = bound.message();
        watcher::check(speaker(bound).map(|caller| &**caller), self.watchers.as_deref())?;
        if bound.method() != Method::Subscribe {
            return Ok(());
        }
        notify_wish::check(message)?;
        // Inside its dialog a SUBSCRIBE goes to a Contact, and To still says whom it is about.
        let about = if bound.in_dialog() { message.to().map(|to| to.uri()) } else { message.uri() };
        let target = about.map(|uri| uri.identity()).unwrap_or_default();
        body::leaves(message, &mut |leaf| {
            if !leaf.is(FILTER_TYPE) {
                return Err(Refusal::BodyTypeForbidden(FILTER_TYPE));
            }
            filter::check(leaf.read()?, &target, &self.filters)
        })
    }

    fn check_news(bound: &Bound<'_>) -> Result<(), Refusal> {
        let message = bound.message();
        if bound.method() != Method::Notify {
            return Err(Refusal::DirectionForbidden);
        }
        let fits = |media| NEWS.iter().any(|known| body::is(&media, known));
        if message.body().is_empty() || message.content_type().is_some_and(fits) {
            return Ok(());
        }
        Err(Refusal::BodyTypeForbidden("application/pidf+xml, multipart/related"))
    }
}

impl EnablerPolicy for Locsip {
    fn demands(&self, _class: Class) -> &Demands {
        &self.demands
    }

    fn allows_direction(&self, side: Side, in_dialog: bool) -> bool {
        side == Side::Ue || in_dialog
    }

    fn check(&self, bound: &Bound<'_>) -> Result<(), Refusal> {
        match bound.arrival().side {
            Side::Ue if !bound.in_dialog() && bound.method() != Method::Subscribe => {
                Err(Refusal::DirectionForbidden)
            }
            Side::Ue => self.check_watcher(bound),
            Side::Core => Self::check_news(bound),
        }
    }

    fn tolls(&self, bound: &Bound<'_>) -> Tolls {
        let mut tolls = Tolls::new();
        match (bound.arrival().side, bound.ruling()) {
            (Side::Core, _) => {
                let meter = Meter::Deliveries(Class::Locsip);
                tolls.push(Toll { meter, rate: self.notify_rate });
            }
            (Side::Ue, Ruling::Forms(_)) if bound.message().expires() == Some(0) => {
                tolls.push(Toll { meter: Meter::Fetches, rate: self.fetch_rate });
            }
            (Side::Ue, ruling) => {
                let meter = Meter::Requests(Class::Locsip);
                tolls.push(Toll { meter, rate: self.demands.rate });
                if let (Ruling::Forms(_), Some(rate)) = (ruling, self.demands.dialogs) {
                    tolls.push(Toll { meter: Meter::Dialogs(Family::Locsip), rate });
                }
            }
        }
        tolls
    }

    fn deliver(&self, _bound: &Bound<'_>, flow: &Flow) -> Result<(), Refusal> {
        let fits = !self.demands.secure || flow.transport.is_secure();
        if fits { Ok(()) } else { Err(Refusal::AnchorMissing) }
    }
}
