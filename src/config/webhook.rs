//! Settings of the webhook worker.

use std::time::Duration;

use super::Reader;

/// The webhook worker.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    /// Receivers may lie on private networks.
    pub allow_private: bool,
    /// Failures in a row that open a receiver's circuit.
    pub circuit_threshold: u64,
    /// Attempts for an event that a receiver stumbles over.
    pub max_attempts: u64,
    /// An event that could not be delivered for so long is given up.
    pub max_age: Duration,
    /// Most events waiting for one receiver.
    pub queue_max: u64,
    /// Days that deliveries are listed after their end.
    pub keep_days: u64,
}

/// Reads them.
pub(super) fn read(read: &mut Reader<'_>) -> WebhookConfig {
    WebhookConfig {
        allow_private: read.flag("DECNET_WEBHOOK_ALLOW_PRIVATE"),
        circuit_threshold: read.bounded("DECNET_WEBHOOK_CIRCUIT_THRESHOLD", 1, 1000, 5),
        max_attempts: read.bounded("DECNET_WEBHOOK_MAX_ATTEMPTS", 1, 1000, 8),
        max_age: Duration::from_secs(
            3600 * read.bounded("DECNET_WEBHOOK_MAX_AGE_HOURS", 1, 8760, 24),
        ),
        queue_max: read.bounded("DECNET_WEBHOOK_QUEUE_MAX", 1, 10_000_000, 10_000),
        keep_days: read.bounded("DECNET_WEBHOOK_KEEP_DAYS", 1, 3650, 30),
    }
}
