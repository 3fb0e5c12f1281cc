//! What wakes the supervisor.

use std::sync::mpsc::Sender;

use super::load::Loaded;
use crate::shard::mailbox::ShardEvent;

/// An event; all come through one channel, so the supervisor handles one at a time.
pub enum Event {
    /// Files that TLS settings name have changed.
    CertificatesChanged,
    /// A date has passed that certificates or lists have.
    CertificatesDue,
    /// A helper thread has read and built a configuration.
    Loaded(Box<Loaded>),
    /// A shard speaks.
    Shard(usize, ShardEvent),
    /// The process got a signal.
    Signal(i32),
}

/// Where events are sent.
pub type EventSender = Sender<Event>;
