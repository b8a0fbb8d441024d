//! What the dead letters say of a message: the words are part of the interface of `fairstalk dead`.

/// Why a message is in the dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It can't be decoded.
    Malformed,
    /// Its content type is not accepted.
    Refused,
    /// It is larger than allowed.
    TooLarge,
    /// No such task.
    UnknownTask,
    /// A command task with a callback, chain or chord, which only Celery can go on with.
    Canvas,
    /// Its runner or its worker died under it, and it was not to be tried again.
    Lost,
    /// It had started, is delivered at most once, and did not come to its end.
    AtMostOnce,
    /// It outgrew its memory limit.
    Memory,
    /// It has failed for good.
    Failed,
    /// It refused its message (`Reject`).
    Rejected,
}

impl Reason {
    /// All of them, in the order of the documentation.
    pub const ALL: [Reason; 10] = [
        Reason::Malformed,
        Reason::Refused,
        Reason::TooLarge,
        Reason::UnknownTask,
        Reason::Canvas,
        Reason::Lost,
        Reason::AtMostOnce,
        Reason::Memory,
        Reason::Failed,
        Reason::Rejected,
    ];

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Malformed => "malformed",
            Reason::Refused => "refused-content-type",
            Reason::TooLarge => "too-large",
            Reason::UnknownTask => "unknown-task",
            Reason::Canvas => "command-in-canvas",
            Reason::Lost => "runner-lost",
            Reason::AtMostOnce => "at-most-once",
            Reason::Memory => "oom",
            Reason::Failed => "failed",
            Reason::Rejected => "rejected",
        }
    }

    /// A sentence for people.
    pub fn words(self) -> &'static str {
        match self {
            Reason::Malformed => "the message can't be decoded",
            Reason::Refused => "its content type is not accepted",
            Reason::TooLarge => "the message is larger than allowed",
            Reason::UnknownTask => "nobody here knows the task",
            Reason::Canvas => "a command task can't be part of a canvas",
            Reason::Lost => "its runner or worker died under it, and it was not to be tried again",
            Reason::AtMostOnce => "it had started, did not come to its end, and is delivered at most once",
            Reason::Memory => "it outgrew its memory limit",
            Reason::Failed => "it has failed for good",
            Reason::Rejected => "the task refused its message",
        }
    }

    /// Whether the task had begun when its message came here. A replay is then a second delivery, and marked so.
    pub fn began(self) -> bool {
        match self {
            Reason::Malformed | Reason::Refused | Reason::TooLarge | Reason::UnknownTask | Reason::Canvas => false,
            Reason::Lost | Reason::AtMostOnce | Reason::Memory | Reason::Failed | Reason::Rejected => true,
        }
    }

    /// The reason of a word.
    pub fn of(word: &str) -> Option<Reason> {
        Reason::ALL.into_iter().find(|reason| reason.word() == word)
    }
}
