//! What the kernel counts about a process and all that it has started.

use std::fs;
use std::ops::Sub;

/// CPU time.
#[derive(Clone, Copy, Default)]
pub struct Cpu {
    /// Nanoseconds on a CPU.
    pub ran: u64,
    /// Nanoseconds ready to run, while something else had the CPU.
    pub waited: u64,
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            ran: self.ran.saturating_sub(earlier.ran),
            waited: self.waited.saturating_sub(earlier.waited),
        }
    }
}

/// Memory in KiB.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    /// Resident; what processes share counts for each.
    pub rss: u64,
    /// Resident; what processes share is divided between them.
    pub pss: u64,
}

/// CPU time of all threads of `process` and of its descendants.
pub fn cpu(process: u32) -> Cpu {
    let mut sum = Cpu::default();
    for task in family(process).iter().flat_map(|process| tasks(*process)) {
        let text = fs::read_to_string(format!("{task}/schedstat")).unwrap_or_default();
        let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0));
        sum.ran += numbers.next().unwrap_or(0);
        sum.waited += numbers.next().unwrap_or(0);
    }
    sum
}

/// Memory of `process` and of its descendants.
pub fn memory(process: u32) -> Memory {
    let mut sum = Memory::default();
    for process in family(process) {
        let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        sum.rss += value("Rss:");
        sum.pss += value("Pss:");
    }
    sum
}

/// The model of the CPU, as it calls itself.
pub fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let model = line.and_then(|line| line.split_once(':')).map_or("unknown", |(_, model)| model);
    model.trim().to_owned()
}

/// The process and its descendants.
fn family(process: u32) -> Vec<u32> {
    let mut family = vec![process];
    let mut next = 0;
    while let Some(process) = family.get(next) {
        for task in tasks(*process) {
            let text = fs::read_to_string(format!("{task}/children")).unwrap_or_default();
            family.extend(text.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        next += 1;
    }
    family
}

/// The folders of a process' threads; none if it is gone.
fn tasks(process: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    entries.map(|entry| entry.path().display().to_string()).collect()
}
