//! Lists of codecs and header extensions, and edits of attributes.

use super::reader::Reader;
use super::text::{bad, entries, text, words};
use super::{AttributeEdit, Options};
use crate::request::RequestError;
use crate::support::{CodecList, Flag, Key, Kind};
use crate::value::{Value, canonical_word};

/// Longest attribute line accepted, in bytes.
pub const MAX_LINE: usize = 1024;

impl Reader {
    /// `LIST` with codecs as its value, or `LIST-CODEC`.
    pub(super) fn codec(&mut self, list: &str, names: Option<&Value>) -> Result<(), RequestError> {
        let (list, names) = match names {
            Some(names) => (list, words(Key::Codec, names)?),
            None => match list.split_once(['-', '_', ' ']) {
                Some((list, name)) => (list, vec![name.to_owned()]),
                None => (list, Vec::new()),
            },
        };
        let list = canonical_word(list.as_bytes());
        let Some(list) = self.known(Key::Codec, &list, CodecList::find) else {
            return Ok(());
        };
        // What a flag cannot hold, an equals sign, is written as two hyphens there.
        let unescape = |name: String| match self.is_escaped() {
            true => name.replace("--", "="),
            false => name,
        };
        let names: Vec<String> = names.into_iter().map(unescape).collect();
        let codecs = &mut self.options.codecs;
        let list = match list {
            CodecList::Strip => &mut codecs.strip,
            CodecList::Except => &mut codecs.except,
            CodecList::Offer => &mut codecs.offer,
            CodecList::Mask => &mut codecs.mask,
            CodecList::Consume => &mut codecs.consume,
            CodecList::Transcode => &mut codecs.transcode,
        };
        list.extend(names);
        Ok(())
    }

    /// `strip` or `mask` with extensions as its value, or `strip-EXTENSION`; `strip` alone is all.
    pub(super) fn extmap(&mut self, list: &str, names: Option<&Value>) -> Result<(), RequestError> {
        let (list, names) = match names {
            Some(names) => (list, words(Key::Extmap, names)?),
            None => match list.split_once(['-', '_', ' ']) {
                Some((list, name)) => (list, vec![name.to_owned()]),
                None => (list, Vec::new()),
            },
        };
        match &*canonical_word(list.as_bytes()) {
            "strip" if names.is_empty() => {
                if !self.options.has(Flag::StripExtmap) {
                    self.options.flags.push(Flag::StripExtmap);
                }
            }
            "strip" => self.options.extmap_strip.extend(names),
            "mask" => self.options.extmap_mask.extend(names),
            other => self.unknown(format!("extmap-{other}")),
        }
        Ok(())
    }

    /// `{audio: {add: […], remove: […], substitute: [[a, b], …]}, …}`
    pub(super) fn attributes(&mut self, value: &Value) -> Result<(), RequestError> {
        for (kind, edits) in entries(Key::SdpAttr, value)? {
            let Some(edits) = edits else {
                self.attribute_flag(&kind, None)?;
                continue;
            };
            for (edit, lines) in entries(Key::SdpAttr, edits)? {
                let empty = Value::List(Vec::new());
                self.attribute(&kind, &edit, lines.unwrap_or(&empty))?;
            }
        }
        Ok(())
    }

    /// `EDIT-KIND-LINE`, or `EDIT-KIND` with lines as its value.
    pub(super) fn attribute_flag(
        &mut self,
        flag: &str,
        value: Option<&Value>,
    ) -> Result<(), RequestError> {
        let mut parts = flag.splitn(3, '-');
        match (parts.next(), parts.next(), parts.next(), value) {
            (Some(edit), Some(kind), Some(line), None) => self.attribute(kind, edit, &line.into()),
            // An equals sign in the line made a pair of it.
            (Some(edit), Some(kind), Some(line), Some(value)) => {
                let line = format!("{line}={}", text(Key::SdpAttr, value)?);
                self.attribute(kind, edit, &line.into())
            }
            (Some(edit), Some(kind), None, Some(lines)) => self.attribute(kind, edit, lines),
            _ => {
                self.unknown(format!("sdp-attr-{flag}"));
                Ok(())
            }
        }
    }

    fn attribute(&mut self, kind: &str, edit: &str, value: &Value) -> Result<(), RequestError> {
        let kind = canonical_word(kind.as_bytes());
        let Some(kind) = self.known(Key::SdpAttr, &kind, Kind::find) else {
            return Ok(());
        };
        let is_escaped = self.is_escaped();
        match &*canonical_word(edit.as_bytes()) {
            "add" => {
                let lines = lines(value, is_escaped)?;
                self.options.edit(kind).add.extend(lines);
            }
            "remove" => {
                let lines = lines(value, is_escaped)?;
                self.options.edit(kind).remove.extend(lines);
            }
            "substitute" => {
                let pairs = substitutions(value, is_escaped)?;
                self.options.edit(kind).substitute.extend(pairs);
            }
            other => self.unknown(format!("sdp-attr-{other}")),
        }
        Ok(())
    }
}

impl Options {
    /// The edit of `kind`.
    fn edit(&mut self, kind: Kind) -> &mut AttributeEdit {
        let found = self
            .sdp_attributes
            .iter()
            .position(|edit| edit.kind == kind);
        let at = found.unwrap_or(self.sdp_attributes.len());
        if found.is_none() {
            self.sdp_attributes.push(AttributeEdit {
                kind,
                add: Vec::new(),
                remove: Vec::new(),
                substitute: Vec::new(),
            });
        }
        &mut self.sdp_attributes[at]
    }
}

/// A list of lines, or one. In a flag `--` is `=` and `..` a blank.
fn lines(value: &Value, is_escaped: bool) -> Result<Vec<String>, RequestError> {
    let one = std::slice::from_ref(value);
    let items = match value {
        Value::List(list) => list,
        _ => one,
    };
    items.iter().map(|item| line(item, is_escaped)).collect()
}

fn line(value: &Value, is_escaped: bool) -> Result<String, RequestError> {
    const WANT: &str = "lines of at most 1024 bytes, without line breaks";
    const _: () = assert!(MAX_LINE == 1024);
    let written = match value {
        Value::Dict(dict) => match dict.0.as_slice() {
            // In a flag string `fmtp:96..mode=30` looks like a pair.
            [(name, value)] => {
                let name = String::from_utf8_lossy(name);
                format!("{name}={}", text(Key::SdpAttr, value)?)
            }
            _ => return Err(bad(Key::SdpAttr, WANT)),
        },
        _ => text(Key::SdpAttr, value)?.into_owned(),
    };
    let line = match is_escaped {
        true => written.replace("--", "=").replace("..", " "),
        false => written,
    };
    match line.len() > MAX_LINE || line.contains(['\r', '\n', '\0']) {
        true => Err(bad(Key::SdpAttr, WANT)),
        false => Ok(line),
    }
}

/// `[[a, b], …]`, `[a, b]`, `[a>b, …]` or `a>b`.
fn substitutions(value: &Value, is_escaped: bool) -> Result<Vec<(String, String)>, RequestError> {
    if let Value::List(list) = value
        && list.iter().any(|item| matches!(item, Value::List(_)))
    {
        let pairs = list.iter().map(|item| substitutions(item, is_escaped));
        return pairs
            .collect::<Result<Vec<_>, _>>()
            .map(|pairs| pairs.concat());
    }
    let lines = lines(value, is_escaped)?;
    let arrows = lines.iter().filter_map(|line| line.split_once('>'));
    let arrows: Vec<_> = arrows
        .map(|(from, to)| (from.to_owned(), to.to_owned()))
        .collect();
    match lines.as_slice() {
        // Only a flag needs the arrow; a line under a key may hold one.
        [from, to, ..] if arrows.is_empty() || !is_escaped => Ok(vec![(from.clone(), to.clone())]),
        _ if !arrows.is_empty() => Ok(arrows),
        _ => Err(bad(Key::SdpAttr, "pairs of lines to substitute")),
    }
}
