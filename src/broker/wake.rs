//! How an idle worker learns that there is something to claim, without asking.
//!
//! `CLIENT TRACKING ON BCAST PREFIX … NOLOOP`: the server sends an invalidation for every change of a queue by
//! anybody else. It carries no message, so nothing is lost when one gets lost: the next look finds the same.
//!
//! NOLOOP does not know the changes of an own script (seen in Redis 7.0), so a step that takes or puts back a
//! message rings for its own worker too. Such a ring can't be told from one that also stands for a push of the same
//! moment, so it has to be followed; it costs one look, and a look in vain changes nothing and rings no more.

use super::rung::Rung;
use redis::{PushInfo, PushKind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Rings when a queue has changed or the connection has ended.
#[derive(Debug, Clone, Default)]
pub struct Wake {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    notify: Notify,
    lost: AtomicBool,
    rung: Mutex<Rung>,
}

impl Wake {
    /// Takes in what the server pushed.
    pub fn push(&self, info: &PushInfo) {
        if info.kind == PushKind::Disconnection {
            self.inner.lost.store(true, Ordering::Relaxed);
        }
        self.inner.rung.lock().unwrap_or_else(PoisonError::into_inner).add(Rung::of(info));
        self.inner.notify.notify_one();
    }

    /// Waits for the next ring; one that came before the call counts.
    pub async fn rung(&self) {
        self.inner.notify.notified().await;
    }

    /// What it has rung for since this was asked last.
    pub fn take(&self) -> Rung {
        std::mem::take(&mut self.inner.rung.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The connection is gone.
    pub fn connection_lost(&self) -> bool {
        self.inner.lost.load(Ordering::Relaxed)
    }
}
