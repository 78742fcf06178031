//! Log records: one line each, for people or for programs, and never in the way of the shutdown.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::json;
use crate::linux::stderr::Stderr;
use crate::plan::{LogFormat, LogPlan};

/// The longest value that a record shows. With a dozen fields a record stays below PIPE_BUF (4,096 bytes), up to
/// which a write to a pipe is never torn (pipe(7)).
const LONGEST_VALUE: usize = 320;

/// Begins to log as planned. Only the first call counts.
pub fn begin(plan: LogPlan) {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(plan.level)
        .with_writer(move || Records { format: plan.format, name: plan.name })
        .event_format(Format { format: plan.format, name: plan.name })
        .finish();
    let _ = tracing::subscriber::set_global_default(subscriber);
}

struct Sink {
    stderr: Stderr,
    lost: u64,
}

static SINK: Mutex<Option<Sink>> = Mutex::new(None);

/// Takes each record as one write.
struct Records {
    format: LogFormat,
    name: &'static str,
}

impl io::Write for Records {
    /// Always takes it all: a record that cannot be written is counted, and told of when the way is clear again.
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let mut sink = SINK.lock().unwrap_or_else(PoisonError::into_inner);
        let sink = sink.get_or_insert_with(|| Sink { stderr: Stderr::default(), lost: 0 });
        if sink.lost > 0 {
            let lost = self.lost(sink.lost);
            if sink.stderr.write(lost.as_bytes()).is_ok() {
                sink.lost = 0;
            }
        }
        if sink.stderr.write(record).is_err() {
            sink.lost = sink.lost.saturating_add(1);
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Records {
    fn lost(&self, records: u64) -> String {
        let mut line = String::new();
        let format = Format { format: self.format, name: self.name };
        let message = "log records were lost: nobody read standard error";
        let _ = format.line(
            &mut Writer::new(&mut line),
            Level::WARN,
            message,
            &[("records", Value::Number(records.to_string()))],
        );
        line
    }
}

struct Format {
    format: LogFormat,
    name: &'static str,
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.line(&mut writer, *event.metadata().level(), &fields.message, &fields.rest)
    }
}

impl Format {
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
                    }
                }
            }
            LogFormat::Json => {
                out.write_str("{\"time\":\"")?;
                SystemTime.format_time(out)?;
                write!(out, "\",\"level\":\"{level}\",\"msg\":")?;
                out.write_str(&json::string(message))?;
                for (name, value) in fields {
                    write!(out, ",\"{name}\":")?;
                    match value {
                        Value::Number(number) => out.write_str(number)?,
                        Value::Text(text) => out.write_str(&json::string(text))?,
                    }
                }
                out.write_char('}')?;
            }
        }
        out.write_char('\n')
    }
}

/// A message with its line breaks and other control characters made visible.
fn one_line(message: &str) -> String {
    message.chars().flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] }).collect()
}

enum Value {
    Number(String),
    Text(String),
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
        let mut line = String::new();
        let format = Format { format, name: "grace-init" };
        format.line(&mut Writer::new(&mut line), Level::WARN, message, fields).unwrap();
        line
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
    fn a_long_value_is_cut_between_characters() {
        let mut text = "ä".repeat(LONGEST_VALUE);
        shorten(&mut text, LONGEST_VALUE - 1);
        assert!(text.len() < LONGEST_VALUE + 4 && text.ends_with('…'));
    }
}
