//! Who the kernel says it is (`uname(2)`, `/proc/version`).

/// The names that do not depend on the container.
#[derive(Debug)]
pub struct Uts {
    /// `sysname`
    pub sysname: &'static str,
    /// `release`: the Linux release whose interfaces are offered.
    pub release: &'static str,
    /// `version`
    pub version: &'static str,
    /// `machine`
    pub machine: &'static str,
}

/// This kernel's.
pub const UTS: Uts = Uts {
    sysname: "Linux",
    release: "6.12.0-runsc",
    version: concat!("#1 SMP runsc ", env!("CARGO_PKG_VERSION")),
    machine: "x86_64",
};
