//! What a gofer may do beyond being somebody.

use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// Highest capability number to drop from the bounding set. The host refuses those it lacks.
const LAST_CAPABILITY: u32 = 63;

/// Raises the limit on open files as far as is allowed: each file held for the sentry is one.
pub(super) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Failing leaves the limit as it was, which is only a smaller one.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Becomes user 0 and group 0, without further groups.
pub(super) fn become_root() -> Result<(), Errno> {
    let (user, group) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    // Denied where an unprivileged user has made the namespace; the groups stay those of that user.
    let _ = rustix::thread::set_thread_groups(&[]);
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)
}

/// Drops every capability that serving files does not need, for good.
///
/// Root keeps the power to read any file, and, if something can be written to, to write and to give
/// files away: a container's root expects no less of its own files. The file system calls make no
/// other distinction, so the protocol's rules bound what it is used for.
pub(super) fn drop_all(writable: bool) -> Result<(), Errno> {
    let mut keep = CapabilitySet::DAC_READ_SEARCH;
    if writable {
        keep |= CapabilitySet::DAC_OVERRIDE
            | CapabilitySet::CHOWN
            | CapabilitySet::FOWNER
            | CapabilitySet::FSETID;
    }
    let mut sets = rustix::thread::capabilities(None)?;
    // An unprivileged user's namespace grants capabilities over that user's own files: of no use.
    if !rustix::process::geteuid().is_root() {
        keep = CapabilitySet::empty();
    }
    if sets.effective.contains(CapabilitySet::SETPCAP) {
        for capability in 0..=LAST_CAPABILITY {
            let capability = CapabilitySet::from_bits_retain(1 << capability);
            if keep.intersection(capability).is_empty() {
                match rustix::thread::remove_capability_from_bounding_set(capability) {
                    Ok(()) => {}
                    // The first number that this host does not know.
                    Err(Errno::INVAL) => break,
                    Err(error) => return Err(error),
                }
            }
        }
    }
    // Absent on hosts before Linux 4.3, which have nothing to clear then.
    let _ = rustix::thread::clear_ambient_capability_set();
    rustix::thread::set_no_new_privs(true)?;
    keep &= sets.permitted;
    sets = CapabilitySets { effective: keep, permitted: keep, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)?;
    // Nobody of the same user may look into it.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
}
