//! Who is a neighbour of whom, and who is alive.

mod liveness;
mod passive;
mod views;

pub use liveness::{Liveness, LivenessAction};
pub use views::{ViewAction, Views};
