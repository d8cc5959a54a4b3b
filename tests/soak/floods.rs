//! One kind of flood after the other, in fair weather, at five times the rate of good traffic and from thousands of
//! addresses: whatever is good is done at the first try, memory has a bound, and the log says nothing of it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sipward::client::ue::{Ue, UeSettings};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::mob::{Junk, Mob};
use crate::phones::{WAYS, Way, good, key};
use crate::programs::{metric, metrics};
use crate::verdict::resident;
use crate::world::{World, runtime};

/// Good acts in each flood at least, and how often there is one; as much junk comes five times as often.
const GOOD: usize = 160;
const GOOD_EACH: Duration = Duration::from_millis(25);
const TIMES: u32 = 5;
/// How often a flood may come at a time at which the machine is another's.
const TRIES: usize = 8;
/// Octets that the edge may grow by in a flood, beside those for each piece of junk.
const ROOM: usize = 6 << 20;
/// Lines that it may say in one: trouble begins, and ends.
const LINES: usize = 4;
/// More than a phone here asks for, and less than a greedy one.
const RATE: &str = "1500/min burst 100";

/// What happens in a flood.
#[derive(Clone, Copy)]
enum Flood {
    Of(&'static [Junk]),
    /// Users that have proved who they are, and send far more than they may.
    Greedy,
}

/// Phones that stay, and what those are made of that come and go.
struct Good {
    standing: Vec<Arc<Ue>>,
    coming: Vec<UeSettings>,
    /// Requests that were sent more than once, by their octets.
    repeated: Arc<Mutex<(HashSet<Vec<u8>>, usize)>>,
}

impl Good {
    async fn gather(world: &World) -> Self {
        let repeated = Arc::<Mutex<(HashSet<Vec<u8>>, usize)>>::default();
        let (mut standing, mut coming) = (Vec::new(), Vec::new());
        for (place, way) in WAYS.iter().enumerate() {
            for number in [place, WAYS.len() + place] {
                let keys = match way {
                    Way::Password => None,
                    _ => Some(key(world, number).await.expect("a key")),
                };
                let mut settings = world.settings(number, *way, keys.as_ref());
                let own = Arc::clone(&repeated);
                settings.trace = Some(Arc::new(move |sent, octets| {
                    let mut own = own.lock().unwrap();
                    if sent && !own.0.insert(octets.to_vec()) {
                        own.1 += 1;
                    }
                }));
                let ue = Ue::connect(settings.clone()).await.expect("a flow");
                good(ue.register(600).await).expect("a registration");
                if number == place {
                    standing.push(Arc::new(ue));
                } else {
                    good(ue.register(0).await).expect("its end");
                    coming.push(settings);
                }
            }
        }
        Self { standing, coming, repeated }
    }

    /// The act of that number: a text on a flow that stands, or somebody who comes, registers and goes.
    fn act(&self, number: usize, acts: &mut JoinSet<Result<(), String>>) {
        let (place, way) = (number / 2 % WAYS.len(), WAYS[number / 2 % WAYS.len()].name());
        if number.is_multiple_of(2) {
            let ue = Arc::clone(&self.standing[place]);
            acts.spawn(async move {
                let answer = good(ue.message("sip:echo@example.net", "all is well").await);
                answer.map(|_| ()).map_err(|wrong| format!("a text over {way}: {wrong:?}"))
            });
        } else {
            let settings = self.coming[place].clone();
            acts.spawn(async move {
                let wrong = |what: &str| format!("who comes over {way}: {what}");
                let ue = Ue::connect(settings).await.map_err(|why| wrong(&why.to_string()))?;
                for seconds in [600, 0] {
                    let answer = good(ue.register(seconds).await);
                    answer.map_err(|why| wrong(&format!("{why:?}")))?;
                }
                Ok(())
            });
        }
    }
}

/// Users over their rate; how often they were refused, and how often they asked.
async fn overdo(world: Arc<World>, until: Arc<std::sync::atomic::AtomicBool>) -> [usize; 2] {
    use std::sync::atomic::Ordering;
    let (mut pace, mut counts, mut asked) = (interval(GOOD_EACH / TIMES), [0, 0], JoinSet::new());
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut greedy = Vec::new();
    for number in [12, 13] {
        let ue = Ue::connect(world.settings(number, Way::Password, None)).await.expect("a flow");
        good(ue.register(600).await).expect("a registration");
        greedy.push(Arc::new(ue));
    }
    while !until.load(Ordering::Relaxed) || counts[1] < GOOD * TIMES as usize {
        pace.tick().await;
        let ue = Arc::clone(&greedy[counts[1] % greedy.len()]);
        counts[1] += 1;
        asked.spawn(async move { good(ue.message("sip:echo@example.net", "more").await).is_err() });
    }
    counts[0] = asked.join_all().await.into_iter().filter(|refused| *refused).count();
    for ue in greedy {
        let _ = ue.register(0).await;
    }
    counts
}

/// Lets one flood come, and good traffic beside it: how much junk arrived, and what went wrong.
fn flood(runtime: &Runtime, world: &Arc<World>, of: Flood, all: &Good) -> (usize, Vec<String>) {
    let mob = match of {
        Flood::Of(kinds) => Some(Mob::gather(runtime, world, kinds, GOOD_EACH / TIMES)),
        Flood::Greedy => None,
    };
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let greedy = matches!(of, Flood::Greedy)
        .then(|| runtime.spawn(overdo(Arc::clone(world), Arc::clone(&over))));
    let mut acts = JoinSet::new();
    runtime.block_on(async {
        let mut pace = interval(GOOD_EACH);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut number = 0;
        let enough = || mob.as_ref().is_none_or(|mob| mob.count() >= GOOD * TIMES as usize);
        while number < GOOD || !enough() {
            pace.tick().await;
            let _inside = runtime.enter();
            all.act(number, &mut acts);
            number += 1;
        }
    });
    let done = runtime.block_on(acts.join_all());
    let mut faults: Vec<String> = done.into_iter().filter_map(Result::err).collect();
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut junk = mob.map_or(0, |mob| mob.disperse(runtime).sum());
    if let Some(greedy) = greedy {
        let [refused, asked] = runtime.block_on(greedy).expect("they ended well");
        if refused * 2 < asked {
            faults.push(format!("of {asked} requests of the greedy, only {refused} were refused"));
        }
        junk = asked;
    }
    (junk, faults)
}

/// What was refused until now, and what was ours to regret.
fn refusals(world: &World) -> Vec<String> {
    let names = ["sipward_refusals_total", "sipward_faults_total", "sipward_load"];
    let page = metrics(world.page);
    let rows = page.lines().filter(|row| names.iter().any(|name| row.starts_with(name)));
    rows.filter(|row| !row.ends_with(" 0")).map(str::to_owned).collect()
}

/// The same, on a machine that runs the edge: one that does not makes it shed what is good, too (V-92), and tells nothing
/// of floods. Then it comes once more.
fn in_time(runtime: &Runtime, world: &Arc<World>, of: Flood, all: &Good) -> (usize, Vec<String>) {
    let (load, shed) = ("sipward_load", "sipward_refusals_total{refusal=\"NoTime\"}");
    for _ in 1..TRIES {
        while metric(world.page, load) > 0 {}
        let before = metric(world.page, shed);
        let (junk, faults) = flood(runtime, world, of, all);
        if faults.is_empty() || metric(world.page, shed) == before {
            return (junk, faults);
        }
    }
    flood(runtime, world, of, all)
}

#[test]
fn good_traffic_goes_on_in_each_flood() {
    let world = Arc::new(World::start("floods", RATE));
    let runtime = runtime();
    let all = runtime.block_on(Good::gather(&world));
    // What the first of everything takes is not the flood's.
    let (_, faults) = in_time(&runtime, &world, Flood::Of(Junk::ALL), &all);
    assert!(faults.is_empty(), "all kinds at once: {faults:?}");
    for (what, of, each_max) in [
        ("REGISTER without credentials", Flood::Of(&[Junk::Register]), 1 << 10),
        ("garbage", Flood::Of(&[Junk::Garbage]), 1 << 10),
        ("INVITE without credentials", Flood::Of(&[Junk::Invite]), 1 << 10),
        ("half a message on TCP", Flood::Of(&[Junk::HalfTcp]), 8 << 10),
        ("half a hello of TLS", Flood::Of(&[Junk::HalfTls]), 16 << 10),
        ("half a handshake of DTLS", Flood::Of(&[Junk::HalfDtls]), 64 << 10),
        ("users over their rate", Flood::Greedy, 1 << 10),
    ] {
        let process = world.edge.lock().unwrap().id();
        let (before, lines) = (resident(process), world.edge.lock().unwrap().so_far());
        let (junk, faults) = in_time(&runtime, &world, of, &all);
        let (after, said) = (resident(process), world.edge.lock().unwrap().so_far() - lines);
        let (grown, repeated) =
            (after.saturating_sub(before), std::mem::take(&mut all.repeated.lock().unwrap().1));
        crate::say(&format!(
            "{what:<30}{junk:>6} came, {:>6} kB more, {said} lines, {repeated} of ours sent again",
            grown / 1024
        ));
        let refused = refusals(&world);
        assert!(faults.is_empty(), "{what}: {} failed: {faults:?} {refused:?}", faults.len());
        assert!(junk >= GOOD * TIMES as usize, "{what}: only {junk} came");
        assert!(grown <= ROOM + junk * each_max, "{what}: {grown} octets more");
        assert!(said <= LINES, "{what}: {said} lines");
    }
}
