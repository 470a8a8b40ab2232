//! `sysfs`: the machine as files (`sysfs(5)`), as far as programs ask for it.

mod net;

use super::pseudo::{Fixed, FixedDirectory, Node, PseudoFs, PseudoInode, directory, empty, text};
use crate::kernel::Kernel;
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

/// A bit for each CPU, in groups of 32 from the highest, as `%*pb` prints it.
fn mask(cpus: u32) -> String {
    let groups = cpus.max(1).div_ceil(32);
    let group = |g: u32| u32::MAX >> (32 - (cpus.max(1) - g * 32).min(32));
    let digits = |width: u32| width.min(32).div_ceil(4) as usize;
    let texts: Vec<String> = (0..groups)
        .rev()
        .map(|g| format!("{:01$x}", group(g), digits(cpus.max(1) - g * 32)))
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
    directory(vec![
        ("online", text(Fixed("1\n"))),
        (
            "topology",
            directory(vec![
                ("core_id", fixed(format!("{cpu}\n"))),
                ("core_siblings_list", fixed(list(count))),
                ("physical_package_id", text(Fixed("0\n"))),
                ("thread_siblings_list", fixed(format!("{cpu}\n"))),
            ]),
        ),
    ])
}

fn nodes(kernel: &Arc<Kernel>) -> Node {
    directory(vec![
        (
            "node0",
            directory(vec![
                ("cpulist", fixed(list(kernel.config.cpus))),
                ("cpumap", fixed(mask(kernel.config.cpus))),
                ("distance", text(Fixed("10\n"))),
            ]),
        ),
        ("online", text(Fixed("0\n"))),
        ("possible", text(Fixed("0\n"))),
    ])
}
