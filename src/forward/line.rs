//! Stage 7, a waiting line: first in, first out, and each found by its number meanwhile.
//!
//! Takes:   whatever lingers.
//! Gives:   [`Line`].
//! Keeps:   pieces of 512; nothing is moved when it grows, so that no request waits for it.
//! Refuses: nothing; the proxy bounds what it puts in.
//! Sources: none.

use std::collections::VecDeque;

/// A queue in pieces.
#[derive(Debug)]
pub(super) struct Line<T> {
    pieces: VecDeque<VecDeque<T>>,
    /// The number of the first.
    first: u64,
    /// The number of the next one to come.
    end: u64,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { pieces: VecDeque::new(), first: 0, end: 0 }
    }
}

impl<T> Line<T> {
    /// Puts `item` at the end; gives the number it is found by, which no other gets.
    pub(super) fn push(&mut self, item: T) -> u64 {
        if self.end.is_multiple_of(PIECE) {
            self.pieces.push_back(VecDeque::with_capacity(usize::try_from(PIECE).unwrap_or(0)));
        }
        if let Some(last) = self.pieces.back_mut() {
            last.push_back(item);
        }
        let number = self.end;
        self.end = self.end.saturating_add(1);
        number
    }

    /// Takes the first.
    pub(super) fn pop(&mut self) -> Option<T> {
        let item = self.pieces.front_mut()?.pop_front()?;
        self.first = self.first.saturating_add(1);
        if self.first.is_multiple_of(PIECE) {
            self.pieces.pop_front();
        }
        if self.first == self.end {
            // Nothing is left: nothing is kept.
            (self.first, self.end) =
                (self.first.next_multiple_of(PIECE), self.end.next_multiple_of(PIECE));
            self.pieces = VecDeque::new();
        }
        Some(item)
    }

    /// The one with that number, if it is still there.
    pub(super) fn get(&self, number: u64) -> Option<&T> {
        let ahead = number.checked_sub(self.first.saturating_sub(self.first % PIECE))?;
        let before = if ahead < PIECE { self.first % PIECE } else { 0 };
        let piece = self.pieces.get(usize::try_from(ahead / PIECE).ok()?)?;
        piece.get(usize::try_from((ahead % PIECE).checked_sub(before)?).ok()?)
    }

    /// The first.
    pub(super) fn front(&self) -> Option<&T> {
        self.pieces.front()?.front()
    }

    /// The last.
    pub(super) fn back(&self) -> Option<&T> {
        self.pieces.back()?.back()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.end.saturating_sub(self.first)).unwrap_or(usize::MAX)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.first == self.end
    }
}

/// Items of a piece.
const PIECE: u64 = 512;

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_queue_whose_items_are_found_by_number(
            steps in prop::collection::vec((0..1500_u64, 0..1500_u64), 1..8),
        ) {
            let (mut line, mut model) = (Line::default(), VecDeque::new());
            let mut item = 0_u64;
            for (pushed, popped) in steps {
                for _ in 0..pushed {
                    item += 1;
                    let number = line.push(item);
                    prop_assert!(model.back().is_none_or(|(last, _)| *last < number));
                    model.push_back((number, item));
                }
                for _ in 0..popped {
                    let expected = model.pop_front();
                    prop_assert_eq!(line.pop(), expected.map(|(_, item)| item));
                    if let Some((number, _)) = expected {
                        prop_assert_eq!(line.get(number), None);
                    }
                }
                prop_assert_eq!(line.len(), model.len());
                prop_assert_eq!(line.front(), model.front().map(|(_, item)| item));
                prop_assert_eq!(line.back(), model.back().map(|(_, item)| item));
                for (number, item) in &model {
                    prop_assert_eq!(line.get(*number), Some(item));
                }
                prop_assert_eq!(line.is_empty(), line.pieces.is_empty());
            }
        }
    }
}
