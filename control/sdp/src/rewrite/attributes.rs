//! ng's `sdp-attr`: lines by their text.

use super::AttributeEdits;
use super::text::Text;
use crate::kind::Kind;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// Takes lines out, replaces others, and adds new ones at the end, each line once.
pub(super) fn edit(text: &mut Text<'_>, edits: &AttributeEdits) {
    if !edits.remove.is_empty() {
        let gone: HashSet<&[u8]> = edits.remove.iter().map(String::as_bytes).collect();
        text.remove(|line| names(&line.text).any(|name| gone.contains(name)));
    }
    if !edits.substitute.is_empty() {
        let mut new: HashMap<&[u8], &str> = HashMap::new();
        for (old, by) in &edits.substitute {
            new.entry(old.as_bytes()).or_insert(by);
        }
        for line in &mut text.lines {
            let by = names(&line.text).find_map(|name| new.get(name));
            if let Some(by) = by {
                line.text = Cow::Owned(format!("a={by}").into_bytes());
            }
        }
    }
    if !edits.add.is_empty() {
        let mut stands: HashSet<Vec<u8>> = text
            .lines
            .iter()
            .filter_map(|line| line.text.strip_prefix(b"a=").map(<[u8]>::to_vec))
            .collect();
        let new = edits
            .add
            .iter()
            .filter(|add| stands.insert(add.as_bytes().to_vec()));
        let new: Vec<String> = new.map(|add| format!("a={add}")).collect();
        text.append(Kind::Other, new);
    }
}

/// What `a=foo:bar baz` may be called by: `foo:bar baz`, `foo:bar`, `foo`.
fn names(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let full = text.strip_prefix(b"a=");
    let up_to = |end: u8| move |full: &[u8]| full.iter().position(|&b| b == end);
    let colon = full.and_then(up_to(b':'));
    let blank = full
        .and_then(up_to(b' '))
        .filter(|&blank| colon.is_some_and(|colon| colon < blank));
    let head = move |len: Option<usize>| full.and_then(|full| full.get(..len?));
    [full, head(blank), head(colon)].into_iter().flatten()
}
