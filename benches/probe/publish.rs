//! Enqueueing through the library: messages of one task for one user, as `fairstalk enqueue` composes them.

use fairstalk::broker::{Connection, Keys, publish};
use fairstalk::config::{Surroundings, load};
use fairstalk::message::compose::{Copies, NewTask};
use fairstalk::routing::numbered_queue;
use serde_json::json;
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

const USER: &str = "7";

/// Pushes so many messages to the Redis of this configuration; how long it took, connecting included.
pub fn run(config: &Path, count: usize) -> Result<Duration, Box<dyn Error>> {
    let config = load(config, &Surroundings::of_process())?;
    let queue = numbered_queue(&config.queues, USER.as_bytes()).ok_or("queues that are not numbered")?;
    let (args, kwargs) = (json!([]), json!({"user_id": 7}));
    let task = NewTask { task: "bench.tasks.noop", queue, args: &args, kwargs: &kwargs, eta: None, origin: "probe" };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let begin = Instant::now();
    runtime.block_on(async {
        let mut connection = Connection::open(&config.broker).await?;
        let keys = Keys::new(&config.broker, &config.queues);
        let mut copies = Copies::of(&task);
        for start in (0..count).step_by(publish::BATCH) {
            let batch: Vec<Vec<u8>> = (start..count.min(start + publish::BATCH)).map(|_| copies.make().1).collect();
            publish::publish(&mut connection, &keys, queue, &batch).await?;
        }
        Ok::<(), Box<dyn Error>>(())
    })?;
    Ok(begin.elapsed())
}
