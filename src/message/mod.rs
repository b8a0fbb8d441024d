//! Celery's messages as kombu writes them to Redis: envelope, headers, body. Pure.
//!
//! The envelope is parsed once by whoever claims it; the large parts stay where they are, as ranges of the raw bytes.

pub mod body;
pub mod compose;
pub mod envelope;
pub mod object;
mod octets;
pub mod rewrite;
pub mod time;

pub use envelope::{Headers, Message};

/// Why a message can't be run. The text is what an operator reads in the dead letters.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, or the envelope's fields have wrong types.
    #[error("the envelope is not what kombu writes: {0}")]
    Envelope(serde_json::Error),
    /// A header has a wrong type, or `task` or `id` is missing.
    #[error("the headers are not those of a Celery task: {0}")]
    Headers(serde_json::Error),
    /// The body isn't base64 though the properties say so.
    #[error("the body is not base64: {0}")]
    Base64(base64::DecodeError),
    /// An unknown `body_encoding`.
    #[error("unknown body_encoding {0:?}")]
    Encoding(String),
    /// The body isn't `[args, kwargs, embed]`.
    #[error("the body is not [args, kwargs, embed]: {0}")]
    Body(serde_json::Error),
    /// `eta` or `expires` is not a time.
    #[error("{field} is not a time: {value:?}")]
    Time {
        /// Name of the header.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// Only JSON can be read without the application's Python.
    #[error("{0} can't be read here: only application/json, without compression, can")]
    Unreadable(String),
}
