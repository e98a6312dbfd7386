//! Which codecs of a section may pass.

use crate::codec::Codec;
use crate::media::Media;
use std::collections::BTreeSet;

/// Which codecs of a section may pass: ng's `codec` lists and flags. The default lets all pass.
///
/// A codec is named as [`Codec::is`] reads it. `all` and `full` in [`strip`](Self::strip),
/// [`mask`](Self::mask) or [`consume`](Self::consume) name every codec; nothing is transcoded, so
/// the three lists do the same.
///
/// `telephone-event` and `CN` go with the codecs of their clock: when the last of those is taken
/// out, so are they. They do not follow what `all` took out unless they are named themselves. If no
/// other codec is left, the lists have no effect, for a section without a codec is no offer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CodecFilter {
    /// Taken out.
    pub strip: Vec<String>,
    /// Left in by `all`.
    pub except: Vec<String>,
    /// Left in by `all`, and put back where another list named them, in this order.
    pub offer: Vec<String>,
    /// Taken out. For offers only.
    pub mask: Vec<String>,
    /// Taken out. For offers only.
    pub consume: Vec<String>,
    /// Only the first codec, and every `telephone-event` and `CN`. For answers only.
    pub single: bool,
    /// The order of those that stay, such as that of the offer; others follow.
    pub reorder: Vec<String>,
}

/// What the lists say of one payload type.
#[derive(Debug, Clone, Copy)]
struct Verdict {
    clock: u32,
    supplemental: bool,
    /// Not taken out.
    stays: bool,
    /// Place in the list of those offered.
    offered: Option<usize>,
    /// Place in the list to order by, or behind it.
    order: usize,
}

/// A word of the m= line, and the verdict if it names a known codec.
#[derive(Debug, Clone, Copy)]
struct Format<'a> {
    word: &'a str,
    verdict: Option<Verdict>,
}

impl Format<'_> {
    /// Whether it stands for itself.
    fn is_main(&self) -> bool {
        self.verdict.is_none_or(|verdict| !verdict.supplemental)
    }
}

impl CodecFilter {
    /// The formats of the m= line that may pass, in their new order; `None` if nothing changes, as
    /// in a section that is rejected or is not RTP.
    pub fn formats(&self, media: &Media) -> Option<Vec<String>> {
        if *self == Self::default() || media.is_rejected() || media.codecs.is_empty() {
            return None;
        }
        let verdicts = self.verdicts(media);
        let of = |word: &str| *verdicts.get(word.parse::<usize>().ok()?)?;
        let came = media.formats.iter().map(|word| Format {
            word,
            verdict: of(word),
        });
        let came: Vec<Format<'_>> = came.collect();
        let mut kept = self.lists(&came).unwrap_or(came);
        if self.single {
            let mut found = false;
            kept.retain(|format| !format.is_main() || !std::mem::replace(&mut found, true));
        }
        kept.sort_by_key(|format| format.verdict.map_or(usize::MAX, |verdict| verdict.order));
        let kept: Vec<String> = kept.iter().map(|format| format.word.to_owned()).collect();
        (kept != media.formats).then_some(kept)
    }

    /// Each payload type is judged once, however often a stranger repeats it.
    fn verdicts(&self, media: &Media) -> [Option<Verdict>; 128] {
        let mut verdicts = [None; 128];
        for codec in &media.codecs {
            if let Some(verdict) = verdicts.get_mut(usize::from(codec.payload_type)) {
                verdict.get_or_insert_with(|| self.judge(codec));
            }
        }
        verdicts
    }

    fn judge(&self, codec: &Codec) -> Verdict {
        let place = |list: &[String]| list.iter().position(|spec| codec.is(spec));
        let named = self.taken_out().any(|list| place(list).is_some());
        let offered = place(&self.offer);
        let supplemental = codec.is_supplemental();
        // What is put back leaves its place, but for those that go with the others.
        let excepted = place(&self.except).is_some() && !named || supplemental && offered.is_some();
        Verdict {
            clock: codec.clock_rate,
            supplemental,
            stays: excepted || !named && !self.takes_all(),
            offered,
            order: place(&self.reorder).unwrap_or(self.reorder.len()),
        }
    }

    fn taken_out(&self) -> impl Iterator<Item = &[String]> {
        [&self.strip, &self.mask, &self.consume]
            .into_iter()
            .map(Vec::as_slice)
    }

    fn takes_all(&self) -> bool {
        let all = |spec: &String| {
            ["all", "full"]
                .iter()
                .any(|all| spec.eq_ignore_ascii_case(all))
        };
        self.taken_out().any(|list| list.iter().any(all))
    }

    /// What the lists leave; `None` if that would be nothing.
    fn lists<'a>(&self, came: &[Format<'a>]) -> Option<Vec<Format<'a>>> {
        let takes_all = self.takes_all();
        // A format of no known codec has no name to be left in by.
        let stays =
            |format: &Format<'_>| format.verdict.map_or(!takes_all, |verdict| verdict.stays);
        let (mut kept, gone): (Vec<Format<'a>>, Vec<Format<'a>>) =
            came.iter().copied().partition(stays);
        let offered = |format: &Format<'_>| format.verdict.and_then(|verdict| verdict.offered);
        let mut back: Vec<Format<'a>> = gone
            .iter()
            .copied()
            .filter(|f| offered(f).is_some())
            .collect();
        back.sort_by_key(offered);
        let at = kept.iter().position(|format| !format.is_main());
        let at = at.unwrap_or(kept.len());
        kept.splice(at..at, back);

        let (left, lost) = (clocks(&kept), clocks(&gone));
        kept.retain(|format| match format.verdict {
            Some(Verdict { clock, .. }) if !format.is_main() => {
                left.contains(&clock) || !takes_all && !lost.contains(&clock)
            }
            _ => true,
        });
        kept.iter().any(Format::is_main).then_some(kept)
    }
}

/// The clocks of codecs that stand for themselves.
fn clocks(formats: &[Format<'_>]) -> BTreeSet<u32> {
    let main = formats.iter().filter(|format| format.is_main());
    main.filter_map(|format| Some(format.verdict?.clock))
        .collect()
}
