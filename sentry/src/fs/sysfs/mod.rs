//! `sysfs`: the machine as files (`sysfs(5)`), as far as programs ask for it.

mod net;

use super::pseudo::{Fixed, FixedDirectory, Node, PseudoFs, PseudoInode, directory, empty, text};
use crate::kernel::Kernel;
use std::ops::Range;
use std::sync::Arc;

/// `SYSFS_MAGIC`.
const MAGIC: u64 = 0x6265_6572;

/// A new instance; `dev` is its device number.
pub fn mount(kernel: &Arc<Kernel>, dev: u64) -> Arc<PseudoInode> {
    let root = FixedDirectory::new(vec![
        ("block", empty()),
        ("bus", empty()),
        (
            "class",
            directory(vec![
                ("net", Node::Directory(Arc::new(net::Interfaces))),
                ("power_supply", empty()),
                ("tty", empty()),
            ]),
        ),
        ("dev", directory(vec![("block", empty()), ("char", empty())])),
        (
            "devices",
            directory(vec![(
                "system",
                directory(vec![("cpu", cpus(kernel)), ("node", nodes(kernel))]),
            )]),
        ),
        ("firmware", empty()),
        ("fs", directory(vec![("cgroup", empty())])),
        (
            "kernel",
            directory(vec![(
                "mm",
                directory(vec![(
                    "transparent_hugepage",
                    directory(vec![
                        ("enabled", text(Fixed("always madvise [never]\n"))),
                        ("hpage_pmd_size", text(Fixed("2097152\n"))),
                        (
                            "shmem_enabled",
                            text(Fixed("always within_size advise [never] deny force\n")),
                        ),
                    ]),
                )]),
            )]),
        ),
        ("module", empty()),
    ]);
    PseudoFs::mount("sysfs", MAGIC, dev, false, Arc::new(root))
}

/// A list of all CPUs or of one node's.
fn list(cpus: u32) -> String {
    if cpus <= 1 { "0\n".into() } else { format!("0-{}\n", cpus - 1) }
}

/// A bit for each CPU of `set`, in groups of 32 from the highest, as `%*pb` prints it.
fn mask(set: Range<u32>, cpus: u32) -> String {
    let cpus = cpus.max(1);
    let group = |g: u32| {
        let bits = (g * 32..g * 32 + 32).filter(|cpu| set.contains(cpu));
        bits.fold(0u32, |sum, cpu| sum | 1 << (cpu % 32))
    };
    let digits = |width: u32| width.min(32).div_ceil(4) as usize;
    let texts: Vec<String> = (0..cpus.div_ceil(32))
        .rev()
        .map(|g| format!("{:01$x}", group(g), digits(cpus - g * 32)))
        .collect();
    format!("{}\n", texts.join(","))
}

fn fixed(value: String) -> Node {
    super::pseudo::text_fn(move || value.clone())
}

fn cpus(kernel: &Arc<Kernel>) -> Node {
    let count = kernel.config.cpus;
    let mut entries = vec![
        ("kernel_max".to_string(), text(Fixed("8191\n"))),
        ("offline".to_string(), text(Fixed("\n"))),
        ("online".to_string(), fixed(list(count))),
        ("possible".to_string(), fixed(list(count))),
        ("present".to_string(), fixed(list(count))),
    ];
    for cpu in 0..count {
        entries.push((format!("cpu{cpu}"), one_cpu(cpu, count)));
    }
    directory(entries)
}

fn one_cpu(cpu: u32, count: u32) -> Node {
    directory(vec![("online", text(Fixed("1\n"))), ("topology", topology(cpu, count))])
}

/// One package of cores with a thread each.
fn topology(cpu: u32, count: u32) -> Node {
    let (own, all) = (mask(cpu..cpu + 1, count), mask(0..count, count));
    let (own_list, all_list) = (format!("{cpu}\n"), list(count));
    directory(vec![
        ("cluster_cpus", fixed(own.clone())),
        ("cluster_cpus_list", fixed(own_list.clone())),
        ("cluster_id", text(Fixed("65535\n"))),
        ("core_cpus", fixed(own.clone())),
        ("core_cpus_list", fixed(own_list.clone())),
        ("core_id", fixed(own_list.clone())),
        ("core_siblings", fixed(all.clone())),
        ("core_siblings_list", fixed(all_list.clone())),
        ("die_cpus", fixed(all.clone())),
        ("die_cpus_list", fixed(all_list.clone())),
        ("die_id", text(Fixed("0\n"))),
        ("package_cpus", fixed(all)),
        ("package_cpus_list", fixed(all_list)),
        ("physical_package_id", text(Fixed("0\n"))),
        ("thread_siblings", fixed(own)),
        ("thread_siblings_list", fixed(own_list)),
    ])
}

/// The lines of `/proc/meminfo` that a node has, too.
fn node_memory(kernel: &Arc<Kernel>) -> impl Fn() -> String + Send + Sync + use<> {
    let kernel = Arc::downgrade(kernel);
    move || {
        let Some(kernel) = kernel.upgrade() else { return String::new() };
        let all = super::proc::meminfo(&kernel);
        let lines: Vec<(&str, &str)> = all.lines().filter_map(|l| l.split_once(':')).collect();
        let kib = |name: &str| {
            let value = lines.iter().find(|(n, _)| *n == name).map_or("", |(_, value)| value);
            value.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0)
        };
        let used = kib("MemTotal").saturating_sub(kib("MemFree"));
        let mut text = String::new();
        for (name, value) in &lines {
            // Not of one node.
            let whole = ["MemAvailable", "SwapTotal", "SwapFree", "CommitLimit", "Committed_AS"];
            if whole.contains(name) || name.starts_with("Vmalloc") || *name == "Hugepagesize" {
                continue;
            }
            let name = if *name == "Cached" { "FilePages" } else { name };
            text.push_str(&format!("Node 0 {name}:{value}\n"));
            if name == "MemFree" {
                text.push_str(&format!("Node 0 MemUsed:        {used:>8} kB\n"));
            }
        }
        text
    }
}

fn nodes(kernel: &Arc<Kernel>) -> Node {
    directory(vec![
        (
            "node0",
            directory(vec![
                ("cpulist", fixed(list(kernel.config.cpus))),
                ("cpumap", fixed(mask(0..kernel.config.cpus, kernel.config.cpus))),
                ("distance", text(Fixed("10\n"))),
                ("meminfo", super::pseudo::text_fn(node_memory(kernel))),
                (
                    "numastat",
                    text(Fixed(
                        "numa_hit 0\nnuma_miss 0\nnuma_foreign 0\ninterleave_hit 0\nlocal_node 0\nother_node 0\n",
                    )),
                ),
            ]),
        ),
        ("has_cpu", text(Fixed("0\n"))),
        ("has_memory", text(Fixed("0\n"))),
        ("has_normal_memory", text(Fixed("0\n"))),
        ("online", text(Fixed("0\n"))),
        ("possible", text(Fixed("0\n"))),
    ])
}
