//! Files of the cpuset controller.

use super::file::Spec;
use crate::kernel::cgroup::Controllers;
use crate::kernel::cpus;

pub(super) const FILES: &[Spec] = &[
    Spec::both(
        "cpuset.cpus",
        |s| Ok(format!("{}\n", s.group.cpuset_cpus())),
        |s, text| s.group.set_cpuset_cpus(s.kernel, text),
    )
    .of(Controllers::CPUSET),
    Spec::read("cpuset.cpus.effective", |s| {
        Ok(format!("{}\n", cpus::list(&s.group.allowed_cpus(s.kernel))))
    })
    .of(Controllers::CPUSET),
    Spec::both(
        "cpuset.cpus.partition",
        |s| Ok(format!("{}\n", s.group.cpuset_partition())),
        |s, text| s.group.set_cpuset_partition(text),
    )
    .of(Controllers::CPUSET),
    Spec::both(
        "cpuset.mems",
        |s| Ok(format!("{}\n", s.group.cpuset_mems())),
        |s, text| s.group.set_cpuset_mems(text),
    )
    .of(Controllers::CPUSET),
    Spec::read("cpuset.mems.effective", |_| Ok("0\n".into())).of(Controllers::CPUSET),
];
