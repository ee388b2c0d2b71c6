//! Things in places that they keep.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

/// A table of large things that come and go: each is in a box, so that a vacant place costs little, and the lowest place is
/// taken first, so that a rush leaves no trace.
#[derive(Clone, Debug)]
pub(crate) struct Table<T> {
    places: Vec<Option<Box<T>>>,
    /// The highest first.
    vacant: Vec<u32>,
}

impl<T> Table<T> {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), vacant: Vec::new() }
    }

    /// Puts `item` into the lowest vacant place, and returns which.
    pub(crate) fn insert(&mut self, item: T) -> u32 {
        let item = Some(Box::new(item));
        if let Some(place) = self.vacant.pop() {
            self.places[place as usize] = item;
            return place;
        }
        if self.places.len() == self.places.capacity() {
            self.places.reserve_exact(self.places.len() / 4 + 2);
        }
        self.places.push(item);
        self.places.len() as u32 - 1
    }

    /// Takes what is in `place` out.
    pub(crate) fn remove(&mut self, place: u32) -> Option<T> {
        let item = self.places.get_mut(place as usize)?.take()?;
        let rank = self.vacant.partition_point(|&other| other > place);
        self.vacant.insert(rank, place);
        while self.places.last().is_some_and(Option::is_none) {
            self.places.pop();
            self.vacant.remove(0);
        }
        let room = self.places.len() + self.places.len() / 4 + 2;
        if self.places.capacity() > room + room / 4 {
            self.places.shrink_to(room);
            self.vacant.shrink_to_fit();
        }
        Some(*item)
    }

    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        self.places.get(place as usize)?.as_deref()
    }

    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.places.get_mut(place as usize)?.as_deref_mut()
    }

    /// What is there, in the order of the places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten().map(|item| &**item)
    }

    /// Places, vacant ones included.
    #[cfg(test)]
    pub(crate) fn places(&self) -> usize {
        self.places.len()
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.places.capacity()
    }
}

/// Of a place that is taken.
impl<T> Index<u32> for Table<T> {
    type Output = T;

    fn index(&self, place: u32) -> &T {
        self.get(place).expect("the place is taken")
    }
}

impl<T> IndexMut<u32> for Table<T> {
    fn index_mut(&mut self, place: u32) -> &mut T {
        self.get_mut(place).expect("the place is taken")
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_lowest_place_is_taken_and_vacant_ends_go(
            steps in prop::collection::vec(prop::option::of(0u32..20), 0..200),
        ) {
            let mut table = Table::new();
            let mut model = BTreeMap::new();
            for (step, removed) in steps.into_iter().enumerate() {
                match removed {
                    Some(place) => prop_assert_eq!(table.remove(place), model.remove(&place)),
                    None => {
                        let lowest = (0..).find(|place| !model.contains_key(place)).unwrap();
                        prop_assert_eq!(table.insert(step), lowest);
                        model.insert(lowest, step);
                    }
                }
                prop_assert!(table.iter().eq(model.values()));
                let highest = model.last_key_value().map_or(0, |(&place, _)| place as usize + 1);
                prop_assert_eq!(table.places(), highest);
                let room = highest + highest / 4 + 2;
                prop_assert!(table.capacity() <= room + room / 4);
                for place in 0..20 {
                    prop_assert_eq!(table.get(place), model.get(&place));
                }
            }
        }
    }
}
