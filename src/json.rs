//! The little JSON that is written here: records, and the status for programs.

use std::fmt::Write;

/// Text as a JSON string with its quotes.
pub fn string(text: &str) -> String {
    let mut json = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => json.push_str("\\\""),
            '\\' => json.push_str("\\\\"),
            '\n' => json.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_json_must_escape_is_escaped() {
        assert_eq!(string("say \"hi\"\n\u{1}\\ä"), "\"say \\\"hi\\\"\\n\\u0001\\\\ä\"");
    }
}
