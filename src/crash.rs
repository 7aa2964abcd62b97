//! Switches for tests: dying at a chosen await, and running with a guard taken out.
//!
//! They exist only in builds with the `simulator` feature, which is never a production build.

/// Dies by SIGKILL if the test named this point in `CRASH_AT`. So a test can see what `kill -9` costs at exactly this
/// place.
#[inline]
pub fn point(name: &str) {
    #[cfg(feature = "simulator")]
    if is_named("CRASH_AT", name) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
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
