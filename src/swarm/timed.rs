//! A machine whose deadline is worked out only when it may have changed.

use core::ops::{Deref, DerefMut};

use crate::time::Instant;

/// Whoever gets at the machine to change it may change its deadline. Most messages concern one of a swarm's machines, and the
/// others need not even be read.
#[derive(Debug)]
pub(super) struct Timed<M> {
    machine: M,
    deadline: Option<Instant>,
    is_changed: bool,
}

impl<M> Timed<M> {
    pub(super) fn new(machine: M) -> Self {
        Self { machine, deadline: None, is_changed: true }
    }

    /// Whether the machine may have changed since the last [`Self::note_deadline`].
    pub(super) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// The machine, for what never moves its deadline.
    pub(super) fn calmly(&mut self) -> &mut M {
        &mut self.machine
    }

    /// The deadline; `poll` asks the machine for it.
    pub(super) fn deadline(&self, poll: impl FnOnce(&M) -> Option<Instant>) -> Option<Instant> {
        if self.is_changed {
            return poll(&self.machine);
        }
        debug_assert_eq!(
            self.deadline,
            poll(&self.machine),
            "the deadline was moved behind the owner's back"
        );
        self.deadline
    }

    /// Keeps the deadline until the machine changes again.
    pub(super) fn note_deadline(&mut self, poll: impl FnOnce(&M) -> Option<Instant>) {
        if core::mem::take(&mut self.is_changed) {
            self.deadline = poll(&self.machine);
        }
    }
}

impl<M> Deref for Timed<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.machine
    }
}

impl<M> DerefMut for Timed<M> {
    fn deref_mut(&mut self) -> &mut M {
        self.is_changed = true;
        &mut self.machine
    }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    #[test]
    fn a_machine_is_asked_for_its_deadline_only_after_it_may_have_changed() {
        let asked = Cell::new(0);
        let poll = |machine: &u64| {
            asked.set(asked.get() + 1);
            Some(Instant::from_secs(*machine))
        };
        let mut machine = Timed::new(5);
        assert_eq!(machine.deadline(poll), Some(Instant::from_secs(5)), "before it was noted");
        machine.note_deadline(poll);
        machine.note_deadline(poll);
        let _ = machine.calmly();
        machine.note_deadline(poll);
        assert_eq!(asked.replace(0), 2);
        *machine = 7;
        assert!(machine.is_changed());
        machine.note_deadline(poll);
        assert_eq!(asked.get(), 1);
        assert_eq!(machine.deadline(poll), Some(Instant::from_secs(7)));
    }
}
