//! The cases, one file per area.

mod aio;
mod areas;
mod async_io;
mod attributes;
mod controls;
mod creds;
mod devices;
mod epoll;
mod exec;
mod fanotify;
mod fanotify_fids;
mod faults;
mod file_kinds;
mod filemap;
mod files;
mod fuse;
mod futex;
mod futex_edges;
mod handles;
mod inet_close;
mod inet_data;
mod inet_dgram;
mod inet_groups;
mod inet_lite;
mod inet_netlink;
mod inet_options;
mod inet_raw;
mod inet_stream;
mod inotify;
mod interrupts;
mod keys;
mod landlock;
mod leases;
mod limits;
mod links;
mod locks;
mod machine;
mod masks;
mod memory;
mod memory_more;
mod mount_api;
mod mounts;
mod mqueue;
mod nameless;
mod namespaces;
mod packet;
mod paths;
mod pipes;
pub(crate) mod pkeys;
mod process;
mod procfs;
mod ptrace;
mod pty;
mod readiness;
mod seccomp;
mod sessions;
mod shared_files;
mod siginfo;
mod signals;
mod sites;
mod splices;
mod sysv;
mod threads;
mod time;
mod timers;
mod tracing;
mod unix;
mod unix_messages;
mod unix_oob;
mod unix_states;
mod userfaultfd;
mod waiting;

crate::registry::areas![
    masks,
    memory,
    memory_more,
    areas,
    filemap,
    file_kinds,
    nameless,
    process,
    waiting,
    exec,
    threads,
    futex,
    futex_edges,
    signals,
    sites,
    interrupts,
    faults,
    pkeys,
    siginfo,
    time,
    timers,
    files,
    paths,
    attributes,
    pipes,
    shared_files,
    splices,
    async_io,
    aio,
    locks,
    landlock,
    leases,
    epoll,
    readiness,
    handles,
    inotify,
    fanotify,
    fanotify_fids,
    keys,
    unix,
    unix_messages,
    unix_oob,
    unix_states,
    inet_stream,
    inet_close,
    inet_data,
    inet_dgram,
    inet_groups,
    inet_lite,
    inet_options,
    inet_raw,
    packet,
    links,
    inet_netlink,
    creds,
    controls,
    limits,
    sessions,
    pty,
    procfs,
    devices,
    sysv,
    mqueue,
    namespaces,
    mounts,
    mount_api,
    fuse,
    seccomp,
    ptrace,
    tracing,
    machine,
    userfaultfd,
];
