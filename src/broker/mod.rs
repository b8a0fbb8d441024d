//! Messages in Redis. Every move between two places is one atomic script; the scripts are in `scripts/`.
//!
//! At every instant a message is in exactly one of: its queue's list, the delayed set, `unacked` under an owner,
//! the dead letters, with a claim that was started for good, or it is acknowledged.

pub mod anew;
pub mod answer;
pub mod bars;
pub mod connection;
pub mod dead;
pub mod delayed;
mod dial;
pub mod error;
pub mod filing;
pub mod hand_back;
pub mod health;
pub mod inspect;
pub mod kept;
pub mod keys;
pub mod lease;
pub mod letter;
mod look;
pub mod minute;
pub mod pause;
pub mod pickup;
pub mod publish;
pub mod reply;
pub mod revoked;
pub mod rung;
mod script;
mod sentinel;
pub mod stale;
pub mod start;
pub mod standing;
pub mod step;
pub mod verdict;
pub mod wake;

pub use connection::{Connection, address};
pub use error::{BrokerError, Kind};
pub use filing::{Filing, Kind as LaneKind, Looked, Room};
pub use keys::Keys;
pub use letter::Reason;
pub use reply::{Claim, StepReply};
pub use rung::Rung;
pub use step::{Action, Settlement, Step, Store};
pub use verdict::{Finding, Grade};
