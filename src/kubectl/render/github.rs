//! Annotations for GitHub's workflow log.

use crate::kubectl::input::Source;
use crate::kubectl::rules::{Finding, Level};

/// One `::error file=...` line.
pub fn annotation(finding: &Finding, source: &Source) -> String {
    let (line, column) = source.position(finding.span.start);
    let command = match finding.level {
        Level::Error => "error",
        Level::Warning => "warning",
        Level::Note => "notice",
    };
    let message = format!("{}\n{}\n{}", finding.title, finding.effect, finding.remedy);
    format!(
        "::{command} file={},line={line},col={column},title={}::{}\n",
        property(&source.name),
        property(&format!("{} {}", finding.rule.code, finding.object)),
        escaped(message.trim())
    )
}

/// As the runner decodes a message.
fn escaped(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// As the runner decodes a property.
fn property(text: &str) -> String {
    escaped(text).replace(':', "%3A").replace(',', "%2C")
}
