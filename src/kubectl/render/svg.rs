//! A timeline as a picture.

use std::fmt::Write;
use std::time::Duration;

use super::text::what;
use crate::kubectl::explain::Timeline;
use crate::kubectl::kubelet::What;
use crate::time::Measured;

const LEFT: usize = 200;
const WIDTH: usize = 600;
const ROW: usize = 26;

/// The picture of one pod's stop.
pub fn timeline(timeline: &Timeline) -> String {
    let height = ROW * (timeline.entries.len() + 3);
    let end = timeline.last_kill.as_secs_f64().max(1.0);
    let x = |time: Duration| LEFT as f64 + time.as_secs_f64().min(end) / end * WIDTH as f64;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" font-family=\"sans-serif\" font-size=\"13\" role=\"img\">",
        LEFT + WIDTH + 240
    );
    let _ =
        writeln!(text, "<title>{}: grace {}</title>", escaped(&timeline.object), Measured(timeline.grace));
    let _ = writeln!(text, "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>");
    let _ = writeln!(
        text,
        "<text x=\"12\" y=\"{ROW}\" font-weight=\"bold\">{}: grace {}</text>",
        escaped(&timeline.object),
        Measured(timeline.grace)
    );
    for (row, entry) in (2..).zip(&timeline.entries) {
        let y = ROW * row;
        let (from, to) = (x(entry.earliest), x(entry.latest.unwrap_or(timeline.last_kill)));
        let color = match entry.what {
            What::Kill => "#c0392b",
            What::Signal => "#d68910",
            What::HookBegins | What::HookEnds | What::HookOverruns | What::Stops { .. } | What::Ended => {
                "#2471a3"
            }
        };
        let _ = writeln!(text, "<text x=\"12\" y=\"{y}\">{}</text>", escaped(&entry.container));
        let _ = writeln!(
            text,
            "<line x1=\"{LEFT}\" x2=\"{}\" y1=\"{1}\" y2=\"{1}\" stroke=\"#ddd\"/>",
            LEFT + WIDTH,
            y - 4
        );
        if to > from {
            let _ = writeln!(
                text,
                "<line x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{0}\" y2=\"{0}\" stroke=\"{color}\" stroke-width=\"4\" opacity=\"0.4\"/>",
                y - 4
            );
        }
        let _ = writeln!(text, "<circle cx=\"{to:.1}\" cy=\"{}\" r=\"5\" fill=\"{color}\"/>", y - 4);
        let time = match entry.latest {
            Some(latest) if latest != entry.earliest => {
                format!("{} to {}", Measured(entry.earliest), Measured(latest))
            }
            Some(_) | None => Measured(entry.earliest).to_string(),
        };
        let _ =
            writeln!(text, "<text x=\"{}\" y=\"{y}\">{time}: {}</text>", LEFT + WIDTH + 12, what(entry.what));
    }
    text += "</svg>\n";
    text
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
