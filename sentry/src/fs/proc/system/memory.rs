//! Memory of the sandbox: `meminfo`, `vmstat`.

use crate::kernel::Kernel;
use std::fmt::Write;
use std::sync::Arc;

/// `/proc/meminfo`. What guests have touched lies in the memory file; that counts as used.
pub fn meminfo(kernel: &Arc<Kernel>) -> String {
    let (total, used) = usage(kernel);
    let free = total.saturating_sub(used);
    let mut text = String::new();
    let mut line = |name: &str, bytes: u64| {
        let _ = writeln!(text, "{:<15} {:>8} kB", format!("{name}:"), bytes / 1024);
    };
    line("MemTotal", total);
    line("MemFree", free);
    line("MemAvailable", free);
    for zero in ["Buffers", "Cached", "SwapCached"] {
        line(zero, 0);
    }
    line("Active", used);
    line("Inactive", 0);
    line("Active(anon)", used);
    for zero in [
        "Inactive(anon)",
        "Active(file)",
        "Inactive(file)",
        "Unevictable",
        "Mlocked",
        "SwapTotal",
        "SwapFree",
        "Dirty",
        "Writeback",
    ] {
        line(zero, 0);
    }
    line("AnonPages", used);
    for zero in [
        "Mapped",
        "Shmem",
        "KReclaimable",
        "Slab",
        "SReclaimable",
        "SUnreclaim",
        "KernelStack",
        "PageTables",
        "NFS_Unstable",
        "Bounce",
        "WritebackTmp",
    ] {
        line(zero, 0);
    }
    line("CommitLimit", total);
    line("Committed_AS", used);
    line("VmallocTotal", 34_359_738_367 * 1024);
    for zero in ["VmallocUsed", "VmallocChunk"] {
        line(zero, 0);
    }
    text.push_str("HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\n");
    text.push_str("HugePages_Surp:        0\nHugepagesize:       2048 kB\n");
    text
}

/// Memory of the sandbox and how much of it is used, in bytes.
pub fn usage(kernel: &Arc<Kernel>) -> (u64, u64) {
    // A host that cannot tell what the file holds fails everywhere else first.
    let used = kernel.memory.committed_bytes().unwrap_or(0);
    (kernel.limits.memory().max(used), used)
}

/// `/proc/vmstat`: the counters that tools read.
pub fn vmstat(kernel: &Arc<Kernel>) -> String {
    let (total, used) = usage(kernel);
    let faults: u64 = kernel.thread_groups().iter().map(|g| g.rusage().faults).sum();
    format!(
        "nr_free_pages {}\nnr_anon_pages {}\nnr_mapped 0\nnr_file_pages 0\nnr_dirty 0\n\
         nr_writeback 0\npgpgin 0\npgpgout 0\npswpin 0\npswpout 0\npgfault {faults}\npgmajfault 0\n\
         oom_kill 0\n",
        total.saturating_sub(used) / 4096,
        used / 4096,
    )
}
