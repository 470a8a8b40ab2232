//! Signals (`signal(7)`): numbers, queues, sending, stopping, delivery.
//!
//! * [`send`]: from the kernel's and other tasks' side. [`GroupSignals`], [`Pending`]: what waits.
//! * [`deliver`]: what a task does about them before it returns to guest code; [`frame`]: how a
//!   handler is entered and left. [`stop`]: job control.
//! * [`signalfd`]: signals as a file.

pub mod actions;
pub mod deliver;
pub mod frame;
pub mod group;
pub mod info;
pub mod mask;
pub mod number;
pub mod pending;
pub mod send;
pub mod signalfd;
pub mod stop;

pub use actions::{SigAction, SigHandlers};
pub use frame::AltStack;
pub use group::{GroupSignals, GroupStop};
pub use info::{SigFields, SigInfo};
pub use mask::Mask;
pub use number::{DefaultAction, NSIG, SigSet, Signal};
pub use pending::Pending;
