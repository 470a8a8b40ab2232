//! The cases, one file per area.

mod aio;
mod async_io;
mod attributes;
mod creds;
mod devices;
mod epoll;
mod exec;
mod fanotify;
mod faults;
mod filemap;
mod files;
mod fuse;
mod futex;
mod handles;
mod inet_close;
mod inet_data;
mod inet_dgram;
mod inet_groups;
mod inet_netlink;
mod inet_options;
mod inet_raw;
mod inet_stream;
mod inotify;
mod keys;
mod landlock;
mod leases;
mod links;
mod locks;
mod machine;
mod memory;
mod memory_more;
mod mount_api;
mod mounts;
mod mqueue;
mod namespaces;
mod packet;
mod paths;
mod pipes;
mod process;
mod procfs;
mod ptrace;
mod pty;
mod seccomp;
mod sessions;
mod signals;
mod sysv;
mod threads;
mod time;
mod unix;
mod unix_messages;
mod unix_oob;
mod userfaultfd;

crate::registry::areas![
    memory,
    memory_more,
    filemap,
    process,
    exec,
    threads,
    futex,
    signals,
    faults,
    time,
    files,
    paths,
    attributes,
    pipes,
    async_io,
    aio,
    locks,
    landlock,
    leases,
    epoll,
    handles,
    inotify,
    fanotify,
    keys,
    unix,
    unix_messages,
    unix_oob,
    inet_stream,
    inet_close,
    inet_data,
    inet_dgram,
    inet_groups,
    inet_options,
    inet_raw,
    packet,
    links,
    inet_netlink,
    creds,
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
    machine,
    userfaultfd,
];
