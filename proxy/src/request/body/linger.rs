//! The rest of a body that nobody wants any more, such as that of a refused upload: read and forgotten within
//! bounds. A client that writes everything before it reads would otherwise meet a reset instead of its answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use super::incoming::Incoming;
use crate::connection::http::Connection;

/// Reads on and forgets, until the end of the body or of our patience. hyper closes what is left unread.
pub async fn forget(mut incoming: Incoming, connection: Arc<Connection>) {
    let reading = async {
        let mut left = FORGET_BYTES_MAX;
        loop {
            let frame = match timeout(FORGET_SILENCE_MAX, incoming.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(None) => break,
                Ok(Some(Err(_))) | Err(_) => return,
            };
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
        if let Some(framing) = &connection.framing {
            framing.body_ended();
        }
    };
    // Late: then it is closed.
    let _ = timeout(FORGET_TIMEOUT, reading).await;
}

// Limit: what a client may send after its answer before it is cut off; a DICOM instance or two. nginx reads on
// for 30 s (`lingering_time`) and through pauses of 5 s (`lingering_timeout`), without a bound of bytes.
const FORGET_BYTES_MAX: usize = 64 * 1024 * 1024;
const FORGET_TIMEOUT: Duration = Duration::from_secs(30);
const FORGET_SILENCE_MAX: Duration = Duration::from_secs(5);
