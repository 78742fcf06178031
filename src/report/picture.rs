//! A timeline as two lines of text: moments above, what happens between them below.

use std::time::Duration;

use crate::time::Measured;

/// The length of a picture whose labels all fit, in characters.
const WIDTH: u128 = 60;

/// A part of the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub label: String,
    pub begins: Duration,
    pub ends: Duration,
}

/// Draws segments that follow each other: each as wide as its share of the time, and as its label needs.
pub(super) fn draw(segments: &[Segment]) -> String {
    let Some(last) = segments.last() else { return String::new() };
    let whole = last.ends.as_millis().max(1);
    let (mut moments, mut bar) = (String::new(), String::new());
    for segment in segments {
        let begins = Measured(segment.begins).to_string();
        let length = segment.ends.saturating_sub(segment.begins).as_millis();
        let share =
            length.saturating_mul(WIDTH).checked_div(whole).and_then(|width| usize::try_from(width).ok());
        // A space behind each moment keeps it apart from the next; the bar's own mark takes one place.
        let width = share.unwrap_or(0).max(segment.label.chars().count()).max(begins.chars().count());
        pad_into(&mut moments, &begins, width.saturating_add(1));
        bar.push('|');
        pad_into(&mut bar, &segment.label, width);
    }
    moments.push_str(&Measured(last.ends).to_string());
    format!("{moments}\n{bar}|\n")
}

fn pad_into(line: &mut String, text: &str, width: usize) {
    line.push_str(text);
    line.extend(std::iter::repeat_n(' ', width.saturating_sub(text.chars().count())));
}
