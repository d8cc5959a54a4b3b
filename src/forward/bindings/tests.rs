use std::cell::Cell;

use super::*;
use crate::identity::Proof;
use crate::instant::WallTime;
use crate::transport::ListenerId;

std::thread_local! {
    /// Bindings that were looked at.
    pub(super) static LOOKED: Cell<usize> = const { Cell::new(0) };
}

fn at(seconds: u64) -> Now {
    Now { mono: Instant::from_micros(seconds * 1_000_000), wall: WallTime::from_unix(seconds) }
}

fn flow(number: u32) -> Flow {
    let [a, b, c, d] = number.to_be_bytes();
    let remote = ([10, a, b, c], 1024 + u16::from(d)).into();
    Flow { transport: Transport::Udp, listener: ListenerId(0), remote, connection: None }
}

fn caller(name: &str) -> Arc<Caller> {
    Arc::new(Caller {
        principal: Principal::new(Proof::Account, name),
        renewal: Default::default(),
        identities: Arc::from([]),
        key_name: name.into(),
        expires: None,
        strongest: 0.into(),
        rights: Default::default(),
    })
}

fn tcp(slot: u32) -> Flow {
    let id = crate::transport::ConnectionId { slot, generation: 0 };
    Flow { transport: Transport::Tcp, connection: Some(id), ..flow(slot) }
}

fn device(instance: u8, reg_id: u32) -> Option<Device> {
    Some(Device { instance: [instance; 16], reg_id: (reg_id > 0).then_some(reg_id) })
}

fn told(caller: &Arc<Caller>, pings: Option<u64>) -> Told<'_> {
    let pings = pings.map(Duration::from_secs);
    let granted = Duration::from_secs(3600);
    Told { caller, granted, service_route: None, pings, open: true }
}

fn register(bindings: &Bindings, from: u32, name: &str, now: Now) -> u64 {
    register_device(bindings, flow(from), name, None, now).binding
}

fn register_device(
    bindings: &Bindings,
    flow: Flow,
    name: &str,
    device: Option<Device>,
    now: Now,
) -> Plain {
    let caller = caller(name);
    let plain = bindings.prepare(flow, &caller, name.as_bytes(), device, now).expect("room");
    bindings.confirm(plain.binding, told(&caller, None), now);
    plain
}

fn lead(bindings: &Bindings, plain: Plain, now: Now) -> Vec<Flow> {
    bindings.lead(plain, now, |_| true).map(|lead| lead.flows.to_vec()).unwrap_or_default()
}

#[test]
fn other_flows_are_found_as_soon_among_many_registrations_as_among_few() {
    for many in [1_000, 10_000, 100_000] {
        let bindings = Bindings::new(many as usize + 2, 1);
        for number in 0..many {
            register_device(&bindings, flow(number), &format!("ue{number}"), device(1, 1), at(0));
        }
        let two = |id| register_device(&bindings, flow(many + id), "two", device(1, id), at(0));
        let (one, other) = (two(1), two(2));
        LOOKED.set(0);
        assert_eq!(lead(&bindings, one, at(1)), [flow(many + 1), flow(many + 2)]);
        assert_eq!(lead(&bindings, other, at(1)), [flow(many + 2), flow(many + 1)]);
        assert_eq!(LOOKED.get(), 6, "among {many}");
    }
}

#[test]
fn nobody_makes_us_look_at_more_than_eight_or_keep_more_than_sixty_four() {
    let bindings = Bindings::new(10_000, 1);
    let first = register_device(&bindings, flow(0), "one", device(1, 1), at(0));
    for from in 1..5_000 {
        register_device(&bindings, flow(from), "one", device(1, from + 1), at(0));
    }
    assert_eq!(bindings.len(), OF_INSTANCE_MAX, "the oldest make room");
    assert!(lead(&bindings, first, at(1)).is_empty());
    let last = register_device(&bindings, flow(9_999), "one", device(1, 9_999), at(1));
    LOOKED.set(0);
    assert_eq!(lead(&bindings, last, at(1)).len(), OF_INSTANCE_MAX);
    assert_eq!(LOOKED.get(), 1 + OF_INSTANCE_MAX);
    for from in 0..5_000_u32 {
        let [_, _, c, d] = from.to_be_bytes();
        let device = Some(Device { instance: [c.wrapping_add(d); 16], reg_id: None });
        register_device(&bindings, flow(10_000 + from), "many", device, at(0));
    }
    assert_eq!(bindings.len(), OF_INSTANCE_MAX + OF_OWNER_MAX, "of one caller and address");
    assert_eq!(bindings.kept(), (4 * bindings.len(), bindings.len()), "and nothing is left behind");
}

/// RFC 5626 sections 6 and 7: an instance and a reg-id are one binding, whatever flow they come over.
#[test]
fn a_device_that_comes_over_another_flow_leaves_the_old_one_and_no_other() {
    let bindings = Bindings::new(100, 1);
    let (one, now) = (caller("one"), at(0));
    let old = register_device(&bindings, tcp(1), "one", device(1, 1), now);
    let other_flow = register_device(&bindings, tcp(2), "one", device(1, 2), now);
    let other_instance = register_device(&bindings, tcp(3), "one", device(2, 1), now);
    let without = register_device(&bindings, tcp(4), "one", None, now);
    let foreign = register_device(&bindings, tcp(5), "two", device(1, 1), now);
    let new = bindings.prepare(tcp(6), &one, b"one", device(1, 1), now).expect("room");
    assert_eq!(lead(&bindings, old, now)[0], tcp(1), "not before the registrar has answered");
    let replaced = bindings.confirm(new.binding, told(&one, None), now);
    assert_eq!(replaced.as_slice(), [tcp(1)]);
    assert_eq!(lead(&bindings, old, now), [tcp(6), tcp(2)], "its token leads to the instance");
    assert_eq!(lead(&bindings, new, now), [tcp(6), tcp(2)]);
    assert_eq!(lead(&bindings, other_flow, now), [tcp(2), tcp(6)]);
    assert_eq!(lead(&bindings, other_instance, now), [tcp(3)]);
    assert_eq!(lead(&bindings, without, now), [tcp(4)]);
    assert_eq!(lead(&bindings, foreign, now), [tcp(5)], "whoever claims the same instance");
    assert_eq!(bindings.flow_of(old, now), None);
    bindings.confirm(old.binding, told(&one, None), now);
    assert_eq!(lead(&bindings, new, now), [tcp(1), tcp(2)], "and back again");
}

/// Section 10.5: the other flow of the instance, else none.
#[test]
fn a_closed_flow_leads_to_the_others_of_its_instance_until_it_lapses() {
    let bindings = Bindings::new(100, 1);
    let one = register_device(&bindings, tcp(1), "one", device(1, 1), at(0));
    let two = register_device(&bindings, tcp(2), "one", device(1, 2), at(0));
    let bystander = register_device(&bindings, tcp(3), "one", device(2, 1), at(0));
    let plain = register_device(&bindings, tcp(4), "one", None, at(0));
    bindings.close(&tcp(1));
    assert_eq!(lead(&bindings, one, at(1)), [tcp(2)]);
    assert_eq!(lead(&bindings, two, at(1)), [tcp(2)]);
    let owner = Principal::new(Proof::Account, "one");
    let beside = |gone: &[Flow]| bindings.lead_beside(gone, &owner, at(1), |_| true);
    assert_eq!(beside(&[tcp(1)]).map(|lead| lead.flows.to_vec()), Some(vec![tcp(2)]));
    let stranger = Principal::new(Proof::Account, "x");
    assert!(bindings.lead_beside(&[tcp(1)], &stranger, at(1), |_| true).is_none());
    bindings.close(&tcp(4));
    assert!(lead(&bindings, plain, at(1)).is_empty(), "no instance, so no other flow");
    bindings.close(&tcp(2));
    assert!(lead(&bindings, one, at(1)).is_empty() && lead(&bindings, two, at(1)).is_empty());
    assert!(beside(&[tcp(1), tcp(2)]).is_none());
    assert_eq!(lead(&bindings, bystander, at(1)), [tcp(3)]);
    let owner = caller("one");
    bindings.confirm(two.binding, Told { open: false, ..told(&owner, None) }, at(2));
    assert!(
        lead(&bindings, one, at(2)).is_empty(),
        "a 2xx that comes after the close opens nothing"
    );
    let reused = Flow {
        connection: Some(crate::transport::ConnectionId { slot: 1, generation: 1 }),
        ..tcp(1)
    };
    register_device(&bindings, reused, "two", device(1, 1), at(2));
    assert!(lead(&bindings, one, at(2)).is_empty(), "V-105: the slot is another's now");
    bindings.sweep(at(3700));
    assert_eq!((bindings.len(), bindings.kept()), (0, (0, 0)));
}

#[test]
fn what_is_taken_away_is_taken_away_on_every_flow() {
    let owner = Principal::new(Proof::Account, "one");
    let bindings = Bindings::new(100, 1);
    let one = register_device(&bindings, tcp(1), "one", device(1, 1), at(0));
    let two = register_device(&bindings, tcp(2), "one", device(1, 2), at(0));
    let ended = bindings.end(&owner, b"one", Device { instance: [1; 16], reg_id: Some(1) }, at(1));
    assert_eq!(ended.as_slice(), [tcp(1)]);
    assert!(lead(&bindings, one, at(1)).is_empty(), "taken away, not closed");
    assert_eq!(lead(&bindings, two, at(1)), [tcp(2)]);
    assert!(bindings.is_registered(&tcp(2), &owner, at(1)));
    let ended = bindings.end_all(&owner, b"one", at(1));
    assert_eq!((ended.as_slice(), bindings.len()), (&[tcp(2)][..], 0));
}

/// KA-03 on UDP: silent for half as long again, then one try.
#[test]
fn a_silent_flow_is_tried_once_and_others_come_first() {
    let bindings = Bindings::new(100, 1);
    let one = caller("one");
    let ping = |from: u32, id: u32| {
        let plain = bindings.prepare(flow(from), &one, b"one", device(1, id), at(0)).expect("room");
        bindings.confirm(plain.binding, told(&one, Some(29)), at(0));
        plain
    };
    let (first, second) = (ping(1, 1), ping(2, 2));
    assert_eq!(lead(&bindings, first, at(43)), [flow(1), flow(2)]);
    bindings.heard(&flow(2), at(43));
    assert_eq!(lead(&bindings, first, at(44)), [flow(2)], "the one that pings");
    let doubt = bindings.lead(first, at(90), |_| true).expect("both are silent: one try");
    assert_eq!((doubt.flows.as_slice(), doubt.doubtful), (&[flow(1)][..], true));
    let doubt = bindings.lead(first, at(90), |_| true).expect("the other has its try, too");
    assert_eq!((doubt.flows.as_slice(), doubt.doubtful), (&[flow(2)][..], true));
    assert!(bindings.lead(first, at(90), |_| true).is_none());
    bindings.heard(&flow(1), at(91));
    assert_eq!(lead(&bindings, second, at(91)), [flow(1)]);
    bindings.lost(&flow(1));
    bindings.heard(&flow(2), at(92));
    assert_eq!(lead(&bindings, first, at(92)), [flow(2)], "where nothing could be sent");
    assert_eq!(bindings.pings(&flow(1), at(92)).map(|(pings, _)| pings.as_secs()), Some(29));
}

#[test]
fn a_binding_leaves_nothing_behind_however_it_ends() {
    type End = fn(&Bindings, u64);
    let ends: [(&str, End); 3] = [
        ("lapsed", |bindings, _| bindings.sweep(at(3631))),
        ("closed", |bindings, _| assert!((0..100).all(|from| bindings.close(&flow(from))))),
        ("one ended, the others lapsed", |bindings, number| {
            let caller = caller("x");
            bindings.confirm(
                number,
                Told { granted: Duration::ZERO, ..told(&caller, None) },
                at(1),
            );
            assert_eq!(bindings.len(), 299);
            bindings.sweep(at(3631));
        }),
    ];
    for (what, end) in ends {
        let bindings = Bindings::new(10_000, 1);
        let mut last = 0;
        for number in 0..300_u32 {
            last = register(&bindings, number % 100, &format!("ue{}", number % 7), at(0));
        }
        assert_eq!((bindings.len(), bindings.kept()), (300, (900, 300)), "{what}: a timer each");
        end(&bindings, last);
        assert_eq!((bindings.len(), bindings.kept()), (0, (0, 0)), "{what}");
    }
}

#[test]
fn a_refresh_holds_longer_and_is_no_other_binding() {
    let bindings = Bindings::new(1, 1);
    let number = register(&bindings, 1, "one", at(0));
    assert_eq!(register(&bindings, 1, "one", at(3000)), number);
    assert_eq!(bindings.prepare(flow(2), &caller("one"), b"one", None, at(3000)), None, "no room");
    bindings.sweep(at(3700));
    assert!(bindings.get(number, at(6629), |_| ()).is_some());
    assert!(bindings.get(number, at(6630), |_| ()).is_none());
    let next = bindings.prepare(flow(2), &caller("one"), b"one", None, at(6631));
    let next = next.expect("room again");
    bindings.sweep(at(6631 + 33));
    assert_eq!((bindings.len(), next.binding > number), (0, true), "nobody answered");
}
