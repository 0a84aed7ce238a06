//! What an answer costs, for algorithms that learn from them.

use std::time::Duration;

use crate::model::cost::{FAILURE, FAILURE_MAX};
use crate::proxy::wire::ResponseHead;

/// What an answer costs that took so long. One that says that the instance cannot serve costs at least
/// five seconds, or as long as it asks to be left alone: or else whoever fails at once would seem the
/// fastest.
pub fn cost_of(response: &ResponseHead, took: Duration) -> Duration {
    if response.status != 429 && response.status < 500 {
        return took;
    }
    retry_after(response).map_or(FAILURE, |asked| asked.clamp(FAILURE, FAILURE_MAX)).max(took)
}

/// `Retry-After` where it is a number of seconds, which is what machines write.
fn retry_after(response: &ResponseHead) -> Option<Duration> {
    let digits = str::from_utf8(response.fields.value("retry-after")?).ok()?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number).map(Duration::from_secs)
}
