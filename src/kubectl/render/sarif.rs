//! SARIF 2.1.0, for code scanning.

use serde_json::{Value, json};

use crate::kubectl::input::Source;
use crate::kubectl::rules::{Finding, Level, RULES};

/// A log with one run.
pub fn log(findings: &[Finding], sources: &[Source]) -> Value {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| {
            json!({
                "id": rule.code,
                "name": rule.name,
                "shortDescription": { "text": rule.summary },
                "fullDescription": { "text": rule.explanation },
                "defaultConfiguration": { "level": level(rule.level) },
            })
        })
        .collect();
    let results: Vec<Value> = findings.iter().map(|finding| result(finding, sources)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "kubectl-grace", "version": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    })
}

fn level(level: Level) -> &'static str {
    level.name()
}

fn result(finding: &Finding, sources: &[Source]) -> Value {
    let index = RULES.iter().position(|rule| rule.code == finding.rule.code);
    let source = sources.get(finding.source);
    let position = |byte| source.map_or((1, 1), |source| source.position(byte));
    let ((line, column), (end_line, end_column)) = (position(finding.span.start), position(finding.span.end));
    let uri = source.map(|source| uri(&source.name)).unwrap_or_default();
    json!({
        "ruleId": finding.rule.code,
        "ruleIndex": index,
        "level": level(finding.level),
        "message": { "text": format!("{}: {}. {}.", finding.object, finding.title, finding.remedy) },
        "locations": [{
            "physicalLocation": {
                "artifactLocation": { "uri": uri },
                "region": { "startLine": line, "startColumn": column, "endLine": end_line, "endColumn": end_column },
            },
            "logicalLocations": [{ "fullyQualifiedName": format!("{}.{}", finding.object, finding.path) }],
        }],
        "partialFingerprints": { "graceInit/v1": finding.fingerprint() },
    })
}

/// A path as a URI reference (RFC 3986).
fn uri(path: &str) -> String {
    let mut text = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                text.push(char::from(byte))
            }
            _ => text += &format!("%{byte:02X}"),
        }
    }
    text
}
