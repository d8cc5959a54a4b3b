//! Stage 1, aliases: connections that servers opened to us, used backwards.
//!
//! 1. A server's request says `alias` in its topmost Via: whoever is to reach the address that stands there may use the
//!    connection that it came on.
//! 2. Each time that a connection is wanted, the certificate of that one is asked anew whether it is of the domain.
//!
//! Takes:   requests with the connection they came on; where one of ours is to go; the end of a connection.
//! Gives:   the connection to use, if there is one; for whom one that ended was used.
//! Keeps:   [`ALIASES_MAX`] connections, each under one address, [`ROWS_MAX`] under the same one; for each, the
//!          [`USES_MAX`] targets it was used for first.
//! Refuses: what is no TLS, what faces devices, what we dialled, whoever showed no certificate of its group: for all of
//!          them it is as if the parameter were not there. A connection serves no other listener, group or domain.
//! Sources: RFC 5923 sections 8.2, 9.2 and 9.3; `CR-06`, `CR-08`, `CR-09`, `V-41`, `V-65`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::stream::StreamFacts;
use super::{Flow, Group, GroupId, ListenerId, Side, Target, Transport};
use crate::wire::{Message, Via};

/// Most connections that are used backwards.
pub const ALIASES_MAX: usize = 4096;
/// Most of them under one address.
pub const ROWS_MAX: usize = 8;
/// Most targets of one of which it is remembered that it was used for them; it is used for no more.
pub const USES_MAX: usize = 8;

/// The table.
#[derive(Debug, Default)]
pub struct Aliases(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    rows: HashMap<(ListenerId, SocketAddr), Vec<Row>>,
    of_flow: HashMap<Flow, SocketAddr>,
}

#[derive(Debug)]
struct Row {
    stream: Arc<StreamFacts>,
    group: GroupId,
    used_for: Vec<Target>,
}

impl Aliases {
    /// Notes the connection that a request came on, if it may be used backwards and the request says so; whether it is
    /// noted now. `group` is the sender's.
    pub fn form(&self, stream: &Arc<StreamFacts>, group: Option<Group>, request: &Message) -> bool {
        let flow = stream.flow;
        let fits = flow.transport == Transport::Tls
            && stream.side == Side::Core
            && stream.target.is_none()
            && stream.names.is_some();
        let Some(Group { id, by_certificate: true }) = group.filter(|_| fits) else { return false };
        let via = request.top_via().filter(|via| request.is_request() && says_alias(via));
        let Some(via) = via else { return false };
        let port = via.port().unwrap_or(Transport::Tls.default_port());
        let address = SocketAddr::new(flow.remote.ip().to_canonical(), port);
        self.lock()
            .add(address, Row { stream: Arc::clone(stream), group: id, used_for: Vec::new() })
    }

    /// A connection that is `open` and leads to `target` by way of `listener`, which its certificate is good for.
    pub fn find(
        &self,
        listener: ListenerId,
        target: &Target,
        open: impl Fn(&Flow) -> bool,
    ) -> Option<Flow> {
        if target.transport != Transport::Tls {
            return None;
        }
        let address = canonical(target.address);
        let mut table = self.lock();
        // The newest first: it is the one that its server will keep.
        for row in table.rows.get_mut(&(listener, address))?.iter_mut().rev() {
            if row.leads_to(target) && open(&row.stream.flow) && row.note(target) {
                return Some(row.stream.flow);
            }
        }
        None
    }

    /// Forgets a connection; gives what it was used for.
    pub fn end(&self, flow: &Flow) -> Vec<Target> {
        self.lock().remove(flow)
    }

    /// How many connections may be used backwards.
    pub fn len(&self) -> usize {
        self.lock().of_flow.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The address of a connection is the one it named first.
    fn add(&mut self, address: SocketAddr, row: Row) -> bool {
        let flow = row.stream.flow;
        if self.of_flow.contains_key(&flow) || self.of_flow.len() >= ALIASES_MAX {
            return false;
        }
        let rows = self.rows.entry((flow.listener, address)).or_default();
        if rows.len() >= ROWS_MAX {
            return false;
        }
        rows.push(row);
        self.of_flow.insert(flow, address);
        true
    }

    fn remove(&mut self, flow: &Flow) -> Vec<Target> {
        let Some(address) = self.of_flow.remove(flow) else { return Vec::new() };
        let place = (flow.listener, address);
        let Some(rows) = self.rows.get_mut(&place) else { return Vec::new() };
        let at = rows.iter().position(|row| row.stream.flow == *flow);
        let used_for = at.map(|at| rows.remove(at).used_for).unwrap_or_default();
        if rows.is_empty() {
            self.rows.remove(&place);
        }
        used_for
    }
}

impl Row {
    /// Whether it is a connection of that group and of that domain.
    ///
    /// Source: RFC 5923 section 8.2, conditions 1 and 2.
    fn leads_to(&self, target: &Target) -> bool {
        let covers = self.stream.names.as_ref().is_some_and(|names| names.covers(&target.domain));
        self.group == target.group && covers
    }

    fn note(&mut self, target: &Target) -> bool {
        let known = self.used_for.contains(target);
        if !known && self.used_for.len() < USES_MAX {
            self.used_for.push(target.clone());
            return true;
        }
        known
    }
}

/// Whether the sender wants its connection used backwards: the parameter has no value.
fn says_alias(via: &Via<'_>) -> bool {
    via.param("alias").is_some_and(<[u8]>::is_empty)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authentication::tls_identity::CertificateNames;
    use crate::instant::WallTime;
    use crate::transport::ConnectionId;

    fn stream(slot: u32, domains: &[&str]) -> StreamFacts {
        let domains = domains.iter().map(|name| Arc::from(*name)).collect();
        let not_after = WallTime::from_unix(u64::MAX);
        StreamFacts {
            flow: Flow {
                transport: Transport::Tls,
                listener: ListenerId(1),
                remote: "192.0.2.7:49152".parse().unwrap(),
                connection: Some(ConnectionId { slot, generation: 0 }),
            },
            side: Side::Core,
            local: "192.0.2.1:5061".parse().unwrap(),
            names: Some(CertificateNames { domains, users: Vec::new(), not_after }),
            channel: None,
            asked_for: None,
            target: None,
        }
    }

    fn asks(via: &str) -> Message {
        let text = format!(
            "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TLS {via};branch=z9hG4bKa\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\n\
             Max-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
        );
        Message::from_datagram(text.into()).unwrap()
    }

    fn target(address: &str, domain: &str) -> Target {
        let (transport, group) = (Transport::Tls, GroupId(0));
        Target { transport, address: address.parse().unwrap(), domain: domain.into(), group }
    }

    const GROUP: Option<Group> = Some(Group { id: GroupId(0), by_certificate: true });
    const HERE: ListenerId = ListenerId(1);

    #[test]
    fn the_address_is_that_of_the_connection_and_the_port_that_of_the_via() {
        for (via, address) in [
            ("core.example.net:5071;alias", "192.0.2.7:5071"),
            ("198.51.100.9:5071;ALIAS", "192.0.2.7:5071"),
            ("core.example.net;alias", "192.0.2.7:5061"),
            ("core.example.net;alias", "[::ffff:192.0.2.7]:5061"),
        ] {
            let aliases = Aliases::default();
            let row = Arc::new(stream(1, &["example.net"]));
            assert!(aliases.form(&row, GROUP, &asks(via)), "{via}");
            let found = aliases.find(HERE, &target(address, "Example.net"), |_| true);
            assert_eq!(found, Some(row.flow), "{via}");
            let elsewhere = target("192.0.2.7:49152", "example.net");
            assert_eq!(aliases.find(HERE, &elsewhere, |_| true), None, "{via}");
        }
    }

    /// CR-06, CR-08, CR-09: each condition by itself.
    #[test]
    fn what_does_not_fit_is_not_used() {
        let good = || stream(1, &["example.net"]);
        let with = |change: &dyn Fn(&mut StreamFacts)| {
            let mut facts = good();
            change(&mut facts);
            facts
        };
        let by_address = Some(Group { id: GroupId(0), by_certificate: false });
        let via = "core.example.net;alias";
        for (name, facts, group, via, forms) in [
            ("good", good(), GROUP, via, true),
            ("no parameter", good(), GROUP, "core.example.net", false),
            ("with a value", good(), GROUP, "core.example.net;alias=1", false),
            ("no group", good(), None, via, false),
            ("a group by address", good(), by_address, via, false),
            ("no certificate", with(&|it| it.names = None), GROUP, via, false),
            ("devices", with(&|it| it.side = Side::Ue), GROUP, via, false),
            ("TCP", with(&|it| it.flow.transport = Transport::Tcp), GROUP, via, false),
            ("WSS", with(&|it| it.flow.transport = Transport::Wss), GROUP, via, false),
            (
                "dialled by us",
                with(&|it| it.target = Some(target("192.0.2.7:5061", "example.net"))),
                GROUP,
                via,
                false,
            ),
        ] {
            let aliases = Aliases::default();
            assert_eq!(aliases.form(&Arc::new(facts), group, &asks(via)), forms, "{name}");
            assert_eq!(aliases.len(), usize::from(forms), "{name}");
        }
        let aliases = Aliases::default();
        aliases.form(&Arc::new(good()), GROUP, &asks(via));
        let at = "192.0.2.7:5061";
        let other_group = Target { group: GroupId(1), ..target(at, "example.net") };
        let over_tcp = Target { transport: Transport::Tcp, ..target(at, "example.net") };
        for (name, listener, target, open) in [
            ("another domain", HERE, target(at, "example.org"), true),
            ("a host of the domain", HERE, target(at, "a.example.net"), true),
            ("another group", HERE, other_group, true),
            ("another listener", ListenerId(2), target(at, "example.net"), true),
            ("another transport", HERE, over_tcp, true),
            ("closed", HERE, target(at, "example.net"), false),
        ] {
            assert_eq!(aliases.find(listener, &target, |_| open), None, "{name}");
        }
    }

    #[test]
    fn the_end_of_a_connection_tells_what_it_was_used_for() {
        let aliases = Aliases::default();
        let row = Arc::new(stream(1, &["example.net", "example.org"]));
        let via = asks("core.example.net;alias");
        assert!(aliases.form(&row, GROUP, &via));
        assert!(!aliases.form(&row, GROUP, &asks("a:5071;alias")), "its address is the first one");
        let both = ["example.net", "example.org"].map(|name| target("192.0.2.7:5061", name));
        for target in both.iter().chain(&both) {
            assert!(aliases.find(HERE, target, |_| true).is_some());
        }
        assert_eq!(aliases.end(&row.flow), both);
        assert!(aliases.is_empty() && aliases.end(&row.flow).is_empty());
    }

    #[test]
    fn bounds_hold() {
        let via = asks("core.example.net;alias");
        let aliases = Aliases::default();
        for slot in 0..16 {
            let formed = aliases.form(&Arc::new(stream(slot, &["example.net"])), GROUP, &via);
            assert_eq!(formed, (slot as usize) < ROWS_MAX, "{slot}");
        }
        let aliases = Aliases::default();
        let names: Vec<String> = (0..16).map(|n| format!("d{n}.example.net")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        aliases.form(&Arc::new(stream(1, &names)), GROUP, &via);
        for (uses, name) in names.iter().enumerate() {
            let found = aliases.find(HERE, &target("192.0.2.7:5061", name), |_| true);
            assert_eq!(found.is_some(), uses < USES_MAX, "{name}");
        }
    }
}
