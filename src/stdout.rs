//! Standard output. The reader may close it early: `whatsapp-connector config | head -1`.
//!
//! That is no error, and must not panic as `println!` would: the reader has seen enough. The rest of the output is
//! dropped, and the exit code stays the same.

use std::fmt::Display;
use std::io::{self, Write as _};

/// What became of a print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Printed {
    /// All of it is written.
    All,
    /// The reader has closed it.
    Closed,
}

/// Writes `text` as it is. A closed reader is no error; anything else is, such as a full disk behind `>`.
pub fn print(text: impl Display) -> io::Result<Printed> {
    let mut out = io::stdout().lock();
    printed(write!(out, "{text}").and_then(|()| out.flush()))
}

/// Writes `text` and a line break.
pub fn line(text: impl Display) -> io::Result<Printed> {
    print(format_args!("{text}\n"))
}

/// Writes a line for a process that goes on whether or not it is read.
pub fn notice(text: impl Display) {
    if let Err(error) = line(text) {
        tracing::debug!(%error, "a line cannot be written to standard output");
    }
}

/// Judges the result of a write.
pub fn printed(ended: io::Result<()>) -> io::Result<Printed> {
    match ended {
        Ok(()) => Ok(Printed::All),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Printed::Closed),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_no_error_and_a_full_disk_is() {
        assert_eq!(printed(Ok(())).unwrap(), Printed::All);
        assert_eq!(printed(Err(io::ErrorKind::BrokenPipe.into())).unwrap(), Printed::Closed);
        assert!(printed(Err(io::ErrorKind::StorageFull.into())).is_err());
    }
}
