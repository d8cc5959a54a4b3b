//! Stage 1, resolution: from the name of a core peer to the addresses to try, by a plan that asks nobody itself.
//!
//! Takes:   a [`Member`], and the answers to what the plan asked for so far.
//! Gives:   [`Step`]: the next questions, or the targets in order and how long they hold.
//! Keeps:   nothing. Bounds: 16 targets, three rounds of questions, 5 s to 1 h of validity.
//! Refuses: services without TLS for a SIPS URI, and for a domain that had SIPS records within a day; transports that
//!          we lack; addresses that no peer can have, unless the configuration names them literally; to go on by a
//!          lesser service when a question failed rather than was answered with no.
//! Sources: RFC 3263 sections 4.1, 4.2 and 7; RFC 2782 (order of SRV); RFC 6724 section 2.1 (order of addresses);
//!          RFC 7984 section 3; `DNS-01`, `DNS-04`, `DNS-05`, `DNS-07`, `DNS-09`, `DNS-10`.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::{GroupId, Target, Transport};
use crate::wire::uri::host_address;

/// Most targets of one member.
pub const TARGETS_MAX: usize = 16;
/// Most addresses asked for, and most records read, of one answer.
const RECORDS_MAX: usize = 16;
/// Least and longest time for which an answer is believed.
const VALIDITY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3600));

/// A peer as the configuration writes it: the parts of its URI that say where it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    /// A name, or an address (IPv6 in brackets).
    pub host: Arc<str>,
    /// The port, if one is written.
    pub port: Option<u16>,
    /// The transport, if one is written.
    pub transport: Option<Transport>,
    /// Whether the URI is SIPS: nothing but TLS then.
    pub secure: bool,
    /// The domain that its certificate must carry.
    pub domain: Arc<str>,
    /// The group it belongs to.
    pub group: GroupId,
}

impl Member {
    /// The address, if `host` is one: then nobody is asked.
    pub fn literal(&self) -> Option<IpAddr> {
        host_address(self.host.as_bytes())
    }
}

/// What to ask the DNS for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// NAPTR records.
    Naptr(String),
    /// SRV records.
    Srv(String),
    /// A and AAAA records, both.
    Addresses(String),
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Records, and for how long they hold.
    Records(Vec<Record>, Duration),
    /// There are none, and for how long that holds.
    None(Duration),
    /// Nobody could say.
    Failed,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A service of a domain. Only those with flag `s` and without a regular expression.
    Naptr {
        /// Lower ones first; others are then not looked at.
        order: u16,
        /// Among equals of order, lower ones first.
        preference: u16,
        /// `SIP+D2U` and the like.
        service: String,
        /// Where its SRV records are.
        replacement: String,
    },
    /// A host of a service.
    Srv {
        /// Lower ones first.
        priority: u16,
        /// Its share among equals of priority.
        weight: u16,
        /// The port.
        port: u16,
        /// The host; empty or `.` if the service is decidedly not there.
        target: String,
    },
    /// An address of a host.
    Address(IpAddr),
}

/// What holds for all resolutions of this edge.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// What we can send by, the best first.
    pub transports: Vec<Transport>,
    /// Whether we have IPv4.
    pub ipv4: bool,
    /// Whether we have IPv6.
    pub ipv6: bool,
    /// Our own listeners: a peer is none of them.
    pub own: Vec<SocketAddr>,
}

/// What the plan wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Answers to these.
    Ask(Vec<Question>),
    /// Nothing more.
    Done(Plan),
}

/// Where to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which to try them; empty with a reason in `unresolved`.
    pub targets: Vec<Target>,
    /// For how long.
    pub valid: Duration,
    /// Whether the domain has SIPS records.
    pub had_sips: bool,
    /// Why there is no target.
    pub unresolved: Option<Unresolved>,
}

/// Why there is no target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unresolved {
    /// A question could not be answered.
    Failed,
    /// No such name, or no service that we may use.
    Nothing,
    /// Addresses, but none that a peer may have.
    Discarded,
}

impl std::fmt::Display for Unresolved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Failed => "the DNS did not answer",
            Self::Nothing => "the DNS knows no such name, or no service of it that we may use",
            Self::Discarded => "its addresses are none that a peer may have",
        })
    }
}

impl std::error::Error for Unresolved {}

/// Takes the plan for `member` as far as `answers` carry it. `draw` is random: it orders SRV records by weight.
///
/// Call it again with more answers until it is done; three rounds are enough.
pub fn plan(
    member: &Member,
    conditions: &Conditions,
    answers: &HashMap<Question, Answer>,
    draw: u64,
) -> Step {
    let transport = member.transport.unwrap_or_else(|| fallback(member));
    if member.secure && transport != Transport::Tls {
        return Planning::none(Unresolved::Nothing);
    }
    let port = member.port.unwrap_or(transport.default_port());
    if let Some(address) = member.literal() {
        let address = SocketAddr::new(address, port);
        let target = target(member, transport, address);
        let valid = VALIDITY.1;
        return Step::Done(Plan {
            targets: vec![target],
            valid,
            had_sips: false,
            unresolved: None,
        });
    }
    let mut planning =
        Planning { member, conditions, answers, draw, valid: VALIDITY.1, had_sips: false };
    let hosts = if member.port.is_some() {
        Ok(vec![Host { name: member.host.to_string(), port, transport }])
    } else {
        planning.hosts(transport)
    };
    match hosts {
        Ok(hosts) => planning.targets(&hosts),
        Err(step) => step,
    }
}

/// The transport where neither URI nor DNS says: RFC 3263 section 4.1.
fn fallback(member: &Member) -> Transport {
    if member.secure { Transport::Tls } else { Transport::Udp }
}

fn target(member: &Member, transport: Transport, address: SocketAddr) -> Target {
    Target { transport, address, domain: member.domain.clone(), group: member.group }
}

struct Planning<'a> {
    member: &'a Member,
    conditions: &'a Conditions,
    answers: &'a HashMap<Question, Answer>,
    draw: u64,
    valid: Duration,
    had_sips: bool,
}

struct Host {
    name: String,
    port: u16,
    transport: Transport,
}

/// A NAPTR record that we may use.
struct Service {
    rank: (u16, u16),
    transport: Transport,
    replacement: String,
}

impl Planning<'_> {
    fn none(why: Unresolved) -> Step {
        let valid = VALIDITY.0;
        Step::Done(Plan { targets: Vec::new(), valid, had_sips: false, unresolved: Some(why) })
    }

    /// The records that answer `question`; empty if there are none. `Err` if it must be asked, or failed.
    fn records(&mut self, question: &Question) -> Result<&[Record], Step> {
        let answers = self.answers;
        match answers.get(question) {
            None => Err(Step::Ask(vec![question.clone()])),
            Some(Answer::Failed) => Err(Self::none(Unresolved::Failed)),
            Some(Answer::None(valid)) => {
                self.valid = self.valid.min(*valid);
                Ok(&[])
            }
            Some(Answer::Records(records, valid)) => {
                self.valid = self.valid.min(*valid);
                Ok(records.get(..RECORDS_MAX).unwrap_or(records))
            }
        }
    }

    /// Hosts and ports, by NAPTR and SRV.
    fn hosts(&mut self, transport: Transport) -> Result<Vec<Host>, Step> {
        let host = self.member.host.clone();
        if let Some(written) = self.member.transport {
            let found = match srv_name(&host, written) {
                Some(name) => self.service(&name, written)?,
                None => None,
            };
            return Ok(found.unwrap_or_else(|| vec![self.bare(transport)]));
        }
        let naptr = Question::Naptr(host.to_string());
        let records = self.records(&naptr)?.to_vec();
        let services = self.services(&records);
        if let Some(best) = services.iter().min_by_key(|service| service.rank) {
            let found = self.service(&best.replacement, best.transport)?;
            return found.ok_or_else(|| Self::none(Unresolved::Nothing));
        }
        if records.iter().any(|record| matches!(record, Record::Naptr { .. })) {
            // It says how it is reached, and that is no way we have.
            return Err(Self::none(Unresolved::Nothing));
        }
        for transport in self.conditions.transports.clone() {
            if self.member.secure && transport != Transport::Tls {
                continue;
            }
            let Some(name) = srv_name(&host, transport) else { continue };
            if let Some(hosts) = self.service(&name, transport)? {
                return Ok(hosts);
            }
        }
        Ok(vec![self.bare(transport)])
    }

    fn bare(&self, transport: Transport) -> Host {
        let name = self.member.host.to_string();
        Host { name, port: transport.default_port(), transport }
    }

    /// The NAPTR records that we may use: SIPS alone for a SIPS URI, and only transports that we have.
    fn services(&mut self, records: &[Record]) -> Vec<Service> {
        let mut services = Vec::new();
        for record in records {
            let Record::Naptr { order, preference, service, replacement } = record else {
                continue;
            };
            let transport = match service.to_ascii_uppercase().as_str() {
                "SIP+D2U" => Transport::Udp,
                "SIP+D2T" => Transport::Tcp,
                "SIPS+D2T" => Transport::Tls,
                _ => continue,
            };
            self.had_sips |= transport == Transport::Tls;
            let may = transport == Transport::Tls || !self.member.secure;
            if may && self.conditions.transports.contains(&transport) {
                let rank = (*order, *preference);
                services.push(Service { rank, transport, replacement: replacement.clone() });
            }
        }
        services
    }

    /// The hosts of one service, in the order of RFC 2782; `None` if it has no records.
    fn service(&mut self, name: &str, transport: Transport) -> Result<Option<Vec<Host>>, Step> {
        let question = Question::Srv(name.to_string());
        let mut rows: Vec<(u16, u16, Host)> = Vec::new();
        for record in self.records(&question)? {
            if let Record::Srv { priority, weight, port, target } = record {
                let host = Host { name: target.clone(), port: *port, transport };
                rows.push((*priority, *weight, host));
            }
        }
        if rows.is_empty() {
            return Ok(None);
        }
        self.had_sips |= transport == Transport::Tls;
        rows.retain(|(_, _, host)| !host.name.is_empty() && host.name != "." && host.port != 0);
        if rows.is_empty() {
            return Err(Self::none(Unresolved::Nothing));
        }
        Ok(Some(by_weight(rows, self.draw)))
    }

    /// Addresses of all hosts, then targets.
    fn targets(&mut self, hosts: &[Host]) -> Step {
        let questions = hosts.iter().map(|host| Question::Addresses(host.name.clone()));
        let unasked: Vec<Question> =
            questions.filter(|question| !self.answers.contains_key(question)).collect();
        if !unasked.is_empty() {
            return Step::Ask(unasked);
        }
        let (mut targets, mut failed, mut discarded) = (Vec::new(), false, false);
        for host in hosts {
            let question = Question::Addresses(host.name.clone());
            let Ok(records) = self.records(&question) else {
                failed = true;
                continue;
            };
            let mut addresses: Vec<IpAddr> = records
                .iter()
                .filter_map(|record| match record {
                    Record::Address(address) => Some(address.to_canonical()),
                    _ => None,
                })
                .collect();
            addresses.sort_by_key(|address| Reverse(precedence(*address)));
            for address in addresses {
                let address = SocketAddr::new(address, host.port);
                if self.may_be(address) {
                    targets.push(target(self.member, host.transport, address));
                } else {
                    discarded = true;
                }
            }
        }
        targets.truncate(TARGETS_MAX);
        let unresolved = match (targets.is_empty(), failed, discarded) {
            (false, _, _) => None,
            (true, true, _) => Some(Unresolved::Failed),
            (true, false, true) => Some(Unresolved::Discarded),
            (true, false, false) => Some(Unresolved::Nothing),
        };
        let valid = if failed || unresolved.is_some() { VALIDITY.0 } else { self.valid };
        let valid = valid.clamp(VALIDITY.0, VALIDITY.1);
        Step::Done(Plan { targets, valid, had_sips: self.had_sips, unresolved })
    }

    /// Whether a name may lead there: an address that we can reach, of another machine, that is a host's.
    fn may_be(&self, address: SocketAddr) -> bool {
        let reachable = match address.ip() {
            IpAddr::V4(_) => self.conditions.ipv4,
            IpAddr::V6(_) => self.conditions.ipv6,
        };
        let narrow = match address.ip() {
            IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let ip = address.ip();
        let nobody = ip.is_loopback() || ip.is_multicast() || ip.is_unspecified() || narrow;
        reachable && !nobody && !self.conditions.own.contains(&address)
    }
}

/// The name of a service of `host` (RFC 3263 section 4.2); RFC 7118 registers none for WebSocket.
fn srv_name(host: &str, transport: Transport) -> Option<String> {
    let service = match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp => "_sip._tcp",
        Transport::Tls => "_sips._tcp",
        Transport::Dtls => "_sips._udp",
        Transport::Ws | Transport::Wss => return None,
    };
    Some(format!("{service}.{host}"))
}

/// Orders SRV records: by priority, then drawn by weight (RFC 2782, "Weight").
fn by_weight(mut rows: Vec<(u16, u16, Host)>, draw: u64) -> Vec<Host> {
    // Those of weight 0 come first in each draw, so that they have a small chance.
    rows.sort_by_key(|(priority, weight, _)| (*priority, *weight));
    let (mut hosts, mut draw) = (Vec::with_capacity(rows.len()), draw);
    while let Some((priority, ..)) = rows.first() {
        let peers = rows.iter().take_while(|(other, ..)| other == priority);
        let weights: Vec<u64> = peers.map(|(_, weight, _)| u64::from(*weight)).collect();
        let sum: u64 = weights.iter().sum();
        draw = scatter(draw);
        let mut left = draw.checked_rem(sum.saturating_add(1)).unwrap_or_default();
        let chosen = weights.iter().position(|weight| match left.checked_sub(*weight) {
            Some(rest) if rest > 0 => {
                left = rest;
                false
            }
            _ => true,
        });
        let (_, _, host) = rows.remove(chosen.unwrap_or_default());
        hosts.push(host);
    }
    hosts
}

/// The next number of a sequence that looks random (SplitMix64).
fn scatter(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The precedence of a destination in the default policy table (RFC 6724 section 2.1).
fn precedence(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 35,
        IpAddr::V6(address) => match address.segments() {
            [0x2002, ..] => 30,
            [0x2001, 0, ..] => 5,
            [first, ..] if first & 0xFE00 == 0xFC00 => 3,
            _ => 40,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn member(host: &str) -> Member {
        Member {
            host: host.into(),
            port: None,
            transport: None,
            secure: false,
            domain: host.into(),
            group: GroupId(0),
        }
    }

    fn conditions() -> Conditions {
        Conditions {
            transports: vec![Transport::Tls, Transport::Tcp, Transport::Udp],
            ipv4: true,
            ipv6: true,
            own: vec!["192.0.2.1:5060".parse().unwrap()],
        }
    }

    fn naptr(order: u16, preference: u16, service: &str, replacement: &str) -> Record {
        let (service, replacement) = (service.to_string(), replacement.to_string());
        Record::Naptr { order, preference, service, replacement }
    }

    fn srv(priority: u16, weight: u16, port: u16, target: &str) -> Record {
        Record::Srv { priority, weight, port, target: target.to_string() }
    }

    /// A DNS that knows these and nothing else.
    fn zone(rows: &[(&str, &[Record])]) -> HashMap<Question, Answer> {
        let rows = rows.iter().map(|(name, records)| {
            let name = name.to_string();
            let question = match records.first() {
                Some(Record::Naptr { .. }) => Question::Naptr(name),
                Some(Record::Srv { .. }) => Question::Srv(name),
                _ => Question::Addresses(name),
            };
            (question, Answer::Records(records.to_vec(), HOUR))
        });
        rows.collect()
    }

    fn a(address: &str) -> Record {
        Record::Address(address.parse().unwrap())
    }

    /// Plays the shell's part: what was asked in order, and the plan.
    fn run(member: &Member, zone: &HashMap<Question, Answer>) -> (Vec<Question>, Plan) {
        let (mut asked, mut answers) = (Vec::new(), HashMap::new());
        for _ in 0..9 {
            match plan(member, &conditions(), &answers, 1) {
                Step::Done(plan) => return (asked, plan),
                Step::Ask(questions) => {
                    for question in questions {
                        let known = zone.get(&question).cloned();
                        answers.insert(question.clone(), known.unwrap_or(Answer::None(HOUR)));
                        asked.push(question);
                    }
                }
            }
        }
        panic!("no end to the questions: {asked:?}");
    }

    fn shown(plan: &Plan) -> Vec<String> {
        plan.targets.iter().map(|it| format!("{:?} {}", it.transport, it.address)).collect()
    }

    /// The zone of RFC 3263 section 4.1.
    fn example() -> HashMap<Question, Answer> {
        zone(&[
            (
                "example.com",
                &[
                    naptr(50, 50, "SIPS+D2T", "_sips._tcp.example.com"),
                    naptr(90, 50, "SIP+D2T", "_sip._tcp.example.com"),
                    naptr(100, 50, "SIP+D2U", "_sip._udp.example.com"),
                ],
            ),
            ("_sips._tcp.example.com", &[srv(0, 1, 5061, "server1.example.com")]),
            ("_sip._tcp.example.com", &[srv(0, 1, 5060, "server1.example.com")]),
            ("_sip._udp.example.com", &[srv(0, 1, 5060, "server2.example.com")]),
            ("server1.example.com", &[a("198.51.100.1"), a("2001:db8::1")]),
            ("server2.example.com", &[a("198.51.100.2")]),
            ("example.com", &[a("198.51.100.3")]),
        ])
    }

    #[test]
    fn what_is_written_decides_what_is_asked() {
        let (udp, tcp, tls) = (Some(Transport::Udp), Some(Transport::Tcp), Some(Transport::Tls));
        for (host, port, transport, secure, rounds, expected) in [
            (
                "example.com",
                None,
                None,
                false,
                3,
                &["Tls [2001:db8::1]:5061", "Tls 198.51.100.1:5061"][..],
            ),
            (
                "example.com",
                None,
                None,
                true,
                3,
                &["Tls [2001:db8::1]:5061", "Tls 198.51.100.1:5061"],
            ),
            ("example.com", None, udp, false, 2, &["Udp 198.51.100.2:5060"]),
            (
                "example.com",
                None,
                tcp,
                false,
                2,
                &["Tcp [2001:db8::1]:5060", "Tcp 198.51.100.1:5060"],
            ),
            (
                "example.com",
                None,
                tls,
                false,
                2,
                &["Tls [2001:db8::1]:5061", "Tls 198.51.100.1:5061"],
            ),
            ("example.com", Some(5080), None, false, 1, &["Udp 198.51.100.3:5080"]),
            ("example.com", Some(5080), None, true, 1, &["Tls 198.51.100.3:5080"]),
            ("example.com", Some(5080), tcp, false, 1, &["Tcp 198.51.100.3:5080"]),
            ("server2.example.com", None, udp, false, 2, &["Udp 198.51.100.2:5060"]),
            ("server2.example.com", None, None, false, 5, &["Udp 198.51.100.2:5060"]),
            ("server2.example.com", None, None, true, 3, &["Tls 198.51.100.2:5061"]),
            ("127.0.0.1", None, None, false, 0, &["Udp 127.0.0.1:5060"]),
            ("127.0.0.1", Some(5070), tcp, false, 0, &["Tcp 127.0.0.1:5070"]),
            ("[::1]", None, None, true, 0, &["Tls [::1]:5061"]),
        ] {
            let member = Member { port, transport, secure, ..member(host) };
            let (asked, plan) = run(&member, &example());
            assert_eq!(shown(&plan), expected, "{member:?} by {asked:?}");
            assert_eq!(asked.len(), rounds, "{member:?} by {asked:?}");
            assert!(plan.targets.iter().all(|it| &*it.domain == host), "{member:?}");
        }
    }

    #[test]
    fn a_sips_uri_is_never_taken_to_less_than_tls() {
        let zone = zone(&[
            ("example.com", &[naptr(1, 1, "SIP+D2U", "_sip._udp.example.com")]),
            ("_sip._udp.example.com", &[srv(0, 1, 5060, "server1.example.com")]),
            ("server1.example.com", &[a("198.51.100.1")]),
        ]);
        let secure = Member { secure: true, ..member("example.com") };
        assert_eq!(run(&secure, &zone).1.unresolved, Some(Unresolved::Nothing));
        let udp = Member { transport: Some(Transport::Udp), ..secure };
        assert_eq!(run(&udp, &zone).1.unresolved, Some(Unresolved::Nothing));
    }

    /// V-72, V-80: DNS that is away.
    #[test]
    fn a_question_that_fails_leads_to_nothing_lesser() {
        for failing in [
            Question::Naptr("example.com".into()),
            Question::Srv("_sips._tcp.example.com".into()),
            Question::Addresses("server1.example.com".into()),
        ] {
            let mut zone = example();
            zone.insert(failing.clone(), Answer::Failed);
            let (_, plan) = run(&member("example.com"), &zone);
            assert_eq!(plan.unresolved, Some(Unresolved::Failed), "{failing:?}");
            assert_eq!(plan.valid, Duration::from_secs(5), "{failing:?}");
        }
    }

    /// V-130.
    #[test]
    fn names_do_not_lead_to_addresses_that_no_peer_has() {
        for address in [
            "127.0.0.1",
            "169.254.1.1",
            "224.0.1.75",
            "0.0.0.0",
            "255.255.255.255",
            "::1",
            "fe80::1",
            "ff02::1",
            "::",
            "::ffff:127.0.0.1",
            "192.0.2.1",
        ] {
            let zone = zone(&[("peer.example.com", &[a(address)])]);
            let member = Member { port: Some(5060), ..member("peer.example.com") };
            let (_, plan) = run(&member, &zone);
            assert_eq!(plan.unresolved, Some(Unresolved::Discarded), "{address}");
        }
    }

    #[test]
    fn a_service_that_is_decidedly_not_there_is_not_sought_elsewhere() {
        let zone = zone(&[
            ("_sip._udp.example.com", &[srv(0, 0, 0, ".")]),
            ("example.com", &[a("198.51.100.3")]),
        ]);
        let member = Member { transport: Some(Transport::Udp), ..member("example.com") };
        assert_eq!(run(&member, &zone).1.unresolved, Some(Unresolved::Nothing));
    }

    /// V-130.
    #[test]
    fn at_most_sixteen_targets_for_at_least_five_seconds() {
        let many: Vec<Record> = (1..60).map(|n| a(&format!("198.51.100.{n}"))).collect();
        let question = Question::Addresses("example.com".into());
        for (ttl, expected) in [(0, 5), (60, 60), (86_400, 3600)] {
            let answer = Answer::Records(many.clone(), Duration::from_secs(ttl));
            let zone = HashMap::from([(question.clone(), answer)]);
            let (_, plan) = run(&Member { port: Some(5060), ..member("example.com") }, &zone);
            assert_eq!(plan.targets.len(), TARGETS_MAX);
            assert_eq!(plan.valid, Duration::from_secs(expected), "TTL {ttl}");
        }
    }

    #[test]
    fn srv_records_are_drawn_by_priority_then_weight() {
        let rows = || {
            [(1, 0, "last"), (0, 90, "heavy"), (0, 10, "light"), (0, 0, "none")]
                .into_iter()
                .map(|(priority, weight, name)| {
                    let host =
                        Host { name: name.to_string(), port: 5060, transport: Transport::Udp };
                    (priority, weight, host)
                })
                .collect::<Vec<_>>()
        };
        let mut first: HashMap<String, u32> = HashMap::new();
        for draw in 0..10_000 {
            let hosts = by_weight(rows(), draw);
            assert_eq!(hosts.len(), 4);
            assert_eq!(hosts[3].name, "last", "draw {draw}");
            *first.entry(hosts[0].name.clone()).or_default() += 1;
        }
        assert!((8500..9300).contains(&first["heavy"]), "{first:?}");
        assert!((700..1300).contains(&first["light"]), "{first:?}");
        assert!((1..300).contains(&first["none"]), "{first:?}");
    }
}
