//! `/proc/keys`, `/proc/key-users` and `/proc/sys/kernel/keys`.

use super::net_settings::numbers;
use crate::errno::{Errno, Result};
use crate::fs::pseudo::{Node, Rights, Text, directory, text, text_fn};
use crate::kernel::keys::{Keys, Limit};
use crate::kernel::{Kernel, Task};
use std::sync::{Arc, Weak};

fn of_caller(kernel: &Arc<Kernel>, make: fn(&Keys, &Task) -> String) -> Node {
    let kernel = Arc::downgrade(kernel);
    text_fn(move || {
        let (Some(kernel), Some(task)) = (kernel.upgrade(), crate::kernel::current()) else {
            return String::new();
        };
        make(&kernel.keys.lock(), &task)
    })
}

/// `keys` and `key-users`.
pub fn nodes(kernel: &Arc<Kernel>) -> [(&'static str, Node); 2] {
    [
        ("keys", of_caller(kernel, Keys::proc_keys)),
        ("key-users", of_caller(kernel, Keys::proc_key_users)),
    ]
}

/// `/proc/sys/kernel/keys`
pub fn settings(kernel: &Arc<Kernel>) -> Node {
    let setting = |which| text(Setting { kernel: Arc::downgrade(kernel), which });
    directory(vec![
        ("gc_delay", setting(Limit::GcDelay)),
        ("maxbytes", setting(Limit::Bytes)),
        ("maxkeys", setting(Limit::Keys)),
        ("root_maxbytes", setting(Limit::RootBytes)),
        ("root_maxkeys", setting(Limit::RootKeys)),
    ])
}

struct Setting {
    kernel: Weak<Kernel>,
    which: Limit,
}

impl Text for Setting {
    fn read(&self) -> Result<Vec<u8>> {
        let kernel = self.kernel.upgrade().ok_or(Errno::ENOENT)?;
        let value = kernel.keys.lock().limit(self.which);
        Ok(format!("{value}\n").into_bytes())
    }

    fn write(&self, data: &[u8]) -> Result<()> {
        let kernel = self.kernel.upgrade().ok_or(Errno::ENOENT)?;
        let [n] = numbers(data)?[..] else { return Err(Errno::EINVAL) };
        let n = u32::try_from(n).ok().filter(|n| i32::try_from(*n).is_ok()).ok_or(Errno::EINVAL)?;
        kernel.keys.lock().set_limit(self.which, n);
        Ok(())
    }

    fn rights(&self) -> Rights {
        Rights::root(0o644)
    }
}
