//! What every back end needs that runs guest code in a host process of its own, the *stub*.
//!
//! A stub holds nothing but guest mappings, one page of our code ([`code`]) and, while mapping work is
//! done, two pages of ours ([`layout`]). All stubs descend from one *zygote* ([`zygote`]), a process
//! that is forked from the sentry at start-up and stripped: no inherited memory, three descriptors,
//! no capabilities, and a filter ([`filter`]) that lets only our page make system calls, and only the
//! few that a stub needs. They are all the sentry's own children.
//!
//! [`queue`] turns what the sentry wants mapped into host calls; how those are made to happen inside
//! the stub is up to the back end.

pub(crate) mod batch;
pub(crate) mod bpf;
pub(crate) mod code;
pub(crate) mod filter;
pub(crate) mod interrupt;
pub(crate) mod keys;
pub(crate) mod layout;
pub(crate) mod lazy;
pub(crate) mod link;
pub(crate) mod mapped;
pub(crate) mod operation;
pub(crate) mod process;
pub(crate) mod queue;
pub(crate) mod space;
pub(crate) mod touched;
pub(crate) mod zygote;
