//! Celery's events (`celery/events/`): what monitors like Flower and `celery events` live on.
//!
//! An [`event`] is composed when it happens and waits in an [`outlet`]; a [`publisher`] with a connection of its own sends
//! what waits, in batches. So neither a task nor a step ever waits for a monitor.

pub mod event;
pub mod outlet;
pub mod publisher;

pub use outlet::Outlet;
