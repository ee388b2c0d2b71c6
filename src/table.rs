//! Named things in places that they keep.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::{Index, IndexMut};

/// A table of large things that come and go, each with a name of its own. Each is in a box, so that a vacant place costs
/// little, and the lowest place is taken first, so that a rush leaves no trace. Few are found by a look at all names, which lie
/// side by side; many through an index.
#[derive(Clone, Debug)]
pub(crate) struct Table<P, T> {
    places: Vec<Option<(P, Box<T>)>>,
    /// The highest first.
    vacant: Vec<u32>,
    /// All names, or none while there are few places.
    index: BTreeMap<P, u32>,
}

/// With more places there is an index.
const FEW_MAX: usize = 32;

impl<P: Copy + Ord, T> Table<P, T> {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), vacant: Vec::new(), index: BTreeMap::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.vacant.len()
    }

    /// Puts `item` into the lowest vacant place, and returns which. Nothing else has this name.
    pub(crate) fn insert(&mut self, name: P, item: T) -> u32 {
        debug_assert!(self.place(&name).is_none(), "two have one name");
        let item = Some((name, Box::new(item)));
        let place = match self.vacant.pop() {
            Some(place) => {
                self.places[place as usize] = item;
                place
            }
            None => {
                if self.places.len() == self.places.capacity() {
                    self.places.reserve_exact(self.places.len() / 4 + 2);
                }
                self.places.push(item);
                self.places.len() as u32 - 1
            }
        };
        if !self.index.is_empty() {
            self.index.insert(name, place);
        } else if self.places.len() > FEW_MAX {
            let names = (0..).zip(&self.places);
            self.index = names.filter_map(|(place, item)| Some((item.as_ref()?.0, place))).collect();
        }
        place
    }

    /// Takes what is in `place` out.
    pub(crate) fn remove(&mut self, place: u32) -> Option<T> {
        let (name, item) = self.places.get_mut(place as usize)?.take()?;
        self.index.remove(&name);
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
        if self.places.len() <= FEW_MAX / 2 {
            self.index.clear();
        }
        Some(*item)
    }

    /// Where the thing of this name is.
    #[inline]
    pub(crate) fn place(&self, name: &P) -> Option<u32> {
        if !self.index.is_empty() {
            return self.index.get(name).copied();
        }
        let has_name = |item: &Option<(P, Box<T>)>| matches!(item, Some((other, _)) if other == name);
        self.places.iter().position(has_name).map(|place| place as u32)
    }

    pub(crate) fn name(&self, place: u32) -> Option<P> {
        self.places.get(place as usize)?.as_ref().map(|(name, _)| *name)
    }

    pub(crate) fn get(&self, place: u32) -> Option<&T> {
        self.places.get(place as usize)?.as_ref().map(|(_, item)| &**item)
    }

    pub(crate) fn get_mut(&mut self, place: u32) -> Option<&mut T> {
        self.places.get_mut(place as usize)?.as_mut().map(|(_, item)| &mut **item)
    }

    /// What is there, in the order of the places.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&P, &T)> {
        self.places.iter().flatten().map(|(name, item)| (name, &**item))
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
impl<P: Copy + Ord, T> Index<u32> for Table<P, T> {
    type Output = T;

    fn index(&self, place: u32) -> &T {
        self.get(place).expect("the place is taken")
    }
}

impl<P: Copy + Ord, T> IndexMut<u32> for Table<P, T> {
    fn index_mut(&mut self, place: u32) -> &mut T {
        self.get_mut(place).expect("the place is taken")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_lowest_place_is_taken_and_vacant_ends_go(
            steps in prop::collection::vec((any::<bool>(), 0u32..80), 0..400),
        ) {
            let mut table = Table::new();
            let mut model = BTreeMap::new();
            for (step, (goes, place)) in (0u64..).zip(steps) {
                // Now more come, now more go.
                let goes = goes && step / 100 % 2 == 0 || !goes && step / 100 % 2 == 1 && place > 9;
                if goes {
                    prop_assert_eq!(table.remove(place % 50), model.remove(&(place % 50)));
                } else {
                    let lowest = (0..).find(|place| !model.contains_key(place)).unwrap();
                    prop_assert_eq!(table.insert(step, step), lowest);
                    model.insert(lowest, step);
                }
                prop_assert!(table.iter().eq(model.values().map(|step| (step, step))));
                prop_assert_eq!(table.len(), model.len());
                let highest = model.last_key_value().map_or(0, |(&place, _)| place as usize + 1);
                prop_assert_eq!(table.places(), highest);
                let room = highest + highest / 4 + 2;
                prop_assert!(table.capacity() <= room + room / 4);
                prop_assert!(highest <= FEW_MAX || table.index.len() == model.len());
                prop_assert!(highest > FEW_MAX / 2 || table.index.is_empty());
                for place in 0..60 {
                    let step = model.get(&place);
                    prop_assert_eq!((table.get(place), table.name(place)), (step, step.copied()));
                }
                for (&place, step) in &model {
                    prop_assert_eq!(table.place(step), Some(place));
                }
                prop_assert_eq!(table.place(&(step + 1)), None);
            }
        }
    }
}
