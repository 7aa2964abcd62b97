//! Exit codes, from `sysexits.h`. They tell a supervisor whether another try makes sense.

/// `EX_CONFIG`: a setting cannot be used.
pub const EX_CONFIG: u8 = 78;
/// `EX_UNAVAILABLE`: a service that the process needs is not there.
pub const EX_UNAVAILABLE: u8 = 69;
/// `EX_TEMPFAIL`: another process has what this one needs, such as a lock.
pub const EX_TEMPFAIL: u8 = 75;

/// An error that ends a process.
pub trait Fatal: std::error::Error {
    /// Its exit code.
    fn exit_code(&self) -> u8;

    /// Did the process fail at what it had to do? If not, this is its result, and no line of its log.
    fn is_failure(&self) -> bool {
        true
    }
}
