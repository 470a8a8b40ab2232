//! CPUs and their time: `cpuinfo`, `stat`, `loadavg`, `interrupts`.

use super::USER_HZ;
use crate::kernel::Kernel;
use std::arch::x86_64::__cpuid_count;
use std::fmt::Write;
use std::sync::Arc;

/// CPU time of all living processes and their reaped children, in nanoseconds: in guest code and in
/// the sentry.
pub fn busy(kernel: &Arc<Kernel>) -> (u64, u64) {
    let mut total = (0u64, 0u64);
    for group in kernel.thread_groups() {
        let mut usage = group.rusage();
        usage.add(&group.children_rusage());
        total = (total.0 + usage.user, total.1 + usage.system);
    }
    total
}

/// `/proc/stat`.
pub fn stat(kernel: &Arc<Kernel>) -> String {
    let ticks = |ns: u64| ns / (1_000_000_000 / USER_HZ);
    let cpus = u64::from(kernel.config.cpus);
    let up = kernel.time.boottime();
    let (user, system) = busy(kernel);
    let idle = (up * cpus).saturating_sub(user + system);
    let mut text = String::new();
    let mut line = |name: &str, share: u64| {
        let (user, system, idle) =
            (ticks(user / share), ticks(system / share), ticks(idle / share));
        let _ = writeln!(text, "{name} {user} 0 {system} {idle} 0 0 0 0 0 0");
    };
    line("cpu ", 1);
    for cpu in 0..cpus {
        line(&format!("cpu{cpu}"), cpus);
    }
    let boot = kernel.time.realtime().saturating_sub(super::shown_boottime(up)) / 1_000_000_000;
    let running = kernel.thread_groups().iter().filter(|g| g.state() == 'R').count();
    let _ = write!(
        text,
        "intr 0\nctxt {}\nbtime {boot}\nprocesses {}\nprocs_running {}\nprocs_blocked 0\n\
         softirq 0 0 0 0 0 0 0 0 0 0 0\n",
        kernel.thread_groups().iter().map(|g| g.rusage().switches).sum::<u64>(),
        kernel.forks(),
        running.max(1),
    );
    text
}

/// Load averages over 1, 5 and 15 minutes.
pub fn load(kernel: &Arc<Kernel>) -> [f64; 3] {
    let (user, system) = busy(kernel);
    let now = kernel.time.boottime();
    kernel.load.at(now, kernel.time.start(), user.saturating_add(system))
}

/// `/proc/loadavg`.
pub fn loadavg(kernel: &Arc<Kernel>) -> String {
    let tasks = kernel.task_count();
    let [one, five, fifteen] = load(kernel);
    let running = kernel.thread_groups().iter().filter(|g| g.state() == 'R').count().max(1);
    format!("{one:.2} {five:.2} {fifteen:.2} {running}/{tasks} {}\n", kernel.last_pid())
}

/// `/proc/interrupts`: no device interrupts a sandbox.
pub fn interrupts(kernel: &Arc<Kernel>) -> String {
    let mut text = String::from("    ");
    for cpu in 0..kernel.config.cpus {
        let _ = write!(text, "       CPU{cpu}");
    }
    text.push('\n');
    text
}

/// `/proc/cpuinfo`: what CPUID tells the program anyway.
pub fn cpuinfo(kernel: &Arc<Kernel>) -> String {
    let leaf = |n| __cpuid_count(n, 0);
    let vendor = leaf(0);
    let vendor: Vec<u8> = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat();
    let vendor = String::from_utf8_lossy(&vendor).into_owned();
    let id = leaf(1);
    let base_family = id.eax >> 8 & 0xf;
    let family = base_family + if base_family == 0xf { id.eax >> 20 & 0xff } else { 0 };
    let model = (id.eax >> 4 & 0xf) | (id.eax >> 12 & 0xf0);
    let name: Vec<u8> = (0x8000_0002u32..=0x8000_0004)
        .flat_map(|n| {
            let l = leaf(n);
            [l.eax, l.ebx, l.ecx, l.edx].map(u32::to_le_bytes).concat()
        })
        .take_while(|b| *b != 0)
        .collect();
    let name = String::from_utf8_lossy(&name).trim().to_string();
    let flags = flags().join(" ");
    let cpus = kernel.config.cpus;
    let mut text = String::new();
    for cpu in 0..cpus {
        let _ = write!(
            text,
            "processor\t: {cpu}\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\n\
             model name\t: {name}\nstepping\t: {}\nphysical id\t: 0\n\
             siblings\t: {cpus}\ncore id\t\t: {cpu}\ncpu cores\t: {cpus}\napicid\t\t: {cpu}\n\
             initial apicid\t: {cpu}\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {}\nwp\t\t: yes\n\
             flags\t\t: {flags}\nbugs\t\t:\nclflush size\t: 64\ncache_alignment\t: 64\n\
             address sizes\t: {} bits physical, {} bits virtual\n\n",
            id.eax & 0xf,
            leaf(0).eax,
            leaf(0x8000_0008).eax & 0xff,
            leaf(0x8000_0008).eax >> 8 & 0xff,
        );
    }
    text
}

/// Feature names in the order of Linux's `cpufeatures.h`, of those this CPU has.
fn flags() -> Vec<&'static str> {
    let (one, seven, ext) =
        (__cpuid_count(1, 0), __cpuid_count(7, 0), __cpuid_count(0x8000_0001, 0));
    let xsave = __cpuid_count(0xd, 1);
    let words: [(u32, &[(u32, &'static str)]); 7] = [
        (one.edx, EDX1),
        (ext.edx, EXT_EDX),
        (one.ecx, ECX1),
        (ext.ecx, EXT_ECX),
        (seven.ebx, EBX7),
        (seven.ecx, ECX7),
        (xsave.eax, XSAVE),
    ];
    words
        .iter()
        .flat_map(|(word, names)| {
            names.iter().filter(move |(bit, _)| word & (1 << bit) != 0).map(|(_, name)| *name)
        })
        .collect()
}

const EDX1: &[(u32, &str)] = &[
    (0, "fpu"),
    (1, "vme"),
    (2, "de"),
    (3, "pse"),
    (4, "tsc"),
    (5, "msr"),
    (6, "pae"),
    (7, "mce"),
    (8, "cx8"),
    (9, "apic"),
    (11, "sep"),
    (12, "mtrr"),
    (13, "pge"),
    (14, "mca"),
    (15, "cmov"),
    (16, "pat"),
    (17, "pse36"),
    (19, "clflush"),
    (23, "mmx"),
    (24, "fxsr"),
    (25, "sse"),
    (26, "sse2"),
    (28, "ht"),
];
const EXT_EDX: &[(u32, &str)] = &[
    (11, "syscall"),
    (20, "nx"),
    (22, "mmxext"),
    (25, "fxsr_opt"),
    (26, "pdpe1gb"),
    (27, "rdtscp"),
    (29, "lm"),
];
const ECX1: &[(u32, &str)] = &[
    (0, "pni"),
    (1, "pclmulqdq"),
    (9, "ssse3"),
    (12, "fma"),
    (13, "cx16"),
    (17, "pcid"),
    (19, "sse4_1"),
    (20, "sse4_2"),
    (22, "movbe"),
    (23, "popcnt"),
    (25, "aes"),
    (26, "xsave"),
    (28, "avx"),
    (29, "f16c"),
    (30, "rdrand"),
    (31, "hypervisor"),
];
const EXT_ECX: &[(u32, &str)] =
    &[(0, "lahf_lm"), (5, "abm"), (6, "sse4a"), (7, "misalignsse"), (8, "3dnowprefetch")];
const EBX7: &[(u32, &str)] = &[
    (0, "fsgsbase"),
    (3, "bmi1"),
    (5, "avx2"),
    (8, "bmi2"),
    (9, "erms"),
    (16, "avx512f"),
    (17, "avx512dq"),
    (18, "rdseed"),
    (19, "adx"),
    (23, "clflushopt"),
    (24, "clwb"),
    (28, "avx512cd"),
    (29, "sha_ni"),
    (30, "avx512bw"),
    (31, "avx512vl"),
];
const ECX7: &[(u32, &str)] = &[
    (1, "avx512vbmi"),
    (6, "avx512_vbmi2"),
    (8, "gfni"),
    (9, "vaes"),
    (10, "vpclmulqdq"),
    (11, "avx512_vnni"),
    (12, "avx512_bitalg"),
    (14, "avx512_vpopcntdq"),
    (22, "rdpid"),
];
const XSAVE: &[(u32, &str)] = &[(0, "xsaveopt"), (1, "xsavec"), (2, "xgetbv1")];
