//! Who speaks: the levels that the application measures become turns.

use core::time::Duration;

use crate::time::Instant;

/// Nothing is heard.
pub(super) const SILENT: u8 = 0;
/// Something is heard that may become speech.
pub(super) const AUDIBLE: u8 = 1;
/// From here on somebody speaks.
pub(super) const SPEAKING: u8 = 2;

/// A voice must be heard for this long to become a turn: a cough is none.
const ATTACK: Duration = Duration::from_millis(300);

/// A turn is over when nothing was heard for this long: breathing is no end.
const RELEASE: Duration = Duration::from_secs(2);

/// Levels come every 100 ms. After a longer gap, an attack begins anew.
const GAP: Duration = Duration::from_millis(250);

/// While somebody speaks its loudness is told anew at most this often.
const LOUDNESS_INTERVAL: Duration = Duration::from_secs(1);

/// The voice of this participant.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Voice {
    state: u8,
    began: Option<Instant>,
    heard: Option<Instant>,
    told: Option<Instant>,
    loudest: u8,
}

impl Voice {
    /// What is to be told of it.
    pub(super) fn state(&self) -> u8 {
        self.state
    }

    /// Takes a level, 0 for silence; true if what is to be told has changed.
    pub(super) fn hear(&mut self, level: u8, now: Instant) -> bool {
        let before = self.state;
        if level > 0 {
            let gap = self.heard.is_none_or(|at| now - at > GAP);
            if self.state == SILENT || self.state == AUDIBLE && gap {
                self.began = Some(now);
                self.state = AUDIBLE;
            }
            self.heard = Some(now);
            self.loudest = self.loudest.max(level);
            let attacked = self.began.is_some_and(|at| now - at >= ATTACK);
            let due = self.told.is_none_or(|at| now - at >= LOUDNESS_INTERVAL);
            if self.state == AUDIBLE && attacked || self.state >= SPEAKING && due {
                self.state = SPEAKING + self.loudest / 64;
                self.told = Some(now);
                self.loudest = 0;
            }
        }
        self.state != before
    }

    /// Ends what is over; true if what is to be told has changed.
    pub(super) fn handle_timeout(&mut self, now: Instant) -> bool {
        let over = self.poll_timeout().is_some_and(|at| at <= now);
        if over {
            *self = Self::default();
        }
        over
    }

    /// When the turn is over, unless more is heard.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.heard.filter(|_| self.state > SILENT).map(|at| at + RELEASE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1_000)
    }

    #[test]
    fn a_turn_has_an_attack_and_a_release() {
        let mut voice = Voice::default();
        assert!(voice.hear(90, at(0)));
        assert_eq!(voice.state(), AUDIBLE);
        assert!(!voice.hear(90, at(100)) && !voice.hear(90, at(200)));
        assert!(voice.hear(90, at(300)));
        assert_eq!(voice.state(), SPEAKING + 1);
        assert!(!voice.hear(0, at(400)), "silence counts only when it lasts");
        assert!(!voice.handle_timeout(at(2_299)));
        assert!(voice.handle_timeout(at(2_300)));
        assert_eq!((voice.state(), voice.poll_timeout()), (SILENT, None));
    }

    #[test]
    fn coughs_are_no_turns() {
        let mut voice = Voice::default();
        for cough in 0..20 {
            voice.hear(200, at(cough * 400));
            assert_eq!(voice.state(), AUDIBLE, "cough {cough}");
        }
    }

    #[test]
    fn loudness_is_told_once_a_second() {
        let mut voice = Voice::default();
        let changes =
            (0..100).filter(|&step| voice.hear(if step % 2 == 0 { 10 } else { 250 }, at(step * 100)));
        assert!(changes.count() <= 12);
        assert_eq!(voice.state(), SPEAKING + 3);
    }
}
