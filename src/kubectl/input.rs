//! Reads YAML and JSON into trees in which every node knows its place in the text.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, Span as YamlSpan};

/// A place in a source, in bytes.
pub type Span = Range<usize>;

/// The largest file that is read. `kubectl get --all-namespaces` of a large cluster is smaller.
const MAX_BYTES: u64 = 64 << 20;
/// The most nodes that one file may hold, aliases counted as often as they are used: a few lines of nested aliases can
/// stand for billions.
const MAX_NODES: usize = 4_000_000;
/// The deepest nesting. Pods need about 15; deeper trees only serve to exhaust the stack.
const MAX_DEPTH: usize = 200;

/// One text with its name.
#[derive(Debug)]
pub struct Source {
    /// The path as it was given, or `<stdin>`.
    pub name: String,
    /// The whole text.
    pub text: String,
}

impl Source {
    /// The line and column of a byte, both counted from 1; columns count characters.
    pub fn position(&self, byte: usize) -> (usize, usize) {
        let before = self.text.get(..byte).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).map_or(0, |text| text.chars().count());
        (before.matches('\n').count() + 1, column + 1)
    }

    /// The line that holds a byte, without its end.
    pub fn line_at(&self, byte: usize) -> &str {
        let start =
            self.text.get(..byte).and_then(|before| before.rfind('\n')).map_or(0, |newline| newline + 1);
        let rest = self.text.get(start..).unwrap_or_default();
        rest.split('\n').next().unwrap_or_default()
    }

    /// The line before the one that holds a byte.
    pub fn line_before(&self, byte: usize) -> Option<&str> {
        let start = self.text.get(..byte)?.rfind('\n')?;
        self.text.get(..start)?.rsplit('\n').next()
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its place in the source.
    pub span: Span,
    /// What it is.
    pub value: Value,
}

/// What a node holds. Collections are shared so that an alias costs nothing.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing, or `null`.
    Null,
    /// Text, a number or a boolean as it was written.
    Scalar {
        /// The text, unquoted.
        text: String,
        /// Whether it was written without quotes, so that it may be a number.
        plain: bool,
    },
    /// A sequence.
    Seq(Rc<Vec<Node>>),
    /// A mapping, in its order.
    Map(Rc<Vec<(Node, Node)>>),
}

impl Node {
    /// The value of a key in a mapping; `<<` brings in the keys of others.
    pub fn get(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else { return None };
        let direct = entries.iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value);
        direct.or_else(|| {
            let (_, merged) = entries.iter().find(|(name, _)| name.text() == Some("<<"))?;
            merged.get(key).or_else(|| merged.items().iter().find_map(|item| item.get(key)))
        })
    }

    /// The value at the end of these keys.
    pub fn at(&self, keys: &[&str]) -> Option<&Node> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// The place of a key itself.
    pub fn key_span(&self, key: &str) -> Option<Span> {
        self.entries().iter().find(|(name, _)| name.text() == Some(key)).map(|(name, _)| name.span.clone())
    }

    /// The text of a scalar, numbers and booleans as they were written.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar { text, .. } => Some(text),
            Value::Null | Value::Seq(_) | Value::Map(_) => None,
        }
    }

    /// A whole number.
    pub fn integer(&self) -> Option<i64> {
        match &self.value {
            Value::Scalar { text, plain: true } => text.parse().ok(),
            Value::Scalar { .. } | Value::Null | Value::Seq(_) | Value::Map(_) => None,
        }
    }

    /// A boolean.
    pub fn boolean(&self) -> Option<bool> {
        match &self.value {
            Value::Scalar { text, plain: true } => match text.as_str() {
                "true" | "True" | "TRUE" => Some(true),
                "false" | "False" | "FALSE" => Some(false),
                _ => None,
            },
            Value::Scalar { .. } | Value::Null | Value::Seq(_) | Value::Map(_) => None,
        }
    }

    /// The items of a sequence; none for anything else.
    pub fn items(&self) -> &[Node] {
        match &self.value {
            Value::Seq(items) => items,
            Value::Scalar { .. } | Value::Null | Value::Map(_) => &[],
        }
    }

    /// The entries of a mapping; none for anything else.
    pub fn entries(&self) -> &[(Node, Node)] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Scalar { .. } | Value::Null | Value::Seq(_) => &[],
        }
    }
}

/// Why an input cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The file, and line and column where they are known.
    pub place: String,
    /// What is wrong and what to do.
    pub reason: String,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

const TEMPLATE: &str = "this is a Helm template, not a manifest: render it first, as in \"helm template . | kubectl grace check -f -\"";

/// Reads all documents of a source.
///
/// # Errors
/// What no YAML reader accepts, a Helm template that is not rendered, and what is too large.
pub fn parse(source: &Source) -> Result<Vec<Node>, Unusable> {
    let unusable = |byte: usize, reason: String| {
        let (line, column) = source.position(byte);
        Unusable { place: format!("{}:{line}:{column}", source.name), reason }
    };
    let offsets = Offsets::new(&source.text);
    let mut builder = Builder {
        offsets: &offsets,
        documents: Vec::new(),
        open: Vec::new(),
        anchors: HashMap::new(),
        nodes: 0,
        template_at: None,
    };
    for event in Parser::new_from_str(&source.text) {
        let (event, span) = event.map_err(|error| {
            let at = offsets.byte(error.marker().index());
            let template = source.text.contains("{{");
            unusable(
                at,
                if template { TEMPLATE.to_owned() } else { format!("not valid YAML: {}", error.info()) },
            )
        })?;
        let start = offsets.byte(span.start.index());
        builder.take(event, span).map_err(|reason| unusable(start, reason.to_owned()))?;
    }
    let template = builder.template_at;
    match template.filter(|at| source.text.get(*at..).is_some_and(|text| text.starts_with("{{"))) {
        Some(at) => Err(unusable(at, TEMPLATE.to_owned())),
        None => Ok(builder.documents),
    }
}

/// The reader counts characters; everything here counts bytes.
#[derive(Default)]
struct Offsets(Option<Vec<usize>>, usize);

impl Offsets {
    fn new(text: &str) -> Self {
        let table = (!text.is_ascii()).then(|| text.char_indices().map(|(byte, _)| byte).collect());
        Self(table, text.len())
    }

    fn byte(&self, character: usize) -> usize {
        match &self.0 {
            None => character.min(self.1),
            Some(table) => table.get(character).copied().unwrap_or(self.1),
        }
    }
}

struct Frame {
    start: usize,
    /// Whether it was written with brackets or braces.
    flow: bool,
    anchor: usize,
    kind: FrameKind,
}

enum FrameKind {
    Seq(Vec<Node>),
    Map(Vec<(Node, Node)>, Option<Node>),
}

struct Builder<'a> {
    offsets: &'a Offsets,
    documents: Vec<Node>,
    open: Vec<Frame>,
    /// Each anchored node, and how many nodes it stands for.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
    /// The first mapping that is a key of another one: `{{ .Values.x }}` reads as one.
    template_at: Option<usize>,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, span: YamlSpan) -> Result<(), &'static str> {
        let start = self.offsets.byte(span.start.index());
        let end = self.offsets.byte(span.end.index());
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_string = tag.is_some_and(|tag| tag.suffix == "str");
                let plain = style == ScalarStyle::Plain && !is_string;
                let value = match text.as_ref() {
                    "" | "~" | "null" | "Null" | "NULL" if plain => Value::Null,
                    text => Value::Scalar { text: text.to_owned(), plain },
                };
                self.place(Node { span: start..end, value }, anchor)
            }
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor) else {
                    return Err("an alias within its own anchor");
                };
                self.nodes = self.nodes.saturating_add(*size);
                let node = Node { span: start..end, value: node.value.clone() };
                self.place(node, 0)
            }
            Event::SequenceStart(anchor, _) => self.begin(start, end, anchor, FrameKind::Seq(Vec::new())),
            Event::MappingStart(anchor, _) => {
                self.begin(start, end, anchor, FrameKind::Map(Vec::new(), None))
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(frame) = self.open.pop() else { return Ok(()) };
                let (value, last, first) = match frame.kind {
                    FrameKind::Seq(items) => {
                        let last = items.last().map(|item| item.span.end);
                        (Value::Seq(Rc::new(items)), last, None)
                    }
                    FrameKind::Map(entries, _) => {
                        let last = entries.last().map(|(_, value)| value.span.end);
                        let first = entries.first().map(|(key, _)| key.span.start);
                        (Value::Map(Rc::new(entries)), last, first)
                    }
                };
                // The end of a block collection is noticed only where the next thing begins.
                let end = if frame.flow { end } else { last.unwrap_or(frame.start) };
                let start =
                    if frame.flow { frame.start } else { first.unwrap_or(frame.start).min(frame.start) };
                self.place(Node { span: start..end.max(start), value }, frame.anchor)
            }
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn begin(
        &mut self,
        start: usize,
        end: usize,
        anchor: usize,
        kind: FrameKind,
    ) -> Result<(), &'static str> {
        if self.open.len() >= MAX_DEPTH {
            return Err("nested too deeply for a manifest");
        }
        self.open.push(Frame { start, flow: end > start, anchor, kind });
        Ok(())
    }

    fn place(&mut self, node: Node, anchor: usize) -> Result<(), &'static str> {
        self.nodes = self.nodes.saturating_add(1);
        if self.nodes > MAX_NODES {
            return Err("too many values for a manifest, aliases counted as often as they are used");
        }
        if anchor > 0 {
            let size = size(&node);
            self.anchors.insert(anchor, (node.clone(), size));
        }
        match self.open.last_mut().map(|frame| &mut frame.kind) {
            Some(FrameKind::Seq(items)) => items.push(node),
            Some(FrameKind::Map(entries, key)) => match key.take() {
                Some(key) => {
                    if matches!(key.value, Value::Map(_)) && self.template_at.is_none() {
                        self.template_at = Some(key.span.start.saturating_sub(1));
                    }
                    entries.push((key, node));
                }
                None => *key = Some(node),
            },
            None => self.documents.push(node),
        }
        Ok(())
    }
}

/// How many nodes a node stands for.
fn size(node: &Node) -> usize {
    let children: usize = match &node.value {
        Value::Null | Value::Scalar { .. } => 0,
        Value::Seq(items) => items.iter().map(size).fold(0, usize::saturating_add),
        Value::Map(entries) => entries
            .iter()
            .map(|(key, value)| size(key).saturating_add(size(value)))
            .fold(0, usize::saturating_add),
    };
    children.saturating_add(1)
}

/// The texts of all the files that these names stand for: files, folders with all that is below them, `-`.
///
/// What cannot be read is told beside the rest.
pub fn read_all(names: &[PathBuf], stdin: &mut dyn Read) -> (Vec<Source>, Vec<Unusable>) {
    let (mut sources, mut unusable) = (Vec::new(), Vec::new());
    for name in names {
        if name.as_os_str() == "-" {
            match read_text(&mut *stdin) {
                Ok(text) => sources.push(Source { name: "<stdin>".to_owned(), text }),
                Err(reason) => unusable.push(Unusable { place: "<stdin>".to_owned(), reason }),
            }
        } else {
            read_path(name, false, 0, &mut sources, &mut unusable);
        }
    }
    (sources, unusable)
}

fn read_path(
    path: &Path,
    found: bool,
    depth: usize,
    sources: &mut Vec<Source>,
    unusable: &mut Vec<Unusable>,
) {
    let place = path.display().to_string();
    if path.is_dir() {
        // A link to a folder above would be read for ever.
        if found && (path.is_symlink() || depth > MAX_DEPTH) {
            return;
        }
        match std::fs::read_dir(path) {
            Ok(entries) => {
                let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
                paths.sort();
                for path in paths {
                    let hidden =
                        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                    let extension = path.extension().and_then(|extension| extension.to_str());
                    let wanted = path.is_dir() || matches!(extension, Some("yaml" | "yml" | "json"));
                    if wanted && !hidden {
                        read_path(&path, true, depth + 1, sources, unusable);
                    }
                }
            }
            Err(error) => unusable.push(Unusable { place, reason: error.to_string() }),
        }
        return;
    }
    let text = std::fs::File::open(path)
        .map_err(|error| error.to_string())
        .and_then(|mut file| read_text(&mut file));
    match text {
        Ok(text) => sources.push(Source { name: place, text }),
        Err(reason) => unusable.push(Unusable { place, reason }),
    }
}

fn read_text(reader: &mut dyn Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("larger than {} MiB", MAX_BYTES >> 20));
    }
    String::from_utf8(bytes)
        .map_err(|error| format!("not UTF-8 at byte {}: save it as UTF-8", error.utf8_error().valid_up_to()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<Node>, Unusable> {
        parse(&Source { name: "x.yaml".to_owned(), text: text.to_owned() })
    }

    #[test]
    fn every_node_knows_its_place_in_bytes() {
        let text = "ä: [b, 'ü']\nc:\n  - d: 1 # x\n    e: 2\n";
        let node = &read(text).unwrap()[0];
        let item = &node.get("c").unwrap().items()[0];
        assert_eq!(&text[node.get("ä").unwrap().span.clone()], "[b, 'ü']");
        assert_eq!(&text[item.span.clone()], "d: 1 # x\n    e: 2");
        assert_eq!(&text[item.key_span("e").unwrap()], "e");
    }

    #[test]
    fn json_and_several_documents_are_read() {
        let nodes = read("{\"a\": {\"b\": [1, true, null, \"1\"]}}\n---\na: x\n---\n").unwrap();
        let items = nodes[0].at(&["a", "b"]).unwrap().items();
        assert_eq!((items[0].integer(), items[1].boolean(), items[3].integer()), (Some(1), Some(true), None));
        assert_eq!(nodes[1].get("a").unwrap().text(), Some("x"));
    }

    #[test]
    fn aliases_and_merges_stand_for_what_they_name() {
        let node = &read("a: &a {x: 1}\nb: *a\nc: {<<: *a, y: 2}\n").unwrap()[0];
        assert_eq!(node.at(&["b", "x"]).unwrap().integer(), Some(1));
        assert_eq!(node.at(&["c", "x"]).unwrap().integer(), Some(1));
    }

    #[test]
    fn broken_and_unrendered_input_is_refused_with_its_place() {
        for (text, place, part) in [
            ("a: [1\n", "x.yaml:", "not valid YAML"),
            ("a: b\nc: {{ .Values.x }}\n", "x.yaml:2:4", "Helm template"),
            ("{{- if .Values.a }}\na: b\n{{- end }}\n", "x.yaml:", "Helm template"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.place.starts_with(place), "{error}");
            assert!(error.reason.contains(part), "{error}");
        }
    }

    #[test]
    fn aliases_of_aliases_cannot_exhaust_the_memory() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let items = vec![format!("*a{}", level - 1); 10].join(", ");
            text += &format!("a{level}: &a{level} [{items}]\n");
        }
        assert!(read(&text).unwrap_err().reason.contains("too many values"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[ a{}\\[\\]:,&*'\"|>#\n-]{0,60}") {
            let _ = read(&text);
        }
    }
}
