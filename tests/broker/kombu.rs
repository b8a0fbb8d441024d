//! A stock worker's consumer, step by step as kombu 5.7 makes them (`kombu/transport/redis.py`): what is one round trip there is
//! one function here, so that everything can happen in between.

use crate::stage::Stage;
use serde_json::Value;

/// Suffixes of the priority steps, as `_q_for_pri` writes them.
const STEPS: [&str; 4] = ["", "\x06\x163", "\x06\x166", "\x06\x169"];

/// Seconds after which a claim counts as lost, kombu's default.
pub const VISIBILITY: i64 = 3600;

/// One consumer.
#[derive(Default)]
pub struct Consumer {
    name: String,
    tags: usize,
    /// Popped and not written down yet (`_brpop_read`): in its memory only.
    pub in_hand: Option<Vec<u8>>,
    /// Tag and message of what it runs.
    pub running: Vec<(String, Vec<u8>)>,
    /// Tags it has found to be older than the timeout, and holds the mutex for (`restore_visible`).
    visible: Vec<String>,
}

impl Consumer {
    pub fn new(name: String) -> Consumer {
        Consumer { name, ..Consumer::default() }
    }

    /// `_brpop_start`, `_brpop_read`: the first message of the most urgent step of any queue.
    pub async fn pop(&mut self, stage: &mut Stage, first: usize) {
        if self.in_hand.is_some() {
            return;
        }
        let queues = stage.keys.queues.clone();
        for suffix in STEPS {
            for at in 0..queues.len() {
                let list = format!("{}{suffix}", queues[(first + at) % queues.len()]);
                let popped: Option<Vec<u8>> = stage.ask(&["RPOP", &list]).await;
                if popped.is_some() {
                    self.in_hand = popped;
                    return;
                }
            }
        }
    }

    /// `QoS.append`: the claim, in one transaction.
    pub async fn note(&mut self, stage: &mut Stage) {
        let Some(message) = self.in_hand.take() else { return };
        self.tags += 1;
        let tag = format!("{}-tag-{}", self.name, self.tags);
        let text = String::from_utf8(message.clone()).unwrap();
        let queue = routing_key(&text);
        let now = (stage.now().await / 1000).to_string();
        let kept = format!(r#"[{text}, "", "{queue}"]"#);
        let script = "redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1]) redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])";
        let (unacked, index) = (stage.keys.unacked(), stage.keys.unacked_index());
        stage.ask::<()>(&["EVAL", script, "2", &unacked, &index, &tag, &now, &kept]).await;
        self.running.push((tag, message));
    }

    /// `QoS.ack`.
    pub async fn ack(&mut self, stage: &mut Stage, at: usize) -> (String, Vec<u8>) {
        let (tag, message) = self.running.remove(at);
        let script = "redis.call('ZREM', KEYS[2], ARGV[1]) redis.call('HDEL', KEYS[1], ARGV[1])";
        let (unacked, index) = (stage.keys.unacked(), stage.keys.unacked_index());
        stage.ask::<()>(&["EVAL", script, "2", &unacked, &index, &tag]).await;
        (tag, message)
    }

    /// The first half of `restore_visible`: takes the mutex and looks, ten at a time, the latest first.
    pub async fn look(&mut self, stage: &mut Stage) {
        if !self.visible.is_empty() {
            return;
        }
        let taken: Option<String> = stage.ask(&["SET", "unacked_mutex", &self.name, "NX"]).await;
        if taken.is_none() {
            return;
        }
        let ceil = (stage.now().await / 1000 - VISIBILITY).to_string();
        let index = stage.keys.unacked_index();
        self.visible = stage.ask(&["ZRANGE", &index, &ceil, "0", "BYSCORE", "REV", "LIMIT", "0", "10"]).await;
        self.free(stage).await;
    }

    /// `restore_by_tag` of the next one. Returns its tag if it was there to be restored.
    pub async fn restore(&mut self, stage: &mut Stage) -> Option<String> {
        let tag = (!self.visible.is_empty()).then(|| self.visible.remove(0))?;
        let (unacked, index) = (stage.keys.unacked(), stage.keys.unacked_index());
        let kept: Option<Vec<u8>> = stage.ask(&["HGET", &unacked, &tag]).await;
        let pushed = kept.as_ref().map(|kept| restored(kept));
        let script = "redis.call('ZREM', KEYS[2], ARGV[1]) redis.call('HDEL', KEYS[1], ARGV[1]) \
                      if ARGV[2] ~= '' then redis.call('RPUSH', ARGV[2], ARGV[3]) end";
        let (list, text) = pushed.unwrap_or_default();
        stage.ask::<()>(&["EVAL", script, "2", &unacked, &index, &tag, &list, &text]).await;
        self.free(stage).await;
        kept.is_some().then_some(tag)
    }

    /// Killed. The mutex ends by itself.
    pub async fn die(&mut self, stage: &mut Stage) {
        self.visible.clear();
        self.free(stage).await;
    }

    async fn free(&mut self, stage: &mut Stage) {
        if self.visible.is_empty() {
            let script = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end";
            stage.ask::<()>(&["EVAL", script, "1", "unacked_mutex", &self.name]).await;
        }
    }
}

fn routing_key(message: &str) -> String {
    let value: Value = serde_json::from_str(message).unwrap();
    value["properties"]["delivery_info"]["routing_key"].as_str().unwrap().to_owned()
}

/// `_do_restore_message`: the list, and the message with its marks.
fn restored(kept: &[u8]) -> (String, String) {
    let (mut payload, _, queue): (Value, String, String) = serde_json::from_slice(kept).unwrap();
    payload["headers"]["redelivered"] = true.into();
    payload["properties"]["delivery_info"]["redelivered"] = true.into();
    let step = payload["properties"]["priority"].as_u64().unwrap_or(0).min(9) / 3;
    (format!("{queue}{}", STEPS[usize::try_from(step).unwrap()]), payload.to_string())
}
