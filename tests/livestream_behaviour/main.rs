//! How a livestream behaves, through the engine alone: layers, roles, the stream's life, trackers, delivery, parents,
//! chat, keyframes, statistics.

mod chat;
mod delivery;
mod keyframes;
mod layers;
mod life;
mod parents;
mod roles;
mod stage;
mod statistics;
mod tracker;
