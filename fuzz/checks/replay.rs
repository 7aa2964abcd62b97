//! For tests: the kept seeds of a target, and random bytes that are like them.

use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Gives `check` every kept seed of `target`, then `cases` inputs that nobody has thought of. A panic says which it was.
pub fn replay(target: &str, cases: u32, check: fn(&[u8])) {
    let seeds = seeds(target);
    for (name, seed) in &seeds {
        eprintln!("{target}/{name}");
        check(seed);
    }
    let seeds: Vec<_> = seeds.into_iter().map(|(_, seed)| seed).collect();
    // Kept seeds are what `fuzz/corpus` is for.
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&inputs(seeds), |input| {
        check(&input);
        Ok(())
    });
    if let Err(error) = run {
        panic!("{target}: {error}; keep it: write these bytes to fuzz/corpus/{target}/");
    }
}

/// Those of `fuzz/corpus/<target>`, by name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find(|dir| dir.join("fuzz/corpus").is_dir());
    let dir = root.expect("fuzz/corpus").join("fuzz/corpus").join(target);
    let mut seeds: Vec<_> = std::fs::read_dir(&dir)
        .unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
        .map(|entry| entry.expect("a file").path())
        .map(|path| (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path))
        .map(|(name, path)| (name, std::fs::read(path).expect("a seed")))
        .collect();
    assert!(!seeds.is_empty(), "no seeds in {}", dir.display());
    seeds.sort();
    seeds
}

/// Bytes of any kind; a seed with some bytes changed, cut out or put in; or two seeds' halves.
fn inputs(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..200);
    let seed = || proptest::sample::select(seeds.clone());
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 0..8);
    prop_oneof![
        1 => bytes(),
        3 => (seed(), changes).prop_map(|(mut seed, changes)| {
            for (at, byte, how) in changes {
                let at = at.index(seed.len() + 1);
                match how {
                    0 => seed.insert(at, byte),
                    1 => drop(seed.drain(at..seed.len().min(at + usize::from(byte % 8)))),
                    _ => seed.get_mut(at).into_iter().for_each(|old| *old = byte),
                }
            }
            seed
        }),
        1 => (seed(), seed(), any::<prop::sample::Index>()).prop_map(|(mut one, other, at)| {
            one.truncate(at.index(one.len() + 1));
            one.extend(other.iter().skip(at.index(other.len() + 1)));
            one
        }),
    ]
}
