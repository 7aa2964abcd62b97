//! Exit codes, as `sysexits.h` has them: they tell a supervisor whether it makes sense to try again.

/// `EX_CONFIG`: a setting cannot be used.
pub const EX_CONFIG: u8 = 78;
/// `EX_UNAVAILABLE`: a service that is needed is not there.
pub const EX_UNAVAILABLE: u8 = 69;
/// `EX_TEMPFAIL`: somebody else has what is needed, such as a lock.
pub const EX_TEMPFAIL: u8 = 75;

/// An error that ends a process.
pub trait Fatal: std::error::Error {
    /// Which exit code says so.
    fn exit_code(&self) -> u8;
}
