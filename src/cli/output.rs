//! Standard output of a command that somebody may stop reading: `fairstalk route … | head` is no failure.

use super::Error;
use std::io::{self, Write};

/// Lets `write` print, and takes a closed pipe for "enough, thank you".
///
/// # Errors
/// [`Error::Output`] for any other failure to write, a full disk for instance, and whatever `write` itself returns.
pub fn print(write: impl FnOnce(&mut dyn Write) -> Result<(), Error>) -> Result<(), Error> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let result = write(&mut out).and_then(|()| out.flush().map_err(Error::Output));
    match result {
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            // What is still buffered would be tried again on drop.
            let _ = out.into_parts();
            Ok(())
        }
        other => other,
    }
}
