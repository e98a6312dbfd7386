//! Text that would break the line it is written into.

use super::{AttributeEdits, GroupEdit, IceEdit, MediaRewrite, MidEdit, Rewrite};
use crate::error::SdpError;

pub(super) fn check(rewrite: &Rewrite) -> Result<(), SdpError> {
    let origin = &rewrite.origin;
    let words = [
        ("user name", &origin.username),
        ("session identifier", &origin.session_id),
        ("session version", &origin.version),
        ("loop mark", &rewrite.loop_mark),
    ];
    for (what, text) in words {
        text.iter().try_for_each(|text| word(what, text))?;
    }
    rewrite
        .session_name
        .iter()
        .try_for_each(|name| line("session name", name))?;
    if let GroupEdit::Bundle(tags) = &rewrite.group {
        tags.iter()
            .try_for_each(|tag| word("identification tag", tag))?;
    }
    attributes(&rewrite.attributes)?;
    rewrite.media.iter().try_for_each(section)
}

fn section(change: &MediaRewrite) -> Result<(), SdpError> {
    if let MidEdit::Set(tag) = &change.mid {
        word("identification tag", tag)?;
    }
    if let IceEdit::Own(ice) = &change.ice {
        word("ICE user name fragment", &ice.ufrag)?;
        word("ICE password", &ice.pwd)?;
        ice.options
            .iter()
            .try_for_each(|options| line("ICE options", options))?;
        for candidate in &ice.candidates {
            word("candidate foundation", &candidate.foundation)?;
        }
    }
    attributes(&change.attributes)
}

fn attributes(edits: &AttributeEdits) -> Result<(), SdpError> {
    let new = edits.substitute.iter().map(|(_, new)| new);
    edits
        .add
        .iter()
        .chain(new)
        .try_for_each(|text| line("attribute", text))
}

fn word(what: &'static str, text: &str) -> Result<(), SdpError> {
    let sound = !text.is_empty() && !text.bytes().any(|b| b.is_ascii_whitespace() || b == 0);
    sound.then_some(()).ok_or(SdpError::NotOneWord { what })
}

fn line(what: &'static str, text: &str) -> Result<(), SdpError> {
    let sound = !text.is_empty() && !text.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0));
    sound.then_some(()).ok_or(SdpError::NotOneLine { what })
}
