//! What runs, in which order: each workload over each transport, all anchors of it side by side.

use std::path::Path;
use std::time::Duration;

use super::edge::{self, Keys, Setup};
use super::flood::{Flood, Junk};
use super::lab::{Anchor, Certificate, Folder, KeyKind, Plan, Transport};
use super::load::{Course, Errand, Load, Pace};
use super::measure::{Meter, await_quiet};
use super::options::{Options, Source, Who, Workload};
use super::population::{self, Credentials};
use super::report::{Ratio, Row};
use super::slices::{Found, mib, turns};
use super::visits::Visitors;
use super::{floor, kamailio};

/// The bench as it was asked for.
pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) folder: Folder,
    /// Rows so far.
    pub(crate) rows: Vec<Row>,
}

/// One anchor with the load before it.
struct Bay {
    load: Load,
    anchor: Anchor,
    plan: Plan,
    found: Found,
}

/// Time at the start of a slice that does not count.
const WARM: Duration = Duration::from_millis(200);
/// Handshakes at once.
const HANDSHAKES: usize = 16;
/// A million accounts may cost so much more than a thousand.
const FLAT: f64 = 1.10;

impl Bench {
    /// Everything.
    pub(crate) fn run(&mut self) {
        for workload in self.options.workloads.clone() {
            match workload.errand() {
                Some(errand) => {
                    for transport in self.options.transports.clone() {
                        self.traffic(errand, transport);
                    }
                }
                None => match workload {
                    Workload::Flood => self.floods(),
                    Workload::Handshake => self.handshakes(),
                    Workload::Idle => self.idle(),
                    _ => self.scale(),
                },
            }
        }
    }

    /// One kind of transaction over one transport.
    fn traffic(&mut self, errand: Errand, transport: Transport) {
        let (name, over) = (errand.as_str(), transport.as_str());
        let mut anchors = self.options.anchors.clone();
        anchors.retain(|who| *who != Who::Kamailio || !transport.has_keys());
        let mut bays = self.bays(name, transport, &anchors, |bench, who, plan, certificate| {
            bench.bay(who, errand, plan, certificate, false)
        });
        self.condition(&mut bays);
        for turn in self.turns(bays.len()) {
            self.slice(&mut bays[turn]);
        }
        self.report(bays.iter().map(|bay| &bay.found).collect(), name, over);
    }

    /// Good MESSAGEs while junk arrives. The floor cannot tell one from the other, so it has no part in it.
    fn floods(&mut self) {
        let anchors: Vec<Who> =
            self.options.anchors.iter().copied().filter(|who| *who != Who::Floor).collect();
        for junk in [Junk::Register, Junk::Garbage, Junk::Mix] {
            let name = format!("flood, {}", junk.as_str());
            let mut bays =
                self.bays(&name, Transport::Udp, &anchors, |bench, who, plan, certificate| {
                    bench.bay(who, Errand::Message, plan, certificate, true)
                });
            for turn in self.turns(bays.len()) {
                let bay = &mut bays[turn];
                let course = self.course(Pace::Rate(self.options.rate));
                let flood = Flood::new(bay.plan.door(), junk, self.options.flood_rate);
                let Ok(mut flood) = flood else { continue };
                let outcome = bay.load.run(course, &bay.anchor.meter, Some(&mut flood));
                bay.found.add_flooded(&outcome, &bay.anchor);
            }
            let over = Transport::Udp.as_str();
            self.rows.extend(bays.iter().map(|bay| bay.found.flood_row(&name, over)));
        }
    }

    /// Full handshakes with both kinds of certificate.
    fn handshakes(&mut self) {
        for kind in [KeyKind::Ecdsa, KeyKind::Rsa] {
            let name = format!("handshake, {}", kind.as_str());
            let mut doors = self.doors(&name, kind);
            let course = Course {
                time: self.options.condition() / 2,
                ..self.course(Pace::Window(HANDSHAKES))
            };
            for (anchor, visitors, _) in &mut doors {
                visitors.shake_hands(HANDSHAKES, course, &anchor.meter);
            }
            let course = self.course(Pace::Window(HANDSHAKES));
            for turn in self.turns(doors.len()) {
                let (anchor, visitors, found) = &mut doors[turn];
                let outcome = visitors.shake_hands(HANDSHAKES, course, &anchor.meter);
                found.add_saturated(&outcome, anchor);
            }
            let found = doors.iter().map(|(_, _, found)| found).collect();
            self.report(found, &name, Transport::Tls.as_str());
        }
    }

    /// Memory between two counts of flows that say nothing.
    fn idle(&mut self) {
        let (few, many) = if self.options.quick { (200, 800) } else { (2000, 12_000) };
        let over = Transport::Tls.as_str();
        let mut first: Option<f64> = None;
        let mut kamailio: Option<f64> = None;
        for (anchor, mut visitors, found) in self.doors("idle", KeyKind::Ecdsa) {
            let who = found.who;
            let row = match slope(&mut visitors, &anchor.meter, few, many) {
                Ok((octets, memory, lost)) => {
                    let first = *first.get_or_insert(octets);
                    if who == Who::Kamailio {
                        kamailio = Some(octets);
                    }
                    let kamailio = kamailio.filter(|_| who == Who::Sipward);
                    let mut notes = vec![format!("{many} flows")];
                    if lost > 0 {
                        notes.push(format!("{lost} flows lost"));
                    }
                    Row {
                        workload: "idle".into(),
                        transport: over,
                        anchor: who.as_str(),
                        figure: Some(octets),
                        unit: "octets/flow",
                        ratio: Some(Ratio::exact(octets / first)),
                        to_kamailio: kamailio.map(|other| Ratio::exact(octets / other)),
                        memory_mib: Some(mib(memory)),
                        valid: lost == 0,
                        notes,
                        ..Row::default()
                    }
                }
                Err(why) => Row::failed("idle", over, who.as_str(), &why),
            };
            self.rows.push(row);
        }
    }

    /// MESSAGE with few accounts and with many: the cost must be the same.
    fn scale(&mut self) {
        let many = if self.options.quick { 100_000 } else { 1_000_000 };
        let counts = [1000, many];
        let mut bays = Vec::new();
        for count in counts {
            let plan = Plan::new(Transport::Udp);
            self.say(&format!("scale: sipward with {count} accounts"));
            let bay = self.folder.certificate(KeyKind::Ecdsa).and_then(|certificate| {
                let (keys, algorithm) = (Keys::Accounts(count), self.options.digest);
                let setup = Setup {
                    program: Path::new(edge::SIPWARD),
                    keys,
                    algorithm,
                    wary: false,
                    workers: 1,
                    bridges: false,
                };
                let ues = self.options.ues();
                let started = edge::start(&plan, setup, ues, &certificate, &self.folder)?;
                self.loaded(Who::Sipward, Errand::Message, plan, started)
            });
            match bay {
                Ok(bay) => bays.push(bay),
                Err(why) => {
                    let name = format!("scale, {count} accounts");
                    self.rows.push(Row::failed(&name, "UDP", Who::Sipward.as_str(), &why));
                    return;
                }
            }
        }
        self.condition(&mut bays);
        for turn in self.turns(bays.len()) {
            self.slice(&mut bays[turn]);
        }
        let first = &bays[0].found;
        for (bay, count) in bays.iter().zip(counts) {
            let mut row = bay.found.row(&format!("scale, {count} accounts"), "UDP", &[first]);
            if row.ratio.is_some_and(|ratio| ratio.value > FLAT) {
                row.notes.push("not flat within 10 %".into());
            }
            self.rows.push(row);
        }
    }

    /// Starts the anchors, each with what `make` puts before it; who does not start has a row that says so.
    fn bays<T>(
        &mut self,
        name: &str,
        transport: Transport,
        anchors: &[Who],
        make: impl Fn(&Self, Who, Plan, &Certificate) -> Result<T, String>,
    ) -> Vec<T> {
        self.bays_with(name, transport, KeyKind::Ecdsa, anchors, make)
    }

    fn bays_with<T>(
        &mut self,
        name: &str,
        transport: Transport,
        kind: KeyKind,
        anchors: &[Who],
        make: impl Fn(&Self, Who, Plan, &Certificate) -> Result<T, String>,
    ) -> Vec<T> {
        self.say(&format!("{name} over {}", transport.as_str()));
        let mut made = Vec::new();
        for who in anchors {
            let plan = Plan::new(transport);
            let one = self.folder.certificate(kind);
            match one.and_then(|certificate| make(self, *who, plan, &certificate)) {
                Ok(one) => made.push(one),
                Err(why) => {
                    self.rows.push(Row::failed(name, transport.as_str(), who.as_str(), &why));
                }
            }
        }
        made
    }

    /// The anchors with visitors before their TLS door.
    fn doors(&mut self, name: &str, kind: KeyKind) -> Vec<(Anchor, Visitors, Found)> {
        let anchors = self.options.anchors.clone();
        self.bays_with(name, Transport::Tls, kind, &anchors, |bench, who, plan, certificate| {
            let (mut anchor, _) = bench.anchor(who, &plan, certificate, false)?;
            let mut visitors = Visitors::new(&plan).map_err(|error| error.to_string())?;
            visitors.stay(1)?;
            anchor.settle();
            Ok((anchor, visitors, Found::new(who)))
        })
    }

    fn bay(
        &self,
        who: Who,
        errand: Errand,
        plan: Plan,
        certificate: &Certificate,
        wary: bool,
    ) -> Result<Bay, String> {
        let started = self.anchor(who, &plan, certificate, wary)?;
        self.loaded(who, errand, plan, started)
    }

    fn loaded(
        &self,
        who: Who,
        errand: Errand,
        plan: Plan,
        (mut anchor, credentials): Started,
    ) -> Result<Bay, String> {
        let ues = population::ues(&credentials);
        let mut load = Load::new(errand, &plan, ues).map_err(|error| error.to_string())?;
        load.prepare().map_err(|why| format!("{why}\n{}", anchor.said()))?;
        anchor.settle();
        Ok(Bay { load, anchor, plan, found: Found::new(who) })
    }

    fn anchor(
        &self,
        who: Who,
        plan: &Plan,
        certificate: &Certificate,
        wary: bool,
    ) -> Result<Started, String> {
        let ues = self.options.ues();
        match who {
            Who::Floor => {
                let credentials = (0..ues).map(|number| (number, population::drawn(number)));
                let anchor = floor::start(plan, certificate, &self.folder)?;
                Ok((anchor, credentials.collect()))
            }
            Who::Kamailio => {
                kamailio::start(plan, self.options.digest, ues, certificate, &self.folder)
            }
            Who::Sipward | Who::Bridge | Who::Pair | Who::Before => {
                let program = match (who, &self.options.before) {
                    (Who::Before, Some(program)) => program.as_path(),
                    (Who::Before, None) => return Err("--before names no program".into()),
                    _ => Path::new(edge::SIPWARD),
                };
                let keys = match self.options.credentials {
                    Source::Bootstrapped => Keys::Bootstrapped(ues),
                    Source::Accounts => Keys::Accounts(ues),
                };
                let workers = if who == Who::Pair { 2 } else { 1 };
                let (algorithm, bridges) = (self.options.digest, who == Who::Bridge);
                let setup = Setup { program, keys, algorithm, wary, workers, bridges };
                edge::start(plan, setup, ues, certificate, &self.folder)
            }
        }
    }

    /// Full load that does not count.
    fn condition(&self, bays: &mut [Bay]) {
        let course = self.course(Pace::Window(self.options.window));
        let course = Course { time: self.options.condition(), ..course };
        for bay in bays {
            bay.load.run(course, &bay.anchor.meter, None);
        }
    }

    /// One turn of one anchor: its core full, then at a fixed rate.
    fn slice(&self, bay: &mut Bay) {
        let course = self.course(Pace::Window(self.options.window));
        let outcome = bay.load.run(course, &bay.anchor.meter, None);
        bay.found.add_saturated(&outcome, &bay.anchor);
        let course = self.course(Pace::Rate(self.options.rate));
        let outcome = bay.load.run(course, &bay.anchor.meter, None);
        bay.found.add_paced(&outcome);
    }

    /// Whose turn it is, slice after slice; each begins when the machine is quiet, if it ever is.
    fn turns(&self, anchors: usize) -> impl Iterator<Item = usize> + use<> {
        let (slices, patience) = (self.options.slices, self.options.patience());
        let all = (0..slices).flat_map(move |round| turns(anchors, round));
        all.inspect(move |_| await_quiet(patience))
    }

    fn course(&self, pace: Pace) -> Course {
        Course { pace, warm: WARM, time: self.options.time() }
    }

    fn report(&mut self, found: Vec<&Found>, name: &str, over: &'static str) {
        self.rows.extend(found.iter().map(|one| one.row(name, over, &found)));
    }

    fn say(&self, text: &str) {
        eprintln!("{text}");
    }
}

/// A running anchor, and the credentials that it knows: number and name of each.
type Started = (Anchor, Vec<(usize, Credentials)>);

/// Octets of one flow, memory at the end, and flows that did not stay.
fn slope(
    visitors: &mut Visitors,
    meter: &Meter,
    few: usize,
    many: usize,
) -> Result<(f64, u64, u64), String> {
    let settle = Duration::from_millis(700);
    visitors.stay(few)?;
    visitors.linger(settle);
    let before = meter.memory();
    visitors.stay(many)?;
    let lost = visitors.linger(settle);
    let after = meter.memory();
    let octets = after.saturating_sub(before) as f64 / (many - few) as f64;
    Ok((octets, after, lost))
}
