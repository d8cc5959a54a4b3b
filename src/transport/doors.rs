//! Stage 1, doors: how many handshakes, or connections, may be under way at once.
//!
//! Takes:   the address of whoever begins one.
//! Gives:   a door, open until it is dropped.
//! Keeps:   a count for each address with a handshake under way.
//! Refuses: more from one address, or in all, than the bounds it was made with.
//! Sources: `TR-08`, `DT-11`, `V-42`, `V-45`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many handshakes may be under way: of one address (an IPv6 /64), and in all. Every worker has the same.
#[derive(Debug)]
pub struct Doors {
    of_address: usize,
    in_all: usize,
    busy: Mutex<Busy>,
}

#[derive(Debug, Default)]
struct Busy {
    by_address: HashMap<u128, usize>,
    all: usize,
}

impl Doors {
    /// Nobody has entered yet.
    pub fn new(of_address: usize, in_all: usize) -> Arc<Self> {
        Arc::new(Self { of_address, in_all, busy: Mutex::default() })
    }

    /// Handshakes under way.
    pub fn busy(&self) -> usize {
        self.lock().all
    }

    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Door> {
        let origin = origin(address);
        let mut busy = self.lock();
        let here = busy.by_address.get(&origin).copied().unwrap_or(0);
        if busy.all >= self.in_all || here >= self.of_address {
            return None;
        }
        busy.by_address.insert(origin, here.saturating_add(1));
        busy.all = busy.all.saturating_add(1);
        drop(busy);
        Some(Door { doors: Arc::clone(self), origin })
    }

    fn lock(&self) -> MutexGuard<'_, Busy> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handshake under way; dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct Door {
    doors: Arc<Doors>,
    origin: u128,
}

impl Drop for Door {
    fn drop(&mut self) {
        let mut busy = self.doors.lock();
        busy.all = busy.all.saturating_sub(1);
        if let Some(here) = busy.by_address.get_mut(&self.origin) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                busy.by_address.remove(&self.origin);
            }
        }
    }
}

/// What counts as one address: an IPv6 address by its first 64 bits, since one host owns them all.
fn origin(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() & (u128::MAX << 64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_one_address() {
        let doors = Doors::new(2, 4);
        let enter = |text: &str| doors.enter(text.parse().expect("an address"));
        let held: Vec<_> = (0..3).filter_map(|_| enter("192.0.2.1")).collect();
        assert_eq!(held.len(), 2);
        assert!(enter("::ffff:192.0.2.1").is_none(), "the same address, written otherwise");
        let subnet = [enter("2001:db8::1"), enter("2001:db8::2")];
        assert!(subnet.iter().all(Option::is_some));
        assert!(enter("192.0.2.2").is_none(), "no more in all");
        drop(held);
        assert!(enter("2001:db8::3").is_none(), "one host owns all of a /64");
        assert!(enter("2001:db8:0:1::1").is_some(), "the next /64 is another's");
        drop(subnet);
        assert!(doors.lock().by_address.is_empty(), "nothing is left behind");
    }
}
