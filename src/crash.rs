//! Switches for tests: dying, stopping or panicking at a chosen place, and running with a guard taken out.
//!
//! They exist only in builds with the `simulator` feature, which is never a production build.

#[cfg(feature = "simulator")]
use std::sync::atomic::{AtomicBool, Ordering};

/// Dies by SIGKILL if the test named this point in `CRASH_AT`. So a test can see what `kill -9` costs at exactly this
/// place. Stops by SIGSTOP if the test named it in `FREEZE_AT`, the first time only, until the test lets it go on.
#[inline]
pub fn point(name: &str) {
    #[cfg(feature = "simulator")]
    {
        let signal = |signal| rustix::process::kill_process(rustix::process::getpid(), signal);
        if is_named("CRASH_AT", name) {
            let _ = signal(rustix::process::Signal::KILL);
        }
        static FROZEN: AtomicBool = AtomicBool::new(false);
        if is_named("FREEZE_AT", name) && !FROZEN.swap(true, Ordering::Relaxed) {
            let _ = signal(rustix::process::Signal::STOP);
        }
    }
    #[cfg(not(feature = "simulator"))]
    let _ = name;
}

/// Panics with these words if the test named this point in `PANIC_AT`. So a test can see who reads them.
#[inline]
pub fn panic_with(name: &str, words: &str) {
    #[cfg(feature = "simulator")]
    assert!(!is_named("PANIC_AT", name), "{words}");
    #[cfg(not(feature = "simulator"))]
    let _ = (name, words);
}

/// As [`point`], and also if the test named it for this one message only, as `point@id`.
#[inline]
pub fn point_of(name: &str, message_id: &str) {
    point(name);
    #[cfg(feature = "simulator")]
    point(&format!("{name}@{message_id}"));
    #[cfg(not(feature = "simulator"))]
    let _ = message_id;
}

/// Panics if the test named this place in `PANIC_AT`: the first time only. So a test can see what a panic means there.
/// Every task is such a place, under its own name.
#[inline]
pub fn panic_at(name: &str) {
    #[cfg(feature = "simulator")]
    if is_named("PANIC_AT", name) {
        static DONE: AtomicBool = AtomicBool::new(false);
        assert!(DONE.swap(true, Ordering::Relaxed), "as the test has ordered");
    }
    #[cfg(not(feature = "simulator"))]
    let _ = name;
}

/// As [`panic_at`], and each time if the test named this place for this one account only, as `place@account`.
#[inline]
pub fn panic_of(name: &str, account: Option<&str>) {
    panic_at(name);
    #[cfg(feature = "simulator")]
    if let Some(account) = account {
        panic_with(&format!("{name}@{account}"), "as the test has ordered");
    }
    #[cfg(not(feature = "simulator"))]
    let _ = account;
}

/// Is this guard named in `WITHOUT_GUARD`? With it, a test proves that it fails when the guard is missing.
#[inline]
pub fn switched_off(guard: &str) -> bool {
    #[cfg(feature = "simulator")]
    return is_named("WITHOUT_GUARD", guard);
    #[cfg(not(feature = "simulator"))]
    {
        let _ = guard;
        false
    }
}

/// As [`switched_off`], and also if the guard is named for this one message only, as `guard@id`.
#[inline]
pub fn switched_off_for(guard: &str, message_id: &str) -> bool {
    switched_off(guard) || (cfg!(feature = "simulator") && switched_off(&format!("{guard}@{message_id}")))
}

#[cfg(feature = "simulator")]
#[expect(clippy::disallowed_methods, reason = "switches of tests, and no settings")]
fn is_named(variable: &str, name: &str) -> bool {
    std::env::var(variable).is_ok_and(|names| names.split(',').any(|one| one == name))
}
