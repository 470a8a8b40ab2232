//! Futexes (`futex(2)`): who waits on which word of guest memory.
//!
//! * [`FutexTable`]: hashed buckets of waiters; [`wait`](FutexTable::wait), wake, requeue.
//! * [`pi`]: locks that are handed from owner to owner. [`robust`]: locks whose owner dies.
//!
//! A bucket's lock is held while the word is looked at, so that a waker, who changes the word first,
//! either finds the waiter queued or makes it see the new value.

pub mod ops;
pub mod pi;
pub mod robust;
pub mod table;
pub mod waitv;

pub use table::{FutexTable, Waiter};
