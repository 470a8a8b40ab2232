//! Every host system call that the client makes, for the filter of the sentry.

use crate::server::calls::{HostCall, calls};

/// All of them, once [`super::Client::connect`] has returned.
pub const CALLS: &[HostCall] = calls! {
    SYS_sendmsg "sendmsg" "send a request to the gofer";
    SYS_recvmsg "recvmsg" "wait for its reply and the donated descriptor";
    SYS_shutdown "shutdown" "close the channels to a gofer that breaks the protocol";
    SYS_ppoll "ppoll" "wait for the gofer's death";
    SYS_close "close" "let go of donated descriptors and of the channels";
    SYS_getcpu "getcpu" "choose the channel of this CPU, where the vDSO cannot tell";
    SYS_futex "futex" "wait for a channel that is in use";
};
