//! Log records: one line each, for people or for programs, and never in the way of the shutdown.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::json;
use crate::plan::{LogFormat, LogPlan};
use crate::system::linux::stderr::Stderr;

/// The longest value that a record shows. With a dozen fields a record stays below PIPE_BUF (4,096 bytes), up to
/// which a write to a pipe is never torn (pipe(7)).
const LONGEST_VALUE: usize = 320;

/// Begins to log as planned. Only the first call counts.
pub fn begin(plan: LogPlan) {
    let format = Format { format: plan.format, name: plan.name };
    let sink = Mutex::new(Sink { stderr: Stderr::default(), lost: 0 });
    let subscriber = EventsOnly.with(plan.level).with(Records { format, sink });
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// Logs what was noticed before there was a log.
pub fn warn_of(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// What the layers stand on. tracing-subscriber's own registry keeps track of spans, of which there are none here, and
/// holds 36 KiB for them.
struct EventsOnly;

impl Subscriber for EventsOnly {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Writes each event as one record.
struct Records {
    format: Format,
    sink: Mutex<Sink>,
}

struct Sink {
    stderr: Stderr,
    lost: u64,
}

impl<S: Subscriber> Layer<S> for Records {
    /// A record that cannot be written is counted, and told of when the way is clear again.
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let record = self.format.record(*event.metadata().level(), &fields.message, &fields.rest);
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        if sink.lost > 0 {
            let lost = [("records", Value::Number(sink.lost.to_string()))];
            let lost =
                self.format.record(Level::WARN, "log records were lost: nobody read standard error", &lost);
            if sink.stderr.write(lost.as_bytes()).is_ok() {
                sink.lost = 0;
            }
        }
        if sink.stderr.write(record.as_bytes()).is_err() {
            sink.lost = sink.lost.saturating_add(1);
        }
    }
}

struct Format {
    format: LogFormat,
    name: &'static str,
}

impl Format {
    fn record(&self, level: Level, message: &str, fields: &[(&str, Value)]) -> String {
        let mut record = String::new();
        // Writing to a String cannot fail.
        let _ = self.line(&mut Writer::new(&mut record), level, message, fields);
        record
    }

    fn line(
        &self,
        out: &mut Writer<'_>,
        level: Level,
        message: &str,
        fields: &[(&str, Value)],
    ) -> fmt::Result {
        let level = match level {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        match self.format {
            LogFormat::Text => {
                write!(out, "{}: {level}: {}", self.name, one_line(message))?;
                for (name, value) in fields {
                    match value {
                        Value::Number(number) => write!(out, " {name}={number}")?,
                        Value::Text(text)
                            if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"') =>
                        {
                            write!(out, " {name}={text:?}")?;
                        }
                        Value::Text(text) => write!(out, " {name}={text}")?,
                        // The message says the same in words.
                        Value::Members(_) => {}
                    }
                }
            }
            LogFormat::Json => {
                out.write_str("{\"time\":\"")?;
                SystemTime.format_time(out)?;
                write!(out, "\",\"level\":\"{level}\",\"msg\":")?;
                out.write_str(&json::string(message))?;
                for (name, value) in fields {
                    match value {
                        Value::Number(number) => write!(out, ",\"{name}\":{number}")?,
                        Value::Text(text) => write!(out, ",\"{name}\":{}", json::string(text))?,
                        Value::Members(members) => write!(out, ",{members}")?,
                    }
                }
                out.write_char('}')?;
            }
        }
        out.write_char('\n')
    }
}

/// A message with its line breaks and other control characters made visible.
fn one_line(message: &str) -> Cow<'_, str> {
    if !message.contains(char::is_control) {
        return message.into();
    }
    let mut line = String::with_capacity(message.len());
    for c in message.chars() {
        if c.is_control() { line.extend(c.escape_debug()) } else { line.push(c) }
    }
    line.into()
}

enum Value {
    Number(String),
    Text(String),
    /// Members of a JSON object, ready to be written: the field named `json`.
    Members(String),
}

/// The fields of an event, in their order, the message apart.
#[derive(Default)]
struct Fields {
    message: String,
    rest: Vec<(&'static str, Value)>,
}

impl Fields {
    fn text(&mut self, field: &Field, mut text: String) {
        if field.name() == "message" {
            // Twice as long: the summary of a shutdown is a message.
            shorten(&mut text, LONGEST_VALUE.saturating_mul(2));
            self.message = text;
        } else {
            shorten(&mut text, LONGEST_VALUE);
            self.rest.push((field.name(), Value::Text(text)));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "json" {
            return self.rest.push((field.name(), Value::Members(value.to_owned())));
        }
        self.text(field, value.to_owned());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.rest.push((field.name(), Value::Number(value.to_string())));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.rest.push((field.name(), Value::Number(value.to_string())));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.rest.push((field.name(), Value::Number(value.to_string())));
    }

    // No record has such values; what would write them is 20 kB of the file.
    fn record_f64(&mut self, _: &Field, _: f64) {}

    fn record_i128(&mut self, _: &Field, _: i128) {}

    fn record_u128(&mut self, _: &Field, _: u128) {}
}

fn shorten(text: &mut String, longest: usize) {
    if text.len() > longest {
        let mut end = longest;
        while !text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(format: LogFormat, message: &str, fields: &[(&str, Value)]) -> String {
        Format { format, name: "grace-init" }.record(Level::WARN, message, fields)
    }

    #[test]
    fn a_text_record_is_one_line_whatever_it_holds() {
        let fields = [
            ("step", Value::Text("a\nb \"c\"".into())),
            ("pid", Value::Number("7".into())),
            ("signal", Value::Text("SIGTERM".into())),
        ];
        let line = line(LogFormat::Text, "two\nlines", &fields);
        assert_eq!(line, "grace-init: warn: two\\nlines step=\"a\\nb \\\"c\\\"\" pid=7 signal=SIGTERM\n");
    }

    #[test]
    fn a_json_record_escapes_what_json_must() {
        let line = line(LogFormat::Json, "say \"hi\"\n\u{1}\\", &[("pid", Value::Number("7".into()))]);
        let (_, rest) = line.split_once("\",\"level\"").unwrap();
        assert_eq!(rest, ":\"warn\",\"msg\":\"say \\\"hi\\\"\\n\\u0001\\\\\",\"pid\":7}\n");
        assert!(line.starts_with("{\"time\":\"20") && line.contains('Z'), "{line}");
    }

    #[test]
    fn ready_json_members_are_written_as_they_are_and_only_into_json() {
        let fields = [("json", Value::Members("\"phases\":[]".into()))];
        assert!(line(LogFormat::Json, "done", &fields).ends_with(",\"msg\":\"done\",\"phases\":[]}\n"));
        assert_eq!(line(LogFormat::Text, "done", &fields), "grace-init: warn: done\n");
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let mut text = "ä".repeat(LONGEST_VALUE);
        shorten(&mut text, LONGEST_VALUE - 1);
        assert!(text.len() < LONGEST_VALUE + 4 && text.ends_with('…'));
    }
}
