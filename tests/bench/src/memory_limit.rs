//! A limit on the memory of processes, as a container has it: a control group, where one can be made.

use std::path::PathBuf;

use anyhow::Result;

use crate::child::Child;
use crate::usage;

const MEMORY: &str = "/sys/fs/cgroup/memory";
const UNIFIED: &str = "/sys/fs/cgroup";

/// The group, if the machine lets us make one; removed with its handle. Its processes must have ended by then.
#[derive(Debug)]
pub struct MemoryLimit {
    group: Option<PathBuf>,
}

impl MemoryLimit {
    /// Keeps each of these, and all that it starts, to so many bytes. Where no group can be made it says so, and the
    /// peak in the figures has to tell.
    pub fn set(bytes: u64, of: &[Child]) -> Result<Self> {
        let name = format!("whatsapp-bench-{}", std::process::id());
        let (group, file) = if std::path::Path::new(MEMORY).join("memory.limit_in_bytes").exists() {
            (PathBuf::from(MEMORY).join(name), "memory.limit_in_bytes")
        } else {
            (PathBuf::from(UNIFIED).join(name), "memory.max")
        };
        let made = std::fs::create_dir_all(&group)
            .and_then(|()| std::fs::write(group.join(file), bytes.to_string()));
        let joined = made.and_then(|()| {
            of.iter()
                .flat_map(|child| usage::tree(child.pid()))
                .try_for_each(|pid| std::fs::write(group.join("cgroup.procs"), pid.to_string()))
        });
        if let Err(error) = joined {
            eprintln!("bench: no memory limit can be set here ({error}); the peak is looked at only");
            let _ = std::fs::remove_dir(&group);
            return Ok(Self { group: None });
        }
        Ok(Self { group: Some(group) })
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            let _ = std::fs::remove_dir(group);
        }
    }
}
