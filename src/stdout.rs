//! Standard output, which may be closed before all is said: `whatsapp-connector config | head -1`.
//!
//! A reader who closes it has seen enough. That is no error and no panic (`println!` would panic): what is left
//! unsaid is dropped, and the exit code says what it would have said anyway.

use std::fmt::Display;
use std::io::{self, Write as _};

/// What became of a print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Printed {
    /// All of it is written.
    All,
    /// Nobody reads any more.
    Closed,
}

/// Writes `text` as it is. An error is anything but a closed reader: a full disk behind `>`, for example.
pub fn print(text: impl Display) -> io::Result<Printed> {
    let mut out = io::stdout().lock();
    printed(write!(out, "{text}").and_then(|()| out.flush()))
}

/// Writes `text` and a line break.
pub fn line(text: impl Display) -> io::Result<Printed> {
    print(format_args!("{text}\n"))
}

/// A line by a process that goes on whether or not anybody reads it.
pub fn notice(text: impl Display) {
    if let Err(error) = line(text) {
        tracing::debug!(%error, "standard output does not take a line");
    }
}

/// Reads a write's end.
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
