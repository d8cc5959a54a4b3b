//! Configuration, enablers: `[enabler]`, what each class demands of its callers.
//!
//! Takes:   the tables as written, the peers, and what is in `[danger]`.
//! Gives:   [`Enablers`]: the policy of each family, and how its classes are recognised.
//! Keeps:   nothing.
//! Refuses: levels that ask for no proof, peers that do not exist, a location service that nobody can be sure of,
//!          rights without a service, classes that nothing is recognised by or that come from nowhere.
//! Sources: SEC_CF 1.1 (OMA-RD-SEC_CF) USAB-002; TS 33.220 annex H (Ua security protocol identifiers); RFC 3428
//!          section 8; V-118 to V-129.

use std::sync::Arc;
use std::time::Duration;

use super::field::Metres;
use super::peer::Peer;
use super::policy::Danger;
use super::proof::size;
use super::raw::{Section, Spot};
use crate::admission::Rate;
use crate::enabler::own::{Line, Own};
use crate::enabler::{
    Class, Demands, Entitlement, Integrity, class, cpm::Cpm, locsip::Locsip, push::Push, reg,
    sip::Sip,
};
use crate::keys::UaId;
use crate::keys::push::{self, Profile, p1::P1};
use crate::transport::GroupId;
use crate::wire::Method;

/// What the classes demand.
#[derive(Clone, Debug)]
pub struct Enablers {
    /// Whether what is refused is only told of.
    pub observe: bool,
    /// Of REGISTER.
    pub reg: Demands,
    /// Of everything that claims no other class.
    pub sip: Sip,
    /// Event packages that the core may notify of without a subscription.
    pub sip_unsolicited: Vec<String>,
    /// Of messaging.
    pub cpm: Cpm,
    /// Whose keys open messaging; those of `[naf]` if nothing is said.
    pub cpm_ids: Option<Vec<UaId>>,
    /// Of location.
    pub locsip: Locsip,
    /// Whose keys open location.
    pub locsip_ids: Vec<UaId>,
    /// Groups of the location service.
    pub locsip_groups: Vec<GroupId>,
    /// Its domains, lower case.
    pub locsip_domains: Vec<String>,
    /// The longest subscription to a location.
    pub locsip_longest: Duration,
    /// Whether no location is told of while its watcher's key has to be made anew.
    pub locsip_strict: bool,
    /// Of push.
    pub push: Push,
    /// How push info is written down, and what is wrapped under its associations.
    pub push_profile: Arc<dyn Profile>,
    /// How long an association is asked for.
    pub push_lifetime: Duration,
    /// Of classes of the operator's own.
    pub own: Vec<OwnClass>,
}

/// A class of the operator's own.
#[derive(Clone, Debug)]
pub struct OwnClass {
    /// What it is called here and in lists of accounts.
    pub name: Box<str>,
    /// What it is recognised by.
    pub line: Line,
    /// What it demands.
    pub policy: Own,
}

/// Reads `[enabler]`.
pub(super) fn enablers(root: &mut Section<'_>, peers: &[Peer], danger: &Danger) -> Enablers {
    let mut section = root.table("enabler");
    let place = section.place_of("mode");
    let observe = section.word("mode", &[("enforce", false), ("observe", true)]);
    if observe {
        let why = "what classes refuse is counted and let pass, but for level, secure flow, registration and the direction of push";
        section.notes().warn(&place, "only observes", why, "mode = \"enforce\"");
    }
    let mut reg = section.table("reg");
    let demands = demands(&mut reg, reg::Reg::default().demands);
    reg.finish();
    let (sip, sip_unsolicited) = sip(section.table("sip"));
    let (cpm, cpm_ids) = cpm(section.table("cpm"), danger);
    let location = locsip(section.table("locsip"), peers);
    let push = pushed(section.table("push"), peers);
    let own = own(&mut section, peers);
    section.finish();
    Enablers {
        observe,
        reg: demands,
        sip,
        sip_unsolicited,
        cpm,
        cpm_ids,
        locsip: location.policy,
        locsip_ids: location.ids,
        locsip_groups: location.groups,
        locsip_domains: location.domains,
        locsip_longest: location.longest,
        locsip_strict: location.strict,
        push: push.policy,
        push_profile: push.profile,
        push_lifetime: push.lifetime,
        own,
    }
}

/// What every class can be told.
fn demands(section: &mut Section<'_>, default: Demands) -> Demands {
    let level = level(section, default.level);
    let secure = section.or("secure", default.secure);
    let rate = section.or("rate", default.rate);
    let body_max = size(section, "body_max", default.body_max, 256 * 1024);
    Demands { level, secure, rate, body_max, body_max_to_ue: body_max, ..default }
}

fn level(section: &mut Section<'_>, default: u8) -> u8 {
    let place = section.place_of("level");
    let level = section.within("level", default, 0..=4);
    if level < 2 {
        let why = "under 2, requests pass that nobody proved to have sent";
        section.notes().problem(&place, "asks for no proof", why, "2");
    }
    level
}

fn integrity(section: &mut Section<'_>, default: Integrity) -> Integrity {
    let words = [
        ("cleartext", Integrity::Cleartext),
        ("always", Integrity::Always),
        ("never", Integrity::Never),
    ];
    section.choice("auth_int", &words, "cleartext").unwrap_or(default)
}

/// Who has the right: `entitlement`, and `uss` with the service and its flag.
fn entitlement(section: &mut Section<'_>) -> Entitlement {
    let notes = section.notes();
    let place = section.place_of("entitlement");
    let by_uss = section.word("entitlement", &[("none", false), ("uss", true)]);
    let mut uss = section.table("uss");
    let written = uss.is_present();
    let gsid = uss.maybe::<u32>("gsid").map(|spot| spot.value);
    let flag = uss.maybe::<u32>("flag").map(|spot| spot.value);
    uss.finish();
    match (by_uss, gsid) {
        (true, Some(gsid)) => Entitlement::Uss { gsid, flag },
        (true, None) => {
            let why = "a subscriber's settings name services by number (TS 29.109 annex A)";
            let what = "names no service".to_owned();
            notes.problem(&place, &what, why, "\"uss\", and uss = { gsid = 5 }");
            Entitlement::None
        }
        (false, _) => {
            if written {
                let why = "nobody is asked for that right";
                notes.problem(&place, "does not ask for uss", why, "\"uss\"");
            }
            Entitlement::None
        }
    }
}

fn sip(mut section: Section<'_>) -> (Sip, Vec<String>) {
    let default = Sip::default();
    let own = demands(&mut section, default.demands);
    let events = |section: &mut Section<'_>, key, default| {
        section.maybe::<Vec<String>>(key).map_or(default, |spot| spot.value)
    };
    let integrity = integrity(&mut section, own.integrity);
    let dialogs = section.or("dialog_rate", Rate::per_second(10));
    let policy = Sip {
        demands: Demands { integrity, dialogs: Some(dialogs), ..own },
        list_max: section.within("list_max", default.list_max, 0..=1000),
        events_denied: events(&mut section, "events_denied", default.events_denied),
    };
    let unsolicited = events(&mut section, "unsolicited_events", vec!["message-summary".into()]);
    section.finish();
    (policy, unsolicited)
}

/// The words by which the classes of messaging are named in `secure`, in the order of their demands.
const CPM: [&str; 7] = ["pager", "system", "session", "large", "file", "deferred", "group"];

fn cpm(mut section: Section<'_>, danger: &Danger) -> (Cpm, Option<Vec<UaId>>) {
    let notes = section.notes();
    let mut policy = Cpm::default();
    let level = level(&mut section, 2);
    let secure = section.maybe::<Vec<String>>("secure").map(|Spot { value, place }| {
        if let Some(bad) = value.iter().find(|name| !CPM.contains(&name.as_str())) {
            let what = format!("holds {bad:?}, which is no class of cpm");
            notes.problem(
                &place,
                &what,
                "pager, system, session, large, file, deferred and group are",
                "[\"session\", \"large\", \"file\", \"deferred\", \"group\"]",
            );
        }
        value
    });
    let auth_int = integrity(&mut section, Integrity::Cleartext);
    let entitlement = entitlement(&mut section);
    let pager_max = size(&mut section, "pager_max", 1300, 64 * 1024);
    let body_max = size(&mut section, "body_max", 64 * 1024, 256 * 1024);
    let mut lists = section.table("list_max");
    policy.pager_list_max = lists.within("pager", policy.pager_list_max, 0..=1000);
    policy.group_list_max = lists.within("group", policy.group_list_max, 0..=1000);
    lists.finish();
    let mut rates = section.table("rate");
    let pager_rate = rates.or("pager", Rate { burst: 10, ..Rate::per_minute(30) });
    let session_rate = rates.or("session", Rate::per_minute(10));
    policy.disposition_rate = rates.or("disposition", policy.disposition_rate);
    rates.finish();
    let open_max = section.within("open_max", 20, 1..=100_000);
    for (name, demands) in CPM.iter().zip(&mut policy.demands) {
        (demands.level, demands.entitlement) = (level, entitlement);
        if let Some(secure) = &secure {
            demands.secure = secure.iter().any(|own| own == name);
        }
        if demands.dialogs.is_some() {
            (demands.dialogs, demands.open_max) = (Some(session_rate), Some(open_max));
            (demands.body_max, demands.body_max_to_ue) = (body_max, body_max);
        } else {
            (demands.rate, demands.integrity) = (pager_rate, auth_int);
            (demands.body_max, demands.body_max_to_ue) = (pager_max, pager_max);
        }
    }
    policy.pager_whole = (pager_max, pager_max.saturating_add(HEAD_ON_STREAMS));
    let place = section.place_of("cpim_from");
    policy.cpim_from = section.word("cpim_from", &[("caller", true), ("off", false)]);
    if !policy.cpim_from && !danger.cpim_from_anyone {
        let why =
            "anybody could write in another's name; danger.cpim_from_anyone = true allows that";
        notes.problem(&place, "asks for no sender", why, "\"caller\"");
    }
    policy.cpim_anonymous = section.or("cpim_anonymous", true);
    policy.conversation_required = section.or("require_conversation_id", false);
    policy.msrp_tls = section.word("msrp", &[("any", false), ("tls", true)]);
    policy.inner_types = section.maybe::<Vec<String>>("inner_types").map(|spot| {
        if let Some(bad) = spot.value.iter().find(|kind| !is_media_type(kind)) {
            let what = format!("holds {bad:?}, which is no type");
            notes.problem(&spot.place, &what, "types are written type/subtype", "[\"text/plain\"]");
        }
        spot.value
    });
    let ids = section.maybe::<Vec<UaId>>("ua_ids").map(|spot| protocols(spot, &section));
    section.finish();
    (policy, ids)
}

/// What a message by itself may have beside its body on streams, in octets: 4096 with a body of 1300.
const HEAD_ON_STREAMS: usize = 4096 - 1300;

fn is_media_type(text: &str) -> bool {
    let token = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|o| o.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&o))
    };
    text.split_once('/').is_some_and(|(kind, subtype)| token(kind) && token(subtype))
}

/// Protocols whose keys open a class; never none, and never that of temporary identities.
fn protocols(spot: Spot<Vec<UaId>>, section: &Section<'_>) -> Vec<UaId> {
    let Spot { value, place } = spot;
    let notes = section.notes();
    if value.is_empty() {
        notes.problem(&place, "is empty", "keys of no protocol are no keys", "[\"0300000003\"]");
    }
    if value.contains(&UaId::TMPI) {
        let why = "temporary identities are derived with it (TS 33.220 annex B.4)";
        notes.problem(&place, "holds the identifier of TMPIs", why, "[\"0300000003\"]");
    }
    if value.len() > 2 {
        let why = "each response is tried with each key";
        notes.problem(&place, "holds more than two", why, "[\"0300000003\"]");
    }
    value
}

/// What is read of `[enabler.locsip]`.
struct Location {
    policy: Locsip,
    ids: Vec<UaId>,
    groups: Vec<GroupId>,
    domains: Vec<String>,
    longest: Duration,
    strict: bool,
}

fn locsip(mut section: Section<'_>, peers: &[Peer]) -> Location {
    let notes = section.notes();
    let mut policy = Locsip::default();
    policy.demands.level = level(&mut section, 2);
    policy.demands.entitlement = entitlement(&mut section);
    policy.demands.open_max = Some(section.within("open_max", 5, 1..=100_000));
    policy.demands.body_max = size(&mut section, "body_max", 16 * 1024, 256 * 1024);
    let place = section.place_of("peers");
    let named = section.maybe::<Vec<String>>("peers");
    let mut groups = named.map(|spot| groups(&spot, peers, &section)).unwrap_or_default();
    let marked = (0..).map(GroupId).zip(peers).filter(|(_, peer)| peer.location);
    groups.extend(marked.map(|(group, _)| group));
    groups.sort_unstable();
    groups.dedup();
    for group in &groups {
        let Some(peer) = peers.get(usize::from(group.0)).filter(|peer| !peer.by_certificate) else {
            continue;
        };
        let what = format!("peer {:?} is of the location service, and known by address", peer.name);
        let why =
            "locations come from certificates alone (level 3): nothing that it sent would pass";
        notes.say(place.line, what, why, "trust = \"certificate\"");
    }
    let domains = section.maybe::<Vec<String>>("domains").map(|Spot { value, place }| {
        if let Some(bad) = value.iter().find(|domain| !super::listen::is_host(domain)) {
            let what = format!("holds {bad:?}, which is no domain");
            notes.problem(&place, &what, "", "[\"location.example.net\"]");
        }
        value.iter().map(|domain| domain.to_ascii_lowercase()).collect()
    });
    let hour = Duration::from_secs(3600);
    let longest = section.within("expires_max", hour * 24, hour / 60..=hour * 24);
    let strict = section.word("rekey", &[("strict", true), ("soft", false)]);
    policy.fetch_rate = section.or("fetch_rate", policy.fetch_rate);
    policy.notify_rate = section.or("notify_rate", policy.notify_rate);
    policy.filters.filters = section.within("filters_max", policy.filters.filters, 1..=64);
    let metres = section.within("min_moved", Metres(10), Metres(0)..=Metres(1_000_000));
    policy.filters.min_moved = metres.0;
    policy.watchers = section.maybe::<Vec<String>>("watchers").map(|spot| spot.value);
    let place = section.place_of("ua_ids");
    let ids = match section.maybe::<Vec<UaId>>("ua_ids") {
        Some(spot) => protocols(spot, &section),
        None => vec![UaId::LOCSIP],
    };
    if ids.contains(&UaId::SIP_DIGEST) {
        let why =
            "a key of any other SIP opens locations then; OMNA has an identifier for LOCSIP alone";
        notes.warn(&place, "takes keys of SIP", why, "ua_ids = [\"0300000002\"]");
    }
    section.finish();
    Location { policy, ids, groups, domains: domains.unwrap_or_default(), longest, strict }
}

/// The groups of those names.
fn groups(spot: &Spot<Vec<String>>, peers: &[Peer], section: &Section<'_>) -> Vec<GroupId> {
    let mut found = Vec::new();
    for name in &spot.value {
        match group(name, peers) {
            Some(group) => found.push(group),
            None => {
                let what = format!("holds {name:?}, which is no peer");
                section.notes().problem(&spot.place, &what, "", &known(peers));
            }
        }
    }
    found
}

fn group(name: &str, peers: &[Peer]) -> Option<GroupId> {
    let at = peers.iter().position(|peer| *peer.name == *name)?;
    u16::try_from(at).ok().map(GroupId)
}

fn known(peers: &[Peer]) -> String {
    let names: Vec<String> = peers.iter().map(|peer| format!("{:?}", peer.name)).collect();
    format!("[{}]", names.join(", "))
}

fn pushed(mut section: Section<'_>, peers: &[Peer]) -> Pushed {
    let notes = section.notes();
    let wraps = section.word("protect", &[("auto", true), ("transport", false)]);
    let mut policy = Push { wraps, ..Push::default() };
    let profile = section.word("profile", &[("p1", "p1")]);
    let profile = push::profile(profile).unwrap_or_else(|| Arc::new(P1));
    let hour = Duration::from_secs(3600);
    let lifetime = section.within("lifetime", hour, hour / 60..=hour * 24);
    policy.rate = section.or("rate", policy.rate);
    let servers = section.table("servers");
    for (application, spot) in servers.entries::<Vec<String>>() {
        let groups = groups(&spot, peers, &servers);
        for group in &groups {
            let peer = peers.get(usize::from(group.0)).filter(|peer| !peer.by_certificate);
            let Some(peer) = peer else { continue };
            let what = format!("holds {:?}, which is known by address", peer.name);
            let why =
                "pushes come from certificates alone (level 3): nothing that it sent would pass";
            notes.problem(&spot.place, &what, why, "");
        }
        policy.servers.push((application, groups));
    }
    section.finish();
    Pushed { policy, profile, lifetime }
}

/// What is read of `[enabler.push]`.
struct Pushed {
    policy: Push,
    profile: Arc<dyn Profile>,
    lifetime: Duration,
}

fn own(section: &mut Section<'_>, peers: &[Peer]) -> Vec<OwnClass> {
    let mut classes: Vec<OwnClass> = Vec::new();
    for table in section.tables("class") {
        let (notes, line) = (table.notes(), table.place().line);
        if classes.len() == class::OWN_MAX {
            notes.say(line, format!("more than {} classes", class::OWN_MAX), "", "");
            break;
        }
        let Some(class) = one_own(table, peers) else { continue };
        if classes.iter().any(|other| other.name == class.name) {
            let what = format!("enabler.class.name = {:?} is there twice", class.name);
            notes.say(line, what, "accounts are held to classes by name", "");
        }
        classes.push(class);
    }
    classes
}

fn one_own(mut section: Section<'_>, peers: &[Peer]) -> Option<OwnClass> {
    let notes = section.notes();
    let name =
        section.need::<String>("name", "accounts are held to classes by name", "\"example\"");
    if let Some(Spot { value, place }) = &name {
        let fits =
            value.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet));
        let known = ["cpm", "sip", "reg", "push"].contains(&value.as_str())
            || class::ClassSet::named(value).is_some();
        if !fits || known {
            let why = "letters, digits, hyphens and points that no other class is called by";
            notes.problem(place, "is no name for a class", why, "\"example\"");
        }
    }
    let method = section.maybe::<String>("method").map(|Spot { value, place }| {
        let method = Method::of(value.as_bytes());
        if matches!(method, Method::Register | Method::Ack | Method::Cancel | Method::Other) {
            let why = "INVITE, MESSAGE, SUBSCRIBE and so on begin something of a class";
            notes.problem(&place, "is no method for a class", why, "\"INVITE\"");
        }
        method
    });
    let text = |section: &mut Section<'_>, key| section.maybe::<String>(key);
    let feature = text(&mut section, "feature");
    if let Some(Spot { value, place }) = &feature
        && !value.starts_with('+')
    {
        let why = "tags of one's own begin with a plus sign (RFC 3840 section 9)";
        notes.problem(place, "is no feature tag", why, &format!("\"+{value}\""));
    }
    let content_type = text(&mut section, "content_type");
    if let Some(Spot { value, place }) =
        content_type.as_ref().filter(|spot| !is_media_type(&spot.value))
    {
        let _ = value;
        notes.problem(place, "is no type", "types are written type/subtype", "\"text/plain\"");
    }
    let peer = text(&mut section, "peer").and_then(|Spot { value, place }| {
        let found = group(&value, peers);
        if found.is_none() {
            notes.problem(&place, "is no peer", "", &known(peers));
        }
        found
    });
    let value = |spot: Option<Spot<String>>| spot.map(|spot| spot.value);
    let line = Line {
        method,
        event: value(text(&mut section, "event")),
        content_type: value(content_type),
        value: value(text(&mut section, "value")),
        feature: value(feature),
        domain: value(text(&mut section, "domain")),
        group: peer,
    };
    if line == (Line { value: line.value.clone(), ..Line::default() }) {
        let why = "a request is of the class that has all of: method, event, content_type, feature (and value), domain, peer";
        let fix = "feature = \"+g.example.service\"";
        notes.say(section.place().line, "enabler.class has no sign".into(), why, fix);
    }
    let default = Demands::new(Rate::per_minute(60), 64 * 1024);
    let own = demands(&mut section, default);
    let integrity = integrity(&mut section, Integrity::Never);
    let core_level = section.within("core_level", 1, 1..=3);
    let entitlement = entitlement(&mut section);
    let dialogs = section.maybe::<Rate>("dialog_rate").map(|spot| spot.value);
    let open_max = section.maybe::<u32>("open_max").map(|spot| spot.value);
    let place = section.place_of("from");
    let from = section.maybe::<Vec<String>>("from").map(|spot| spot.value);
    let (mut from_ue, mut from_core) = (true, true);
    if let Some(from) = &from {
        (from_ue, from_core) =
            (from.iter().any(|it| it == "ue"), from.iter().any(|it| it == "core"));
        if from.is_empty() || from.iter().any(|it| it != "ue" && it != "core") {
            let why = "it is sent by UEs, by the core, or by both";
            notes.problem(&place, "is no list of sides", why, "[\"ue\", \"core\"]");
        }
    }
    section.finish();
    let demands = Demands { integrity, core_level, entitlement, dialogs, open_max, ..own };
    Some(OwnClass { name: name?.value.into(), line, policy: Own { demands, from_ue, from_core } })
}

impl Enablers {
    /// Names of the operator's own classes, in order.
    pub fn own_names(&self) -> Vec<Box<str>> {
        self.own.iter().map(|own| own.name.clone()).collect()
    }

    /// What each class is called, and what it demands.
    pub fn demands(&self) -> Vec<(String, Demands)> {
        let named = |class: Class, demands: Demands| (class.as_str().to_owned(), demands);
        let mut all = vec![named(Class::Reg, self.reg), named(Class::Sip, self.sip.demands)];
        let cpm = class::NAMED.iter().filter(|class| **class != Class::Locsip);
        all.extend(cpm.map(|class| {
            let place = Cpm::place(*class);
            named(*class, self.cpm.demands.get(place).copied().unwrap_or(self.sip.demands))
        }));
        all.push(named(Class::Locsip, self.locsip.demands));
        all.extend(self.own.iter().map(|own| (own.name.to_string(), own.policy.demands)));
        all
    }

    /// The same, those in a row that demand the same told of together.
    pub fn demands_in_short(&self) -> Vec<(String, Demands)> {
        let mut short: Vec<(String, Demands)> = Vec::new();
        for (name, demands) in self.demands() {
            match short.last_mut() {
                Some((names, before)) if *before == demands && name.contains('.') => {
                    names.push(' ');
                    names.push_str(name.rsplit('.').next().unwrap_or_default());
                }
                _ => short.push((name, demands)),
            }
        }
        short
    }

    /// The protocols whose keys open any class beside those of `[naf]`.
    pub fn ids(&self) -> impl Iterator<Item = UaId> + '_ {
        self.cpm_ids.iter().flatten().chain(&self.locsip_ids).copied()
    }
}
