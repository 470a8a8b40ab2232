//! Every host system call that the client makes, for the filter of the sentry.

use platform::host::calls::{HostCall, host_calls};

/// All of them, once [`super::Client::connect`] has returned.
pub const CALLS: &[HostCall] = host_calls! {
    sendmsg SYS_sendmsg Run "send a request to the gofer";
    recvmsg SYS_recvmsg Run "wait for its reply and the donated descriptor";
    shutdown SYS_shutdown Run "close the channels to a gofer that breaks the protocol";
    ppoll SYS_ppoll Run "wait for the gofer's death";
    close SYS_close Run "let go of donated descriptors and of the channels";
    getcpu SYS_getcpu Run "choose the channel of this CPU, where the vDSO cannot tell";
    futex SYS_futex Run "wait for a channel that is in use";
};
