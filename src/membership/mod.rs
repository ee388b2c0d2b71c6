//! Who is a neighbour of whom, and who is alive.

mod liveness;
mod passive;
mod score;
mod views;

pub(crate) use liveness::MOMENT;
pub use liveness::{Liveness, LivenessAction, LocalHealth};
pub use score::Score;
pub(crate) use score::{Reputation, points_for};
pub use views::{ViewAction, Views};
