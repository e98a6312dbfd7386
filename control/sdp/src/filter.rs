//! Which codecs of a section may pass.

use crate::media::Media;

/// Which codecs of a section may pass: ng's `codec` lists and flags. The default lets all pass.
///
/// A codec is named by `PCMU`, `PCMU/8000` or `opus/48000/2`, without regard to case; `all` and
/// `full` name every one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CodecFilter {
    /// Taken out.
    pub strip: Vec<String>,
    /// The only ones to stay, and exceptions from `strip=all`.
    pub except: Vec<String>,
    /// The only ones to stay, in this order.
    pub offer: Vec<String>,
    /// Taken out, as by `strip`: nothing is transcoded.
    pub mask: Vec<String>,
    /// No effect on what leaves: nothing is transcoded.
    pub accept: Vec<String>,
    /// No effect on what leaves, as `accept`.
    pub consume: Vec<String>,
    /// Only the first one, and what goes with any.
    pub single: bool,
    /// The order of those that stay, such as that of the offer; others follow.
    pub reorder: Vec<String>,
}

impl CodecFilter {
    /// The formats of the m= line that may pass, in their new order; `None` if nothing changes.
    pub fn formats(&self, _media: &Media) -> Option<Vec<String>> {
        None
    }
}
