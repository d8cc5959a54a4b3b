//! Stage 7, lingering: transactions that are answered, as long as a copy of their request may still come.
//!
//! 1. A request other than INVITE was answered: its copies get the same answer until Timer J.
//! 2. An INVITE was accepted: its copies are absorbed until Timer L, further 2xx go back until Timer M.
//! 3. Both last 64*T1, so they lapse in the order in which they came.
//!
//! Takes:   what the proxy folds up once nothing is left to do.
//! Gives:   the answer, or what a further 2xx needs; the keys of those that lapsed.
//! Keeps:   a queue, and the answers end to end in pages that are reused: some 100 octets for each beside its answer, and its place among requests
//!          that cross.
//! Refuses: nothing; the proxy counts these among its transactions.
//! Sources: RFC 3261 section 17.2.2; RFC 6026 sections 7.1 and 7.2; `TX-01`, `TX-02`.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

use super::Destination;
use super::b2bua::merging::Ours;
use super::line::Line;
use super::transaction::{ClientKey, ServerKey};
use crate::association::Track;
use crate::instant::Instant;
use crate::transport::{Flow, Side};

/// One transaction that is over but for its copies.
#[derive(Debug)]
struct Record {
    until: Instant,
    key: ServerKey,
    reply_to: Flow,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Answered {
        page: u64,
        from: u32,
        length: u32,
        /// Its place among those that cross, which ends with it.
        _ours: Option<Box<Ours>>,
    },
    Accepted(Box<Accepted>),
}

/// What a further 2xx to an INVITE needs.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    /// The client transaction.
    pub(super) client: ClientKey,
    /// Where the INVITE went, and so where its answers come from.
    pub(super) to: Destination,
    /// The side the INVITE came from.
    pub(super) side: Side,
    /// Its dialog.
    pub(super) track: Option<Track>,
    /// Whether its sender may be told how often to send keep-alives.
    pub(super) keeps: bool,
}

/// What becomes of a copy of a request.
#[derive(Debug)]
pub(super) enum Copy {
    /// It gets the same answer.
    Answer(Flow, Bytes),
    /// It was accepted: nothing is repeated.
    Accepted,
}

/// Transactions that linger, the first to lapse first.
#[derive(Debug, Default)]
pub(super) struct Lingering {
    queue: Line<Record>,
    pages: VecDeque<Vec<u8>>,
    /// The number of the first page.
    first_page: u64,
    spare: Option<Vec<u8>>,
}

impl Lingering {
    /// Keeps an answer; gives the number it is found by.
    pub(super) fn answered(
        &mut self,
        key: ServerKey,
        reply_to: Flow,
        answer: &[u8],
        until: Instant,
        ours: Option<Ours>,
    ) -> u64 {
        if self.pages.back().is_none_or(|page| page.len().saturating_add(answer.len()) > PAGE) {
            let mut page = self.spare.take().unwrap_or_default();
            page.reserve_exact(PAGE.max(answer.len()));
            self.pages.push_back(page);
        }
        let page = self.first_page.saturating_add(self.pages.len().saturating_sub(1) as u64);
        let (mut from, length) = (0, u32::try_from(answer.len()).unwrap_or(0));
        if let Some(page) = self.pages.back_mut() {
            from = u32::try_from(page.len()).unwrap_or(0);
            page.extend_from_slice(answer);
        }
        let kind = Kind::Answered { page, from, length, _ours: ours.map(Box::new) };
        self.push(Record { until, key, reply_to, kind })
    }

    /// Keeps what a further 2xx needs; gives the number it is found by.
    pub(super) fn accepted(
        &mut self,
        key: ServerKey,
        reply_to: Flow,
        accepted: Accepted,
        until: Instant,
    ) -> u64 {
        self.push(Record { until, key, reply_to, kind: Kind::Accepted(Box::new(accepted)) })
    }

    /// Copies one of them into `other`; gives the number it is found by there.
    pub(super) fn copy_into(&self, number: u64, other: &mut Self) -> Option<u64> {
        let Record { until, key, reply_to, kind } = self.queue.get(number)?;
        match (kind, self.copy(number)?) {
            (Kind::Accepted(accepted), _) => {
                Some(other.accepted(*key, *reply_to, Accepted::clone(accepted), *until))
            }
            (_, Copy::Answer(_, octets)) => {
                Some(other.answered(*key, *reply_to, &octets, *until, None))
            }
            (Kind::Answered { .. }, Copy::Accepted) => None,
        }
    }

    fn push(&mut self, mut record: Record) -> u64 {
        // A T1 that was made shorter waits for those before it.
        let before = self.queue.back().map_or(Instant::START, |last| last.until);
        record.until = record.until.max(before);
        self.queue.push(record)
    }

    /// What a copy of the request gets.
    pub(super) fn copy(&self, number: u64) -> Option<Copy> {
        let record = self.queue.get(number)?;
        let Kind::Answered { page, from, length, .. } = record.kind else {
            return Some(Copy::Accepted);
        };
        let page = self.pages.get(usize::try_from(page.checked_sub(self.first_page)?).ok()?)?;
        let end = from.checked_add(length)? as usize;
        let answer = page.get(from as usize..end)?;
        Some(Copy::Answer(record.reply_to, Bytes::copy_from_slice(answer)))
    }

    /// The key of the transaction of that number.
    pub(super) fn key_at(&self, number: u64) -> Option<ServerKey> {
        self.queue.get(number).map(|record| record.key)
    }

    /// What a further 2xx needs, and where it goes back.
    pub(super) fn accepted_at(&self, number: u64) -> Option<(&Accepted, Flow)> {
        let record = self.queue.get(number)?;
        match &record.kind {
            Kind::Accepted(accepted) => Some((accepted, record.reply_to)),
            Kind::Answered { .. } => None,
        }
    }

    /// Forgets those whose time has come; `over` is told their keys.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        mut over: impl FnMut(ServerKey, Option<ClientKey>),
    ) {
        while self.queue.front().is_some_and(|record| record.until <= now) {
            let Some(record) = self.queue.pop() else { return };
            match record.kind {
                Kind::Answered { page, .. } => {
                    over(record.key, None);
                    self.turn_pages(page);
                }
                Kind::Accepted(accepted) => over(record.key, Some(accepted.client)),
            }
        }
        if self.queue.is_empty() {
            self.first_page = self.first_page.saturating_add(self.pages.len() as u64);
            (self.pages, self.spare) = (VecDeque::new(), None);
        }
    }

    /// Takes back the pages before `page`: all their answers have lapsed.
    fn turn_pages(&mut self, page: u64) {
        while self.first_page < page {
            self.first_page = self.first_page.saturating_add(1);
            if let Some(mut blank) = self.pages.pop_front() {
                blank.clear();
                self.spare.get_or_insert(blank);
            }
        }
    }

    /// When [`Lingering::expire`] is due: many lapse at once, each a little late.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.queue.front().map(|record| record.until + LATE)
    }

    /// How many linger.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

/// Octets of a page, but for a longer answer alone on its own.
const PAGE: usize = 64 * 1024;
/// How late one may be forgotten.
const LATE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::{ListenerId, Transport};

    fn flow() -> Flow {
        let remote = ([192, 0, 2, 1], 5060).into();
        Flow { transport: Transport::Udp, listener: ListenerId(0), remote, connection: None }
    }

    fn answer_of(lingering: &Lingering, number: u64) -> Option<Vec<u8>> {
        match lingering.copy(number) {
            Some(Copy::Answer(to, octets)) if to == flow() => Some(octets.to_vec()),
            _ => None,
        }
    }

    #[test]
    fn each_keeps_its_answer_until_its_time_and_pages_go_with_the_last() {
        let mut lingering = Lingering::default();
        let at = |n: u64| Instant::from_micros(n * 1000);
        let text =
            |n: u64| vec![u8::try_from(n % 251).unwrap(); 300 + usize::try_from(n % 5).unwrap()];
        let keys: Vec<ServerKey> = (0..2000).map(ServerKey::of_number).collect();
        let numbers: Vec<u64> = (0..2000)
            .map(|n| {
                lingering.answered(keys[usize::try_from(n).unwrap()], flow(), &text(n), at(n), None)
            })
            .collect();
        assert!(lingering.pages.len() > 5);
        for now in [0, 1, 700, 1500, 1998] {
            let mut gone = Vec::new();
            lingering.expire(at(now), |key, client| gone.push((key, client)));
            assert!(gone.iter().all(|(_, client)| client.is_none()));
            for n in 0..2000 {
                let expected = (n > now).then(|| text(n));
                assert_eq!(answer_of(&lingering, numbers[usize::try_from(n).unwrap()]), expected);
            }
        }
        assert_eq!((lingering.len(), lingering.pages.len()), (1, 1));
        lingering.expire(at(5000), |_, _| {});
        assert_eq!(
            (lingering.len(), lingering.pages.len(), lingering.poll_timeout()),
            (0, 0, None)
        );
        let again = lingering.answered(keys[0], flow(), b"again", at(6000), None);
        assert_eq!(answer_of(&lingering, again).as_deref(), Some(&b"again"[..]));
        assert_eq!(answer_of(&lingering, numbers[0]), None, "a number is given once");
    }
}
