//! What of rtpengine's language is understood: every command, key, flag and value, and what becomes of it.
//!
//! This is the one list. The parser looks every word up here, and `control/MIGRATION.md` holds a
//! table made from it, which a test compares.

mod commands;
mod flags;
mod keys;
mod values;

pub(crate) use commands::Command;
pub use flags::Flag;
pub(crate) use keys::Key;
pub use values::{
    AddressFamily, All, Bundle, DropTraffic, DtmfSecurity, EndpointLearning, Ice, Kind, MediaEcho,
    Replace, RtcpMux, Transport,
};
pub(crate) use values::{CodecList, IceLite, RecordCall, T38};

use crate::value::is_same;

/// What becomes of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    /// Acted upon: how.
    Supported(&'static str),
    /// Accepted without effect: why that does no harm.
    Ignored(&'static str),
    /// An offer that asks for it is answered with an error: why.
    Refused(&'static str),
}

/// A word that rtpengine's clients send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// As rtpengine's manual spells it. Capitals, spaces and underscores for hyphens do not matter.
    pub name: &'static str,
    /// Other names for the same.
    pub also: &'static [&'static str],
    /// What becomes of it.
    pub support: Support,
}

impl Row {
    /// Whether this is `word`, however that is spelt.
    fn is(&self, word: &[u8]) -> bool {
        let same = |name: &str| is_same(name.as_bytes(), word);
        same(self.name) || self.also.iter().any(|name| same(name))
    }
}

/// Words that stand in the same place.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// What they are.
    pub title: &'static str,
    /// The words, those acted upon first.
    pub rows: &'static [Row],
}

/// Everything that is known, in the order of the manual.
pub const SECTIONS: &[Section] = &[
    Command::SECTION,
    Key::SECTION,
    Flag::SECTION,
    Replace::SECTION,
    Transport::SECTION,
    AddressFamily::SECTION,
    RtcpMux::SECTION,
    Bundle::SECTION,
    Ice::SECTION,
    IceLite::SECTION,
    EndpointLearning::SECTION,
    CodecList::SECTION,
    Kind::SECTION,
    All::SECTION,
    DropTraffic::SECTION,
    MediaEcho::SECTION,
    DtmfSecurity::SECTION,
    RecordCall::SECTION,
    T38::SECTION,
];

/// A word that was looked up.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Known<T> {
    /// To be acted upon.
    Word(T),
    /// To be ignored.
    Ignored,
    /// To be refused.
    Refused(Refusal),
}

/// A word that is refused, and why.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
}

/// Looks `word` up in `rows`, the first of which are those of `all`.
fn look_up<T: Copy>(word: &[u8], rows: &'static [Row], all: &[T]) -> Option<Known<T>> {
    let (at, row) = rows.iter().enumerate().find(|(_, row)| row.is(word))?;
    Some(match (all.get(at), row.support) {
        (Some(&value), _) => Known::Word(value),
        (None, Support::Refused(why)) => Known::Refused(Refusal {
            name: row.name,
            why,
        }),
        (None, _) => Known::Ignored,
    })
}

/// How the manual spells `value`, one of `all`, which `section` begins with.
fn spelling<T: PartialEq>(value: &T, section: &'static Section, all: &[T]) -> &'static str {
    let named = section.rows.iter().zip(all);
    let found = named.into_iter().find(|(_, one)| *one == value);
    found.map_or("", |(row, _)| row.name)
}

/// Declares protocol words: an enum of those acted upon, and the rows of all of them.
macro_rules! words {
    (
        $(#[$doc:meta])* $vis:vis $name:ident, $title:literal:
        $(supported { $($variant:ident = $word:literal $(| $also:literal)*: $what:literal,)* })?
        $(ignored { $($iword:literal $(| $ialso:literal)*: $iwhy:expr,)* })?
        $(refused { $($rword:literal $(| $ralso:literal)*: $rwhy:expr,)* })?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        $vis enum $name { $($(#[doc = concat!("`", $word, "`: ", $what, ".")] $variant,)*)? }

        impl $name {
            const ALL: &'static [Self] = &[$($(Self::$variant,)*)?];

            /// What the manual says of these words.
            pub(super) const SECTION: $crate::support::Section = $crate::support::Section {
                title: $title,
                rows: &[
                    $($($crate::support::Row {
                        name: $word, also: &[$($also,)*], support: $crate::support::Support::Supported($what),
                    },)*)?
                    $($($crate::support::Row {
                        name: $iword, also: &[$($ialso,)*], support: $crate::support::Support::Ignored($iwhy),
                    },)*)?
                    $($($crate::support::Row {
                        name: $rword, also: &[$($ralso,)*], support: $crate::support::Support::Refused($rwhy),
                    },)*)?
                ],
            };

            /// Looks up `word`, however it is spelt.
            pub(crate) fn find(word: &[u8]) -> Option<$crate::support::Known<Self>> {
                $crate::support::look_up(word, Self::SECTION.rows, Self::ALL)
            }
        }
    };
}
use words;

/// Why what makes or changes samples is refused.
const NO_CODECS: &str = "Penstock relays packets and has no codecs";

/// Why what writes files is refused.
const NO_RECORDER: &str = "Penstock writes no recordings; let a recorder subscribe to the call";

/// Why what tunes a codec is ignored.
const NO_TRANSCODER: &str = "nothing is transcoded";

/// Why what tunes SRTP is ignored.
const NO_KEYS: &str = "Penstock holds no keys; SRTP between two sides that agree passes unopened";

/// Why what tunes a recording is ignored.
const NOTHING_RECORDED: &str = "nothing is recorded";

/// Why what tunes the player is ignored.
const NOTHING_PLAYED: &str = "nothing is played";
