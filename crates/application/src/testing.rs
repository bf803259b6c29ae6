//! What tests of code on these ports need: in-memory fakes where behaviour matters, mocks (of the feature
//! `mocks`) where only calls do, and a clock that a test moves.
//!
//! An adapter of a port is tested by the port's suite in [`contract`]; so is the fake, which is why code that works on a
//! fake works on the real thing. `fakes` and `contract` have one file per port, of the same name.

pub mod contract;
mod fakes;
mod manual_clock;
mod operator;
mod samples;
mod zone_file;

pub use fakes::{
    FakeConfigDatabase, FakeItemSource, FakeRunHistory, FakeSink, FakeStore, FakeTenantData,
};
pub use manual_clock::ManualClock;
pub use operator::{operator, schedule, with_own_processor};
pub use samples::{item, item_of, item_preferring, membership, record};
pub use zone_file::zone_file;
