//! Stage 7, back to back: requests outside dialogs that are under way, so that one which comes by two ways is known.
//!
//! A core that forks sends one request to many UEs by way of us. That is no merging: we stand for each of them, so the
//! Request-URI is part of what makes two requests the same.
//!
//! Takes:   From tag, Call-ID, CSeq and Request-URI of each request, and who sent it.
//! Gives:   `Ours`, which holds the place as long as the transaction lasts.
//! Keeps:   an entry for each of them; they are counted among the transactions already.
//! Refuses: a request that is there: it was forked, and merges here.
//! Sources: RFC 3261 section 8.2.2.2; `TX-10`, `B2-03`.

use std::sync::Arc;

use dashmap::Entry;

use crate::association::dialog::{DialogKey, Keyer};
use crate::hashing::Hashed;
use crate::layered::Layered;
use crate::wire::Message;

/// All that are under way, on any worker.
#[derive(Clone, Debug, Default)]
pub struct Ongoing(Arc<Layered<DialogKey, (), Hashed>>);

/// One of them; it ends with its transaction.
#[derive(Debug)]
pub(in crate::forward) struct Ours {
    all: Ongoing,
    key: DialogKey,
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.all.0.remove(&self.key);
    }
}

impl Ours {
    /// The same place among others.
    pub(in crate::forward) fn twin(&self, all: &Ongoing) -> Self {
        Self { all: all.clone(), key: self.key }
    }
}

impl Ongoing {
    /// Places over those of `self`, which stay taken.
    pub(in crate::forward) fn trial(&self) -> Self {
        let beneath = Arc::clone(&self.0);
        let copy = move |key: &DialogKey| beneath.get(key).map(|_| ());
        Self(Arc::new(Layered::over(Hashed::default(), copy)))
    }

    /// Takes the place of a request of `sender`; `None` if it is taken.
    pub(in crate::forward) fn begin(
        &self,
        keyer: &Keyer,
        message: &Message,
        sender: &[u8],
    ) -> Option<Ours> {
        let number = message.cseq().map_or(0, |cseq| cseq.number).to_be_bytes();
        let uri = message.request_uri();
        let what = [&number[..], message.method_octets(), b" ", uri, b" ", sender].concat();
        let key = keyer.dialog(message.call_id(), message.from_tag(), &what);
        match self.0.entry(key) {
            Entry::Occupied(_) => None,
            Entry::Vacant(place) => {
                place.insert(());
                Some(Ours { all: self.clone(), key })
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
