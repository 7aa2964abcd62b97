//! What processes have used, from `/proc`.

use std::collections::BTreeMap;
use std::time::Duration;

/// Linux shows processor time to programs in hundredths of a second everywhere.
const TICK: Duration = Duration::from_millis(10);

/// A process and all below it, as they are now.
pub fn tree(root: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(parent) = fields(pid).and_then(|fields| fields.get(1)?.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    found
}

/// The processor time of a process, of all below it, and of those of them that have ended.
pub fn cpu(root: u32) -> Duration {
    let ticks = tree(root).into_iter().filter_map(fields).map(|fields| {
        // utime, stime, and the same of children that were waited for.
        fields.iter().skip(11).take(4).filter_map(|field| field.parse::<u32>().ok()).sum::<u32>()
    });
    TICK * ticks.sum::<u32>()
}

/// The processor time of this thread alone, without what it has started.
pub fn own() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(text.split_whitespace().next().and_then(|time| time.parse().ok()).unwrap_or(0))
}

/// The processor time of a process and all below it, finer than [`cpu`]. Threads that have ended count for nothing, so it
/// is for processes that wait.
pub fn cpu_fine(root: u32) -> Duration {
    let threads = tree(root)
        .into_iter()
        .flat_map(|pid| std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten());
    let times = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(times.sum())
}

/// The most memory that a process and all below it ever had, in MB.
pub fn peak_mb(root: u32) -> f64 {
    sum(root, "VmHWM:")
}

/// The memory that they have now, in MB.
pub fn memory_mb(root: u32) -> f64 {
    sum(root, "VmRSS:")
}

fn sum(root: u32, name: &str) -> f64 {
    let kib = tree(root).into_iter().filter_map(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<f64>().ok()
    });
    kib.sum::<f64>() * 1024.0 / 1e6
}

/// The fields of `/proc/PID/stat` after the name, which may hold anything.
fn fields(pid: u32) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_itself_its_memory_and_its_time() {
        let own = std::process::id();
        assert!(tree(own).contains(&own));
        assert!(memory_mb(own) > 0.5 && peak_mb(own) >= memory_mb(own) * 0.5);
        let before = cpu(own);
        let mut sum = 0_u64;
        while cpu(own) < before + TICK * 3 {
            for number in 0..100_000_u64 {
                sum = std::hint::black_box(sum.wrapping_add(number));
            }
        }
        assert!(cpu(own) > before, "{sum}");
    }
}
