//! What tests of code on these ports need: in-memory fakes where behaviour matters, mocks (of the feature
//! `mocks`) where only calls do, and a clock that moves when told to.

pub mod contract;
mod fakes;
mod manual_clock;

pub use fakes::{FakeConfigDatabase, FakeStore};
pub use manual_clock::ManualClock;
