//! What is changed in the session part, and in o= lines wherever they stand.

use super::text::Text;
use super::{GroupEdit, MidEdit, OriginEdit, Rewrite, attributes, typed_address};
use crate::kind::{Kind, value, value_text};
use crate::line::words;
use crate::media::Media;
use crate::session::origin_words;
use std::borrow::Cow;
use std::collections::HashMap;

/// Makes all changes but those of o= lines.
pub(super) fn edit(text: &mut Text<'_>, medias: &[Media], rewrite: &Rewrite) {
    // Every section has a c= of its own, and RTCP of all sections cannot be in one place.
    text.remove(|line| matches!(line.kind, Kind::Connection | Kind::Rtcp));
    if let Some(name) = &rewrite.session_name {
        for line in &mut text.lines {
            if line.kind == Kind::SessionName {
                line.text = Cow::Owned(format!("s={name}").into_bytes());
            }
        }
    }
    match &rewrite.group {
        GroupEdit::Keep => keep_groups(text, &tags(medias, rewrite)),
        GroupEdit::Remove => text.remove(|line| line.kind == Kind::Group && is_bundle(&line.text)),
        GroupEdit::Bundle(tags) => set_bundle(text, tags),
    }
    if rewrite.remove_session_ice {
        text.remove(|line| line.kind.is_ice() && line.kind != Kind::IceLite);
        if !rewrite.ice_lite {
            text.remove(|line| line.kind == Kind::IceLite);
        }
    }
    let mut used = rewrite
        .media
        .iter()
        .filter(|change| !change.remove && !change.refused);
    if used.all(|change| change.direction.is_some()) {
        text.remove(|line| line.kind == Kind::Direction);
    }
    if let Some(mark) = &rewrite.loop_mark {
        let stands = |text: &[u8]| value_text(text) == *mark;
        let mut lines = text.lines.iter();
        if !lines.any(|line| line.kind == Kind::LoopMark && stands(&line.text)) {
            text.append(Kind::LoopMark, [format!("a=rtpengine:{mark}")]);
        }
    }
    if rewrite.ice_lite && !text.has(Kind::IceLite) {
        text.append(Kind::IceLite, ["a=ice-lite".to_owned()]);
    }
    attributes::edit(text, &rewrite.attributes);
}

/// The o= lines of any part.
pub(super) fn origins(text: &mut Text<'_>, edit: &OriginEdit) {
    if *edit == OriginEdit::default() {
        return;
    }
    for line in &mut text.lines {
        if line.kind == Kind::Origin
            && let Some(new) = origin(&line.text, edit)
        {
            line.text = Cow::Owned(new);
        }
    }
}

fn origin(text: &[u8], edit: &OriginEdit) -> Option<Vec<u8>> {
    let [id, version, _, family, address] = origin_words(text)?;
    let username = 2..text[..id.start].trim_ascii_end().len().max(2);
    let typed = edit.address.map(typed_address);
    let parts = [
        (username, &edit.username),
        (id, &edit.session_id),
        (version, &edit.version),
        (family.start..address.end, &typed),
    ];
    let (mut line, mut at) = (Vec::with_capacity(text.len() + 32), 0);
    for (place, new) in parts {
        if let Some(new) = new {
            line.extend_from_slice(&text[at..place.start]);
            line.extend_from_slice(new.as_bytes());
            at = place.end;
        }
    }
    line.extend_from_slice(&text[at..]);
    Some(line)
}

/// What becomes of the sections' tags: another tag, or none.
fn tags<'a>(medias: &'a [Media], rewrite: &'a Rewrite) -> HashMap<&'a [u8], Option<&'a str>> {
    let changed = |(media, change): (&'a Media, &'a super::MediaRewrite)| {
        let old = media.mid.as_deref()?;
        match &change.mid {
            _ if change.remove || change.refused => Some((old.as_bytes(), None)),
            MidEdit::Keep => None,
            MidEdit::Remove => Some((old.as_bytes(), None)),
            MidEdit::Set(new) => Some((old.as_bytes(), Some(new.as_str()))),
        }
    };
    medias
        .iter()
        .zip(&rewrite.media)
        .filter_map(changed)
        .collect()
}

/// BUNDLE groups follow the sections' tags; one without tags left is gone.
fn keep_groups(text: &mut Text<'_>, changed: &HashMap<&[u8], Option<&str>>) {
    for line in &mut text.lines {
        let is_touched = line.kind == Kind::Group
            && is_bundle(&line.text)
            && words(value(&line.text)).any(|word| changed.contains_key(&value(&line.text)[word]));
        if !is_touched {
            continue;
        }
        let old = value(&line.text);
        let mut new = b"a=group:BUNDLE".to_vec();
        let mut count = 0;
        for word in words(old).skip(1).map(|word| &old[word]) {
            let tag = match changed.get(word) {
                Some(new) => new.map(str::as_bytes),
                None => Some(word),
            };
            if let Some(tag) = tag {
                new.push(b' ');
                new.extend_from_slice(tag);
                count += 1;
            }
        }
        line.text = Cow::Owned(if count == 0 { Vec::new() } else { new });
    }
    text.remove(|line| line.kind == Kind::Group && line.text.is_empty());
}

fn set_bundle(text: &mut Text<'_>, tags: &[String]) {
    let line = format!("a=group:BUNDLE {}", tags.join(" "));
    let mut place = (!tags.is_empty()).then_some(line);
    for line in &mut text.lines {
        if line.kind == Kind::Group && is_bundle(&line.text) {
            // The first takes the place, and the others leave it.
            line.text = Cow::Owned(place.take().unwrap_or_default().into_bytes());
        }
    }
    text.remove(|line| line.kind == Kind::Group && line.text.is_empty());
    text.append(Kind::Group, place);
}

fn is_bundle(text: &[u8]) -> bool {
    let value = value(text);
    let semantics = words(value).next().map(|word| &value[word]);
    semantics.is_some_and(|word| word.eq_ignore_ascii_case(b"BUNDLE"))
}
