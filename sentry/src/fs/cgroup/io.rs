//! Files of the io controller.

use super::file::Spec;
use crate::kernel::cgroup::Controllers;

pub(super) const FILES: &[Spec] = &[
    Spec::both("io.max", |s| Ok(s.group.io_max()), |s, text| s.group.set_io_max(text))
        .of(Controllers::IO),
    Spec::read("io.stat", |s| Ok(s.group.io_stat())).of(Controllers::IO),
];
