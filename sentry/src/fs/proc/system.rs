//! The files of the top directory, about the sandbox as a whole.

pub(crate) mod cpu;
pub(crate) mod memory;

use super::config_gz::ConfigGz;
use crate::fs::pseudo::{Fixed, Node, text, text_fn};
use crate::kernel::Kernel;
use crate::time::ClockId;
use std::fmt::Write;
use std::sync::{Arc, Weak};

/// Clock ticks a second in `proc` (`sysconf(_SC_CLK_TCK)`).
pub const USER_HZ: u64 = 100;

/// A text made from the kernel.
pub fn of_kernel(
    kernel: &Arc<Kernel>,
    make: impl Fn(&Arc<Kernel>) -> String + Send + Sync + 'static,
) -> Node {
    let kernel: Weak<Kernel> = Arc::downgrade(kernel);
    text_fn(move || kernel.upgrade().map_or(String::new(), |kernel| make(&kernel)))
}

/// Names and nodes.
pub fn nodes(kernel: &Arc<Kernel>) -> Vec<(&'static str, Node)> {
    vec![
        ("cgroups", text_fn(cgroups)),
        ("cmdline", text(Fixed("runsc\n"))),
        ("config.gz", text(ConfigGz)),
        ("consoles", text(Fixed(""))),
        ("cpuinfo", of_kernel(kernel, cpu::cpuinfo)),
        ("devices", text(Fixed(DEVICES))),
        ("diskstats", text(Fixed(""))),
        ("filesystems", text(Fixed(FILESYSTEMS))),
        ("interrupts", of_kernel(kernel, cpu::interrupts)),
        ("loadavg", of_kernel(kernel, cpu::loadavg)),
        ("locks", text_fn(crate::vfs::locks::proc_locks)),
        ("meminfo", of_kernel(kernel, memory::meminfo)),
        ("misc", text(Fixed("200 tun\n229 fuse\n"))),
        ("modules", text(Fixed(""))),
        ("partitions", text(Fixed("major minor  #blocks  name\n\n"))),
        ("stat", of_kernel(kernel, cpu::stat)),
        ("swaps", text(Fixed("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"))),
        ("uptime", of_kernel(kernel, uptime)),
        ("version", text_fn(version)),
        ("vmstat", of_kernel(kernel, memory::vmstat)),
        ("zoneinfo", text(Fixed(""))),
    ]
}

const DEVICES: &str = "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n\
                       \x2010 misc\n136 pts\n\nBlock devices:\n";

const FILESYSTEMS: &str = "nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tdevtmpfs\n\
                           nodev\tdevpts\nnodev\tmqueue\nnodev\toverlay\nnodev\tgofer\n\
                           nodev\tfuse\n";

/// Names of the types of file systems, in the order of `/proc/filesystems`.
pub fn filesystem_types() -> Vec<&'static str> {
    FILESYSTEMS.lines().filter_map(|line| line.rsplit('\t').next()).collect()
}

fn version() -> String {
    let names = crate::kernel::version::UTS;
    format!("{} version {} ({}) {}\n", names.sysname, names.release, "runsc", names.version)
}

/// What `CLOCK_BOOTTIME` shows in the time namespace of whoever looks.
pub fn shown_boottime(host: u64) -> u64 {
    let reader = crate::kernel::current();
    reader.map_or(host, |task| task.namespaces().time.shown(ClockId::Boottime, host))
}

fn uptime(kernel: &Arc<Kernel>) -> String {
    let up = kernel.time.boottime();
    let cpus = u64::from(kernel.config.cpus);
    let idle = (up * cpus).saturating_sub(cpu::busy(kernel).0 + cpu::busy(kernel).1);
    let mut text = String::new();
    let centiseconds = |ns: u64| (ns / 1_000_000_000, ns / 10_000_000 % 100);
    let up = shown_boottime(up);
    let ((up, up_cs), (idle, idle_cs)) = (centiseconds(up), centiseconds(idle));
    let _ = writeln!(text, "{up}.{up_cs:02} {idle}.{idle_cs:02}");
    text
}

/// `/proc/cgroups`: the controllers, all in the hierarchy of version 2 (0).
fn cgroups() -> String {
    let groups = crate::kernel::cgroup::count();
    let line = |name: &str| format!("{name}\t0\t{groups}\t1\n");
    let lines: String = ["cpu", "memory", "pids"].map(line).concat();
    format!("#subsys_name\thierarchy\tnum_cgroups\tenabled\n{lines}")
}
