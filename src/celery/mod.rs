//! What Celery's own tools speak with a worker: remote control, as `app.control` and `celery inspect` use it, and the
//! [`events`] that Flower and `celery events` show.
//!
//! A [`request`] comes by publish/subscribe, is answered by the worker, and the reply goes to a queue of the one who
//! asks; [`mailbox`] is the way in and out. What the worker answers is in `worker/control/`, what it tells in
//! `worker/events.rs`. To both it is a [`node`].

pub mod events;
pub mod info;
pub mod mailbox;
pub mod node;
pub mod pattern;
pub mod python;
pub mod request;
pub mod revocation;
pub mod stamps;

pub use mailbox::{Call, Heard};
pub use node::Node;
pub use request::Request;
pub use revocation::Revocation;
pub use stamps::Stamping;
