//! Asks the application: commands of Celery's remote control that only Python can answer. Each is answered by a
//! process of its own, forked from the zygote (`panel.py`).

use super::Zygote;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The process ends itself after a minute (`PATIENCE` in `panel.py`); this is for a zygote that starts none.
const PATIENCE: Duration = Duration::from_secs(65);

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    Value(Value),
    Error(String),
}

/// Has the application answer a command as node `node`. While it is being imported this waits.
///
/// # Errors
/// `repr()` of the exception it ends with.
pub async fn ask(zygote: Zygote, node: String, method: String, arguments: Value) -> Result<Value, String> {
    let question = format!("{}\n", json!({"node": node, "method": method, "arguments": arguments}));
    match tokio::time::timeout(PATIENCE, exchange(&zygote, question.as_bytes())).await {
        Ok(Ok(said)) => match serde_json::from_slice(&said) {
            Ok(Said::Value(value)) => Ok(value),
            Ok(Said::Error(error)) => Err(error),
            Err(_) => {
                Err(format!("RuntimeError('the process that was to answer {method} has ended without an answer')"))
            }
        },
        Ok(Err(error)) => Err(format!("OSError('the application can not be asked: {error}')")),
        Err(_) => Err(format!("TimeoutError('{method} has not ended after {} s')", PATIENCE.as_secs())),
    }
}

async fn exchange(zygote: &Zygote, question: &[u8]) -> io::Result<Vec<u8>> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut ours = UnixStream::from_std(ours)?;
    zygote.ask(theirs.into()).await?;
    ours.write_all(question).await?;
    let mut said = Vec::new();
    ours.read_to_end(&mut said).await?;
    Ok(said)
}
