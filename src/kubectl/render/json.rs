//! For programs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::kubectl::explain::Timeline;
use crate::kubectl::input::Source;
use crate::kubectl::kubelet::What;
use crate::kubectl::rules::{Finding, Level};

/// All findings, and how many there are.
pub fn findings(findings: &[Finding], sources: &[Source], pods: usize, passed_over: usize) -> Value {
    let count = |level: Level| findings.iter().filter(|finding| finding.level == level).count();
    let all: Vec<Value> = findings.iter().map(|finding| one(finding, sources)).collect();
    json!({
        "pods": pods,
        "passedOver": passed_over,
        "errors": count(Level::Error),
        "warnings": count(Level::Warning),
        "notes": count(Level::Note),
        "findings": all,
    })
}

fn one(finding: &Finding, sources: &[Source]) -> Value {
    let source = sources.get(finding.source);
    let (line, column) = source.map_or((1, 1), |source| source.position(finding.span.start));
    json!({
        "code": finding.rule.code,
        "name": finding.rule.name,
        "level": finding.level.name(),
        "object": finding.object,
        "container": finding.container,
        "file": source.map(|source| source.name.as_str()),
        "line": line,
        "column": column,
        "path": finding.path,
        "message": finding.title,
        "detail": finding.label,
        "effect": finding.effect,
        "remedy": finding.remedy,
    })
}

/// All timelines. Times are milliseconds from the deletion.
pub fn timelines(timelines: &[Timeline]) -> Value {
    let all = timelines.iter().map(|timeline| {
        let entries: Vec<Value> = timeline
            .entries
            .iter()
            .map(|entry| {
                json!({
                    "container": entry.container,
                    "what": what(entry.what),
                    "earliest_ms": millis(entry.earliest),
                    "latest_ms": entry.latest.map(millis),
                })
            })
            .collect();
        json!({
            "object": timeline.object,
            "grace_ms": millis(timeline.grace),
            "last_kill_ms": millis(timeline.last_kill),
            "moments": entries,
        })
    });
    Value::Array(all.collect())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn what(what: What) -> &'static str {
    match what {
        What::HookBegins => "hook-begins",
        What::HookEnds => "hook-ends",
        What::HookOverruns => "hook-overruns",
        What::Stops { .. } => "stops",
        What::Signal => "signal",
        What::Kill => "kill",
        What::Ended => "ended",
    }
}
