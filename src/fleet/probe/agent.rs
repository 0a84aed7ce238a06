//! Asking agents: a connection, and the one line that comes on it.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::time;

use crate::fleet::agent::Line;
use crate::fleet::order::{ProbeError, ProbeOrder};
use crate::fleet::probe::{Prober, broken, connect};

/// No line is longer.
const LINE_MOST: usize = 1024;

impl Prober {
    /// What the agent of the order's instance says, and how long that took.
    ///
    /// # Errors
    /// Says why nothing was heard, which is no fault of the instance.
    pub(super) async fn ask_agent(
        &self,
        order: &ProbeOrder,
    ) -> Result<(Duration, Line), ProbeError> {
        let start = self.clock.elapsed();
        let line = time::timeout(order.timeout, read_line(order)).await;
        let line = line.unwrap_or(Err(ProbeError::Timeout(order.timeout)))?;
        Ok((self.clock.elapsed().saturating_sub(start), line))
    }
}

/// Up to the end of the line, or of the connection.
async fn read_line(order: &ProbeOrder) -> Result<Line, ProbeError> {
    let mut stream = connect(order).await?;
    let mut bytes = Vec::new();
    let is_line = |bytes: &[u8]| bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
    while !is_line(&bytes) && bytes.len() < LINE_MOST {
        if stream.read_buf(&mut bytes).await.map_err(broken)? == 0 {
            break;
        }
    }
    if bytes.is_empty() {
        return Err(ProbeError::Closed);
    }
    // The agent has said all it had to say: no connection stays in TIME_WAIT for that.
    let _ = stream.set_zero_linger();
    Ok(Line::parse(&String::from_utf8_lossy(&bytes)))
}
