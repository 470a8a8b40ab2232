//! Flags of gVisor's `runsc` that are about something this one does not have: accepted, so that configurations
//! written for it go on to work, if what they ask for is the case anyway. If not, those that a container does as well
//! without have no effect, which is said, and others are refused.

use What::{Anything, Diagnosis, Only};

/// What may be asked for.
enum What {
    /// All values are the same here.
    Anything,
    /// These values say what is the case; others are refused, because of what is missing.
    Only(&'static [&'static str], &'static str),
    /// The same, but others have no effect.
    Diagnosis(&'static [&'static str], &'static str),
}

/// A flag.
pub struct Known {
    name: &'static str,
    /// It needs no value.
    pub is_switch: bool,
    what: What,
}

const fn switch(name: &'static str, what: What) -> Known {
    Known { name, is_switch: true, what }
}

const fn value(name: &'static str, what: What) -> Known {
    Known { name, is_switch: false, what }
}

const NO: &[&str] = &["false"];

/// Flags before the command.
static GLOBAL: &[Known] = &[
    value("EXPERIMENTAL-xdp", Only(&["off"], "there is no XDP link")),
    switch("EXPERIMENTAL-xdp-need-wakeup", Anything),
    switch("TESTONLY-afs-syscall-panic", Diagnosis(NO, "no system call makes the sentry panic")),
    switch("TESTONLY-allow-packet-endpoint-write", Anything),
    value("TESTONLY-autosave-image-path", Only(&[""], "sandboxes cannot be saved")),
    switch("TESTONLY-autosave-resume", Only(NO, "sandboxes cannot be saved")),
    switch("TESTONLY-nftables", Anything),
    value("TESTONLY-test-name-env", Anything),
    switch("TESTONLY-unsafe-nonroot", Anything),
    switch("allow-connected-on-save", Anything),
    switch("allow-flag-override", Only(NO, "annotations cannot override flags")),
    switch("allow-live-tcp-migration", Anything),
    switch("allow-packet-socket-write", Anything),
    switch("allow-rootfs-tar-annotation", Only(NO, "a root cannot be read from a tar file")),
    switch("alsologtostderr", Diagnosis(NO, "--debug-log=/dev/stderr shows the debug log")),
    switch("app-huge-pages", Anything),
    switch("buffer-pooling", Anything),
    value(
        "character-device-policy",
        Only(&["emulated-only"], "devices of the host are not served"),
    ),
    value("control-rpc-stop-timeout", Anything),
    value("coverage-report", Diagnosis(&[""], "there are no coverage reports")),
    switch(
        "cpu-num-from-quota",
        Diagnosis(NO, "programs are told of every CPU that the sandbox may use"),
    ),
    value("dcache", Anything),
    switch("directfs", Anything),
    switch("enable-core-tags", Only(NO, "core scheduling is not used")),
    value("fdlimit", Diagnosis(&["-1"], "the host's limit is that of whoever starts the sandbox")),
    value(
        "final-metrics-log",
        Diagnosis(&[""], "export-metrics and metric-server tell the metrics"),
    ),
    switch("fuse", Anything),
    value(
        "gofer-network-namespace",
        Only(&["null"], "the gofer has a network namespace of its own"),
    ),
    switch("gso", Anything),
    value("gvisor-gro", Anything),
    switch("gvisor-marker-file", Diagnosis(NO, "nothing here says that it is gVisor")),
    value("host-settings", Diagnosis(&["check", "ignore"], "settings of the host are left alone")),
    switch("iouring", Only(NO, "io_uring is refused as by a kernel without it")),
    switch("kvm-use-cpu-nums", Anything),
    switch("lisafs", Anything),
    switch("log-packets", Diagnosis(NO, "--pcap keeps the packets")),
    switch("mount-cgroup-v2", Anything),
    switch("net-disconnect-ok", Anything),
    value("network-processors-per-channel", Anything),
    value("num-network-channels", Anything),
    switch("nvproxy", Only(NO, "there is no proxy for GPUs")),
    switch("nvproxy-allow-unsupported-driver", Anything),
    value("nvproxy-allowed-driver-capabilities", Anything),
    switch("nvproxy-docker", Only(NO, "there is no proxy for GPUs")),
    value("nvproxy-driver-version", Anything),
    value("override-procs", Only(&[""], "files of /proc cannot be replaced")),
    value("panic-signal", Diagnosis(&["-1"], "no signal makes the sentry panic")),
    switch("pause-external-networking", Only(NO, "the network begins with the sandbox")),
    value("platform_device_path", Only(&["", "/dev/kvm"], "the kvm platform uses /dev/kvm")),
    value("pod-init-config", Only(&[""], "there are no trace sinks")),
    switch("profile", Diagnosis(NO, "perf(1) profiles the sentry")),
    value("profile-block", Diagnosis(&[""], "perf(1) profiles the sentry")),
    value("profile-cpu", Diagnosis(&[""], "perf(1) profiles the sentry")),
    value("profile-gc-interval", Anything),
    value("profile-heap", Diagnosis(&[""], "perf(1) profiles the sentry")),
    value("profile-mutex", Diagnosis(&[""], "perf(1) profiles the sentry")),
    value(
        "profiling-metrics",
        Diagnosis(&[""], "export-metrics and metric-server tell the metrics"),
    ),
    value("profiling-metrics-log", Anything),
    value("profiling-metrics-rate-us", Anything),
    value("qdisc", Only(&["none", "fifo"], "what is sent is not delayed")),
    value("qdisc-tbf-burst", Anything),
    value("qdisc-tbf-rate", Anything),
    switch("rdmaproxy", Only(NO, "there is no proxy for RDMA")),
    value("ref-leak-mode", Anything),
    switch("reproduce-nat", Only(NO, "the sandbox begins with an empty packet filter")),
    switch("reproduce-nftables", Only(NO, "the sandbox begins with an empty packet filter")),
    value("restore-spec-validation", Anything),
    switch("rootless", Anything),
    switch("rx-checksum-offload", Anything),
    switch("save-restore-netstack", Anything),
    value("shared-root", Anything),
    value("sidecar-release-enforcement-policy", Anything),
    switch("software-gso", Anything),
    switch("strace-event", Diagnosis(NO, "--strace writes to the debug log")),
    switch("systrap-disable-fast-path", Anything),
    switch("tpuproxy", Only(NO, "there is no proxy for TPUs")),
    value("traceback", Anything),
    switch("tx-checksum-offload", Anything),
    switch("verity", Only(NO, "there is no verity file system")),
    switch("vfs2", Anything),
    value(
        "watchdog-action",
        Diagnosis(&["log"], "the sentry does not panic about calls that take long"),
    ),
];

/// Flags of commands.
static COMMANDS: &[(&str, &[Known])] = &[
    ("create", CREATE),
    ("run", CREATE),
    (
        "do",
        &[
            value("ip", Only(&["192.168.10.2"], "--net-ns gives addresses")),
            switch("quiet", Anything),
            switch("force-overlay", Only(&["true"], "a volume with rw is written through")),
            value("erofs", Only(&[""], "the root is a directory")),
        ],
    ),
    ("usage", &[switch("fd", Anything)]),
];

static CREATE: &[Known] = &[
    value("user-log", Diagnosis(&[""], "--log has errors and warnings")),
    value("fs-restore-image-path", Only(&[""], "file systems cannot be restored")),
    switch("fs-restore-direct", Anything),
];

/// The flag of a command (or of none: `runsc`), by its name.
pub fn find(command: &str, name: &str) -> Option<&'static Known> {
    let list = match COMMANDS.iter().find(|(known, _)| *known == command) {
        Some((_, list)) => list,
        None if command == "runsc" => GLOBAL,
        None => return None,
    };
    list.iter().find(|known| known.name == name)
}

impl Known {
    /// Refuses a value that asks for what is not the case; or says that it has no effect.
    pub fn check(&self, value: &str) -> Result<Option<String>, String> {
        let name = self.name;
        match &self.what {
            Only(values, why) if !values.contains(&value) => {
                Err(format!("--{name}={value} cannot be had: {why}; leave the flag out"))
            }
            Diagnosis(values, why) if !values.contains(&value) => {
                Ok(Some(format!("--{name}={value} has no effect: {why}")))
            }
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn sorted_and_not_ours() {
        assert!(GLOBAL.windows(2).all(|pair| pair[0].name < pair[1].name));
        let root = super::super::Cli::command();
        let ours = |name: &str| root.get_arguments().any(|arg| arg.get_long() == Some(name));
        assert_eq!(GLOBAL.iter().map(|k| k.name).find(|name| ours(name)), None);
    }
}
