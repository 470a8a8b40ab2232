//! Events: what containerd is told, in order, by a thread of its own.

use crate::log;
use anyhow::Context;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim_protos::protobuf::{MessageDyn, MessageFull};
use containerd_shim_protos::shim::event::Envelope;
use containerd_shim_protos::shim::events::ForwardRequest;
use containerd_shim_protos::ttrpc::context::with_duration;
use containerd_shim_protos::{Client, EventsClient};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest wait for containerd.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Time between two tries.
const PAUSE: Duration = Duration::from_secs(1);
/// How often an event is sent while containerd is started again.
const TRIES: u32 = 5;

/// A topic and what happened.
pub type Event = (&'static str, Box<dyn MessageDyn>);

/// The time.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut time = Timestamp::new();
    time.seconds = i64::try_from(since.as_secs()).unwrap_or(0);
    time.nanos = i32::try_from(since.subsec_nanos()).unwrap_or(0);
    time
}

/// The value as a message of whatever type.
pub fn any<M: MessageFull>(message: &M) -> anyhow::Result<Any> {
    any_dyn(message)
}

fn any_dyn(message: &dyn MessageDyn) -> anyhow::Result<Any> {
    let mut any = Any::new();
    any.type_url = message.descriptor_dyn().full_name().to_owned();
    any.value = message.write_to_bytes_dyn().context("cannot encode a message")?;
    Ok(any)
}

/// Starts the thread.
pub fn publisher(namespace: &str) -> anyhow::Result<Sender<Event>> {
    let address = std::env::var("TTRPC_ADDRESS")
        .context("TTRPC_ADDRESS, where containerd takes events, is not set")?;
    let namespace = namespace.to_owned();
    let (sender, receiver) = channel::<Event>();
    std::thread::spawn(move || {
        let mut client = None;
        for (topic, message) in receiver {
            if let Err(e) = publish(&mut client, &address, &namespace, topic, &*message) {
                log::warn(&format!("cannot tell containerd of {topic}: {e:#}"));
            }
        }
    });
    Ok(sender)
}

fn publish(
    client: &mut Option<EventsClient>,
    address: &str,
    namespace: &str,
    topic: &str,
    message: &dyn MessageDyn,
) -> anyhow::Result<()> {
    let mut envelope = Envelope::new();
    envelope.topic = topic.to_owned();
    envelope.namespace = namespace.to_owned();
    envelope.timestamp = Some(now()).into();
    envelope.event = Some(any_dyn(message)?).into();
    let mut request = ForwardRequest::new();
    request.envelope = Some(envelope).into();
    let mut tried = 0;
    loop {
        let sent = (|| -> anyhow::Result<()> {
            let client = match client {
                Some(client) => client,
                None => {
                    let url = format!("unix://{address}");
                    client.insert(EventsClient::new(Client::connect(&url)?))
                }
            };
            client.forward(with_duration(TIMEOUT), &request)?;
            Ok(())
        })();
        let Err(e) = sent else { return Ok(()) };
        *client = None;
        tried += 1;
        if tried == TRIES {
            return Err(e);
        }
        // There is nothing to wait for: containerd's socket exists before it listens there, and whether it is started
        // again at all nobody knows. Only this thread is held up, and only while there is nobody to talk to.
        std::thread::sleep(PAUSE);
    }
}
