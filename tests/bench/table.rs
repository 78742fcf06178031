//! The one table that is printed.

use std::fmt;

use crate::Init;

/// Rows of measurements, a column for each init.
pub struct Table {
    inits: Vec<(&'static str, bool)>,
    rows: Vec<Row>,
}

struct Row {
    what: String,
    unit: &'static str,
    /// One for each init; `None` where it was not measured.
    values: Vec<Option<f64>>,
    /// What ours may be at the most, on any machine.
    limit: Option<f64>,
}

impl Table {
    pub fn new(inits: &[Init]) -> Self {
        Self { inits: inits.iter().map(|init| (init.name, init.ours)).collect(), rows: Vec::new() }
    }

    pub fn add(&mut self, what: impl Into<String>, unit: &'static str, values: Vec<Option<f64>>) {
        self.rows.push(Row { what: what.into(), unit, values, limit: None });
    }

    /// A row whose value does not depend on the machine.
    pub fn add_limited(
        &mut self,
        what: impl Into<String>,
        unit: &'static str,
        values: Vec<Option<f64>>,
        limit: f64,
    ) {
        self.rows.push(Row { what: what.into(), unit, values, limit: Some(limit) });
    }

    /// The limits that ours breaks.
    pub fn broken_limits(&self) -> Vec<String> {
        let ours = self.inits.iter().position(|(_, ours)| *ours).unwrap();
        let broken = |row: &Row| {
            let (value, limit) = (row.values[ours]?, row.limit?);
            (value > limit).then(|| format!("{}: {} > {} {}", row.what, shown(value), shown(limit), row.unit))
        };
        self.rows.iter().filter_map(broken).collect()
    }
}

fn shown(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.inits.iter().map(|(name, _)| *name).collect();
        writeln!(f, "| what | {} | ours / best other |", names.join(" | "))?;
        writeln!(f, "| --- |{} --- |", " ---: |".repeat(names.len()))?;
        for row in &self.rows {
            let cells: Vec<String> =
                row.values.iter().map(|value| value.map_or_else(|| "-".to_owned(), shown)).collect();
            let of = |ours: bool| {
                let values = self.inits.iter().zip(&row.values).filter(move |((_, is), _)| *is == ours);
                values.filter_map(|(_, value)| *value).reduce(f64::min)
            };
            let ratio = match (of(true), of(false)) {
                (Some(ours), Some(best)) if best > 0.0 => format!("{:.2}", ours / best),
                _ => "-".to_owned(),
            };
            writeln!(f, "| {}, {} | {} | {ratio} |", row.what, row.unit, cells.join(" | "))?;
        }
        Ok(())
    }
}
