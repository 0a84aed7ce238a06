//! Log lines: to stderr, one event each, with UTC times as RFC 3339 has them.

use tracing::{Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt;

use crate::config::LogFormat;

/// Sends the events of the whole process to stderr, from `level` up. Only the first call counts:
/// what is logged does not change while the daemon runs.
pub fn init(level: Level, format: LogFormat) {
    let subscriber = subscriber(level, format, std::io::stderr);
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Lines for people are `time level message fields`; lines for machines are one JSON object each,
/// with the same fields beside `timestamp`, `level`, `message` and `target` (the module).
fn subscriber<W>(level: Level, format: LogFormat, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(writer)
        .with_timer(SystemTime)
        .with_ansi(false);
    // The engine of HTTP/2 tells of every frame.
    let told = Targets::new().with_default(level).with_target("h2", level.min(Level::INFO));
    match format {
        LogFormat::Text | LogFormat::Common => {
            Box::new(lines.compact().with_target(false).finish().with(told))
        }
        LogFormat::Json => Box::new(
            lines
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .finish()
                .with(told),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("the sink").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn written(level: Level, format: LogFormat) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        tracing::subscriber::with_default(
            subscriber(level, format, move || writer.clone()),
            || {
                tracing::debug!("not worth telling");
                tracing::debug!(target: "h2::codec", "a frame");
                tracing::warn!(pool = "web", tries = 3, "no instance");
            },
        );
        let bytes = sink.0.lock().expect("the sink").clone();
        String::from_utf8(bytes).expect("text")
    }

    /// `2026-01-02T03:04:05.678901Z`: in this format times sort as text.
    fn is_utc_rfc3339(time: &str) -> bool {
        let shape: String =
            time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        shape == "0000-00-00T00:00:00.000000Z"
    }

    #[test]
    fn a_text_line_is_time_level_message_fields() {
        let text = written(Level::INFO, LogFormat::Text);
        assert_eq!(text.lines().count(), 1, "below the level nothing is written: {text}");
        let (time, rest) = text.split_once(' ').expect("a time");
        assert!(is_utc_rfc3339(time), "{time}");
        assert_eq!(rest.trim(), "WARN no instance pool=\"web\" tries=3");
    }

    #[test]
    fn a_json_line_is_one_flat_object() {
        let text = written(Level::DEBUG, LogFormat::Json);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[1]["level"], "WARN");
        assert_eq!(lines[1]["message"], "no instance");
        assert_eq!(lines[1]["pool"], "web");
        assert_eq!(lines[1]["tries"], 3);
        assert!(is_utc_rfc3339(lines[1]["timestamp"].as_str().expect("a time")));
    }
}
