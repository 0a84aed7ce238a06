//! What an answer costs, for algorithms that learn from them.

use std::time::Duration;

use crate::model::cost::{FAILURE, FAILURE_MAX};
use crate::proxy::wire::ResponseHead;

/// What an answer costs that took so long. One that says that the instance cannot serve costs at least
/// five seconds, or as long as it asks to be left alone: or else whoever fails at once would seem the
/// fastest.
pub fn cost_of(response: &ResponseHead, took: Duration) -> Duration {
    let verdict = verdict(response);
    if verdict != 429 && verdict < 500 {
        return took;
    }
    let asked = number(response, "retry-after").map(Duration::from_secs);
    let asked = asked.or(number(response, "grpc-retry-pushback-ms").map(Duration::from_millis));
    asked.map_or(FAILURE, |asked| asked.clamp(FAILURE, FAILURE_MAX)).max(took)
}

/// What a response says of its instance: its status or, of a gRPC call that failed before it had anything
/// to say, the status that means the same.
pub fn verdict(response: &ResponseHead) -> u16 {
    if response.status != 200 {
        return response.status;
    }
    match response.fields.value("grpc-status") {
        // UNAVAILABLE.
        Some(b"14") => 503,
        // UNKNOWN, which is what becomes of an exception, and INTERNAL.
        Some(b"2" | b"13") => 500,
        // RESOURCE_EXHAUSTED.
        Some(b"8") => 429,
        _ => 200,
    }
}

/// The value of a field that is a number. `Retry-After` may be a date too, which machines do not write.
fn number(response: &ResponseHead, field: &str) -> Option<u64> {
    let digits = str::from_utf8(response.fields.value(field)?).ok()?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number)
}
