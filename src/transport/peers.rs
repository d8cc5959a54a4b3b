//! Stage 1, peers: the targets of each core group, kept fresh while nobody waits for them.
//!
//! Takes:   the members of a group; a [`Dns`] to ask.
//! Gives:   a snapshot of targets that a worker reads without waiting.
//! Keeps:   for each member its last good targets, and for a day that its domain had SIPS records.
//! Refuses: answers that take over 3 s; to leave TLS when a domain's SIPS records vanish: it stays on TLS and says so.
//!          A group of literal addresses asks nothing, and has no task.
//! Sources: RFC 3263 sections 4 and 7; `DNS-02`, `DNS-06`, `DNS-07`, `DNS-08`, `V-80`.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_resolver::TokioResolver;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::time::{Instant, sleep, timeout};

use super::resolve::{Answer, Conditions, Member, Plan, Question, Record, Step, Unresolved, plan};
use super::{GroupId, Target};

/// How long one resolution may take.
const RESOLVE_WITHIN: Duration = Duration::from_secs(3);
/// How long it is remembered that a domain had SIPS records.
const SIPS_MEMORY: Duration = Duration::from_secs(24 * 3600);
/// For how long a failure holds.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// Questions that follow from each other; more is no plan of ours.
const ROUNDS: usize = 8;

/// Whom to ask. One that lies can send requests to other addresses; under TLS the certificate tells.
pub trait Dns {
    /// Asks.
    fn ask(&self, question: &Question) -> impl Future<Output = Answer>;
}

/// The name servers that the system is set up with.
pub struct SystemDns(TokioResolver);

impl SystemDns {
    /// Reads the system's configuration.
    ///
    /// # Errors
    ///
    /// If it has none, or one that cannot be read.
    pub fn new() -> Result<Self, NetError> {
        let mut builder = TokioResolver::builder_tokio()?;
        let options = builder.options_mut();
        options.timeout = Duration::from_secs(1);
        options.attempts = 2;
        Ok(Self(builder.build()?))
    }

    async fn look_up(&self, name: &str, kind: RecordType) -> Answer {
        // With the dot at its end the name is whole: no search list is tried.
        let name = format!("{}.", name.trim_end_matches('.'));
        match self.0.lookup(name, kind).await {
            Ok(found) => {
                let answers = found.answers();
                let seconds = answers.iter().map(|record| record.ttl).min().unwrap_or_default();
                let records: Vec<Record> =
                    answers.iter().filter_map(|record| read(&record.data)).collect();
                let valid = Duration::from_secs(u64::from(seconds));
                if records.is_empty() {
                    Answer::None(valid)
                } else {
                    Answer::Records(records, valid)
                }
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
            {
                let seconds = none.negative_ttl.unwrap_or_default();
                Answer::None(Duration::from_secs(u64::from(seconds)))
            }
            Err(_) => Answer::Failed,
        }
    }
}

impl std::fmt::Debug for SystemDns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SystemDns(..)")
    }
}

impl Dns for SystemDns {
    async fn ask(&self, question: &Question) -> Answer {
        match question {
            Question::Naptr(name) => self.look_up(name, RecordType::NAPTR).await,
            Question::Srv(name) => self.look_up(name, RecordType::SRV).await,
            Question::Addresses(name) => {
                let (six, four) = tokio::join!(
                    self.look_up(name, RecordType::AAAA),
                    self.look_up(name, RecordType::A)
                );
                both(six, four)
            }
        }
    }
}

/// One answer out of that for IPv6 and that for IPv4: what either knows is known.
fn both(six: Answer, four: Answer) -> Answer {
    match (six, four) {
        (Answer::Records(mut records, one), Answer::Records(more, other)) => {
            records.extend(more);
            Answer::Records(records, one.min(other))
        }
        (Answer::Records(records, valid), Answer::None(_) | Answer::Failed)
        | (Answer::None(_) | Answer::Failed, Answer::Records(records, valid)) => {
            Answer::Records(records, valid)
        }
        (Answer::None(one), Answer::None(other)) => Answer::None(one.min(other)),
        (Answer::Failed, _) | (_, Answer::Failed) => Answer::Failed,
    }
}

fn read(data: &RData) -> Option<Record> {
    match data {
        RData::A(address) => Some(Record::Address(address.0.into())),
        RData::AAAA(address) => Some(Record::Address(address.0.into())),
        RData::SRV(srv) => Some(Record::Srv {
            priority: srv.priority,
            weight: srv.weight,
            port: srv.port,
            target: bare(&srv.target.to_ascii()),
        }),
        RData::NAPTR(naptr) => {
            let plain = naptr.flags.eq_ignore_ascii_case(b"s") && naptr.regexp.is_empty();
            plain.then(|| Record::Naptr {
                order: naptr.order,
                preference: naptr.preference,
                service: String::from_utf8_lossy(&naptr.services).into_owned(),
                replacement: bare(&naptr.replacement.to_ascii()),
            })
        }
        _ => None,
    }
}

fn bare(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

/// A group of core peers, and where they are.
#[derive(Debug)]
pub struct PeerGroup {
    id: GroupId,
    conditions: Conditions,
    members: Vec<Known>,
    targets: ArcSwap<Vec<Target>>,
}

#[derive(Debug)]
struct Known {
    member: Member,
    memory: Mutex<Memory>,
}

#[derive(Clone, Debug, Default)]
struct Memory {
    targets: Vec<Target>,
    sips_until: Option<Instant>,
    vanished: bool,
    unresolved: Option<Unresolved>,
}

impl PeerGroup {
    /// A group. Members that are written as addresses have their targets at once, the others none yet.
    pub fn new(id: GroupId, members: Vec<Member>, conditions: Conditions) -> Arc<Self> {
        let known = |member: Member| {
            let targets = match member.literal() {
                Some(_) => match plan(&member, &conditions, &HashMap::new(), 0) {
                    Step::Done(plan) => plan.targets,
                    Step::Ask(_) => Vec::new(),
                },
                None => Vec::new(),
            };
            let memory = Memory { targets, ..Memory::default() };
            Known { member, memory: Mutex::new(memory) }
        };
        let members = members.into_iter().map(known).collect();
        let group = Self { id, conditions, members, targets: ArcSwap::default() };
        group.publish();
        Arc::new(group)
    }

    /// Which group.
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// The members, as they were configured.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().map(|known| &known.member)
    }

    /// All targets, in the order of the members and for each in the order in which to try them.
    pub fn targets(&self) -> Arc<Vec<Target>> {
        self.targets.load_full()
    }

    /// Whether no name is among its members: then there is nothing to refresh.
    pub fn is_literal(&self) -> bool {
        self.members.iter().all(|known| known.member.literal().is_some())
    }

    /// Members that have no target, and why.
    pub fn unresolved(&self) -> Vec<(Member, Unresolved)> {
        let why = |known: &Known| Some((known.member.clone(), known.read().unresolved?));
        self.members.iter().filter_map(why).collect()
    }

    /// Resolves each name once. Says when to do so again; `None` if no member is a name.
    pub async fn refresh(&self, dns: &impl Dns, draw: u64) -> Option<Duration> {
        let mut next = None;
        for known in self.members.iter().filter(|known| known.member.literal().is_none()) {
            let valid = known.refresh(dns, &self.conditions, draw).await;
            next = Some(next.map_or(valid, |next: Duration| next.min(valid)));
        }
        if next.is_some() {
            self.publish();
        }
        next
    }

    /// Resolves each name whenever its answers run out. Ends at once for a group of addresses, else never.
    pub async fn keep_fresh(&self, dns: &impl Dns, mut draw: impl FnMut() -> u64) {
        while let Some(valid) = self.refresh(dns, draw()).await {
            sleep(valid).await;
        }
    }

    fn publish(&self) {
        let targets = self.members.iter().flat_map(|known| known.read().targets).collect();
        self.targets.store(Arc::new(targets));
    }
}

impl Known {
    fn read(&self) -> Memory {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn refresh(&self, dns: &impl Dns, conditions: &Conditions, draw: u64) -> Duration {
        let now = Instant::now();
        let mut memory = self.read();
        let held_to_tls = memory.sips_until.is_some_and(|until| now < until);
        let mut member = self.member.clone();
        member.secure |= held_to_tls;
        let resolving = timeout(RESOLVE_WITHIN, resolve(dns, &member, conditions, draw));
        let found = resolving.await.unwrap_or_else(|_| failed());
        if found.had_sips {
            (memory.sips_until, memory.vanished) = (now.checked_add(SIPS_MEMORY), false);
        } else if held_to_tls && found.unresolved != Some(Unresolved::Failed) && !memory.vanished {
            memory.vanished = true;
            tracing::warn!(domain = %member.domain, "its SIPS records are gone; TLS is kept to");
        }
        memory.unresolved = found.unresolved;
        // What worked may still work when nobody can be asked; a clear no is taken at its word.
        if found.unresolved != Some(Unresolved::Failed) {
            memory.targets = found.targets;
        } else if memory.targets.is_empty() {
            tracing::debug!(host = %member.host, "not resolved");
        }
        *self.memory.lock().unwrap_or_else(PoisonError::into_inner) = memory;
        found.valid
    }
}

fn failed() -> Plan {
    let unresolved = Some(Unresolved::Failed);
    Plan { targets: Vec::new(), valid: AFTER_FAILURE, had_sips: false, unresolved }
}

/// Resolves one member: asks what the plan asks until it asks no more.
///
/// Source: RFC 3263 section 4.
pub async fn resolve(dns: &impl Dns, member: &Member, conditions: &Conditions, draw: u64) -> Plan {
    let mut answers = HashMap::new();
    for _ in 0..ROUNDS {
        match plan(member, conditions, &answers, draw) {
            Step::Done(plan) => return plan,
            Step::Ask(questions) => {
                for question in questions {
                    let answer = dns.ask(&question).await;
                    answers.insert(question, answer);
                }
            }
        }
    }
    failed()
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::super::Transport;
    use super::*;

    /// A DNS whose answers a test changes, and which counts the questions.
    #[derive(Default)]
    struct Book {
        answers: RefCell<HashMap<Question, Answer>>,
        asked: Cell<u32>,
        silent: Cell<bool>,
    }

    impl Dns for Book {
        async fn ask(&self, question: &Question) -> Answer {
            self.asked.set(self.asked.get() + 1);
            if self.silent.get() {
                std::future::pending::<()>().await;
            }
            let known = self.answers.borrow().get(question).cloned();
            known.unwrap_or(Answer::None(Duration::from_secs(60)))
        }
    }

    impl Book {
        fn set(&self, question: Question, records: Vec<Record>, seconds: u64) {
            let answer = Answer::Records(records, Duration::from_secs(seconds));
            self.answers.borrow_mut().insert(question, answer);
        }
    }

    fn group(hosts: &[&str]) -> Arc<PeerGroup> {
        let member = |host: &&str| Member {
            host: (*host).into(),
            port: None,
            transport: None,
            secure: false,
            domain: (*host).into(),
            group: GroupId(3),
        };
        let conditions = Conditions {
            transports: vec![Transport::Tls, Transport::Tcp, Transport::Udp],
            ipv4: true,
            ipv6: true,
            own: Vec::new(),
        };
        PeerGroup::new(GroupId(3), hosts.iter().map(member).collect(), conditions)
    }

    fn with_sips(book: &Book) {
        let name = "_sips._tcp.example.net".to_string();
        let srv =
            Record::Srv { priority: 0, weight: 0, port: 5061, target: "a.example.net".into() };
        book.set(Question::Srv(name), vec![srv], 30);
        for (name, address) in [("a.example.net", "192.0.2.7"), ("example.net", "192.0.2.8")] {
            let address = Record::Address(address.parse().unwrap());
            book.set(Question::Addresses(name.into()), vec![address], 30);
        }
    }

    fn shown(group: &PeerGroup) -> Vec<String> {
        let targets = group.targets();
        targets.iter().map(|it| format!("{:?} {}", it.transport, it.address)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_of_addresses_asks_nobody() {
        let (book, group) = (Book::default(), group(&["192.0.2.7", "[2001:db8::7]"]));
        assert_eq!(shown(&group), ["Udp 192.0.2.7:5060", "Udp [2001:db8::7]:5060"]);
        assert!(group.is_literal());
        group.keep_fresh(&book, || 0).await;
        assert_eq!(book.asked.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_domain_that_had_sips_records_is_held_to_tls_for_a_day() {
        let (book, group) = (Book::default(), group(&["example.net"]));
        with_sips(&book);
        assert_eq!(group.refresh(&book, 0).await, Some(Duration::from_secs(30)));
        assert_eq!(shown(&group), ["Tls 192.0.2.7:5061"]);
        book.answers.borrow_mut().remove(&Question::Srv("_sips._tcp.example.net".into()));
        for (hours, expected) in [(1, "Tls 192.0.2.8:5061"), (22, "Tls 192.0.2.8:5061")] {
            tokio::time::advance(Duration::from_secs(hours * 3600)).await;
            group.refresh(&book, 0).await;
            assert_eq!(shown(&group), [expected], "after {hours} hours more");
        }
        tokio::time::advance(Duration::from_secs(2 * 3600)).await;
        group.refresh(&book, 0).await;
        assert_eq!(shown(&group), ["Udp 192.0.2.8:5060"], "a day after they were last seen");
    }

    #[tokio::test(start_paused = true)]
    async fn a_dns_that_falls_silent_leaves_what_was_known() {
        let (book, group) = (Book::default(), group(&["example.net"]));
        with_sips(&book);
        group.refresh(&book, 0).await;
        book.silent.set(true);
        assert_eq!(group.refresh(&book, 0).await, Some(Duration::from_secs(5)));
        assert_eq!(shown(&group), ["Tls 192.0.2.7:5061"]);
        assert_eq!(group.unresolved()[0].1, Unresolved::Failed);
        book.silent.set(false);
        book.answers.borrow_mut().clear();
        group.refresh(&book, 0).await;
        assert!(shown(&group).is_empty(), "a clear no is taken at its word");
        assert_eq!(group.unresolved()[0].1, Unresolved::Nothing);
    }
}
