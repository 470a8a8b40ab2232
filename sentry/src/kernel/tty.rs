//! What the kernel knows of a controlling terminal. The terminals themselves are files
//! (`fs::devpts`); a session names its terminal through this trait.

use std::any::Any;

/// A terminal that a session can have (`tty_ioctl(4)`, `credentials(7)`).
pub trait ControllingTty: Send + Sync + Any {
    /// Device number, as `/proc/PID/stat` shows it.
    fn dev(&self) -> u64;

    /// The foreground process group; 0 if there is none.
    fn foreground(&self) -> i32;

    /// The session that had it as controlling terminal has lost its leader: forget session and
    /// foreground group. Signals are sent by the caller.
    fn session_ended(&self, sid: i32);

    /// For downcasts by the terminal code.
    fn as_any(&self) -> &dyn Any;
}
