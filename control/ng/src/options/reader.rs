//! From a dictionary to [`Options`].

use super::text::{
    address, bad, canonical, each_word, entries, id, is_word, number, text, word, words,
};
use super::{MAX_METADATA, Options};
use crate::flags::{self, MAX_FLAGS};
use crate::request::{MAX_WORD, RequestError};
use crate::support::{
    AddressFamily, All, Bundle, DropTraffic, DtmfSecurity, EndpointLearning, Flag, Ice, IceLite,
    Key, Kind, Known, MediaEcho, RecordCall, Refusal, Replace, RtcpMux, T38, Transport,
};
use crate::value::{Dict, Value, canonical_word};

/// The identifiers of a message; an empty one is none.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    pub(crate) call_id: Option<String>,
    pub(crate) from_tag: Option<String>,
    pub(crate) to_tag: Option<String>,
    pub(crate) via_branch: Option<String>,
    pub(crate) to_call_id: Option<String>,
}

/// Where a word stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Form {
    /// In a flag string, which may name identifiers, and where `--` stands for `=`.
    #[default]
    String,
    /// In the `flags` list, which may not.
    Flags,
    /// Under a key of its own.
    Key,
}

/// `RTP`, `SRTP`, `AVP`, `AVPF` and `DTLS`, which make a profile together.
#[derive(Debug, Default)]
struct Profile {
    secure: Option<bool>,
    feedback: Option<bool>,
    dtls: bool,
}

/// What a message says but for its command and body.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    pub(crate) options: Options,
    pub(crate) ids: Ids,
    /// The first word that is refused. Only what would change media heeds it: a client sends the
    /// same flags with a delete.
    pub(crate) refused: Option<RequestError>,
    /// Whether the client left its flags to be read here: then it sends the tags of the SIP message unasked.
    pub(crate) is_raw: bool,
    /// Whether the from-tag stands among the flags, where who writes it means it.
    pub(crate) names_sender: bool,
    form: Form,
    profile: Profile,
    /// Whether `direction` was named in the form being read; else it is of one that yields.
    is_directed: bool,
}

/// Reads flag strings of the configuration, then all of a message.
///
/// # Errors
/// [`RequestError`] for a value that cannot be what its key asks for.
pub(crate) fn read(dict: &Dict, templates: &[&str]) -> Result<Reader, RequestError> {
    let mut reader = Reader::default();
    for template in templates {
        reader.string(Key::Template, template)?;
    }
    let (mut keys, mut foreign) = (Vec::with_capacity(dict.0.len()), Vec::new());
    for (written, value) in &dict.0 {
        match Key::find(written) {
            Some(Known::Word(key)) => keys.push((key, value)),
            _ => foreign.push((String::from_utf8_lossy(written), value)),
        }
    }
    let under = |wanted: Key| {
        let of = keys.iter().filter(move |(key, _)| *key == wanted);
        of.map(|(_, value)| *value)
    };
    for value in under(Key::RtppFlags) {
        reader.is_raw = true;
        match value {
            Value::List(list) => list.iter().try_for_each(|item| reader.flag_text(item))?,
            _ => reader.flag_text(value)?,
        }
    }
    reader.begin(Form::Flags);
    for value in under(Key::Flags) {
        reader.flags(value)?;
    }
    reader.begin(Form::Key);
    for (key, value) in &keys {
        if !matches!(key, Key::Flags | Key::RtppFlags) {
            reader.set(*key, value)?;
        }
    }
    for (written, value) in foreign {
        reader.foreign(&written, value)?;
    }
    Ok(reader)
}

impl Reader {
    /// What is read from now on wins over what was read before.
    fn begin(&mut self, form: Form) {
        let Profile {
            secure,
            feedback,
            dtls,
        } = std::mem::take(&mut self.profile);
        if secure.is_some() || feedback.is_some() || dtls {
            self.options.transport_protocol =
                Some(match (dtls, secure == Some(true), feedback == Some(true)) {
                    (true, _, false) => Transport::UdpTlsRtpSavp,
                    (true, _, true) => Transport::UdpTlsRtpSavpf,
                    (false, false, false) => Transport::RtpAvp,
                    (false, false, true) => Transport::RtpAvpf,
                    (false, true, false) => Transport::RtpSavp,
                    (false, true, true) => Transport::RtpSavpf,
                });
        }
        self.form = form;
        self.is_directed = false;
    }

    /// A flag string that came under a key.
    fn flag_text(&mut self, value: &Value) -> Result<(), RequestError> {
        match value {
            // Made UTF-8 by force, two different Call-IDs could become one.
            Value::Bytes(bytes) => {
                let text =
                    std::str::from_utf8(bytes).map_err(|_| bad(Key::RtppFlags, "UTF-8 text"))?;
                self.string(Key::RtppFlags, text)
            }
            _ => self.string(Key::RtppFlags, &text(Key::RtppFlags, value)?),
        }
    }

    fn string(&mut self, key: Key, text: &str) -> Result<(), RequestError> {
        const WANT: &str = "at most 16384 bytes, its brackets nested at most 8 deep";
        const _: () = assert!(MAX_FLAGS == 16384 && flags::MAX_BRACKETS == 8);
        self.begin(Form::String);
        let items = flags::parse(text).ok_or_else(|| bad(key, WANT))?;
        items.iter().try_for_each(|item| self.item(item))?;
        self.begin(Form::String);
        Ok(())
    }

    /// The `flags` list, or its words in one text.
    fn flags(&mut self, value: &Value) -> Result<(), RequestError> {
        match value {
            Value::List(list) => list.iter().try_for_each(|item| self.item(item)),
            _ => words(Key::Flags, value)?
                .iter()
                .try_for_each(|word| self.flag(word)),
        }
    }

    /// A word, a pair, or a list of them.
    fn item(&mut self, item: &Value) -> Result<(), RequestError> {
        match item {
            Value::List(list) => list.iter().try_for_each(|item| self.item(item)),
            Value::Dict(dict) => dict
                .0
                .iter()
                .try_for_each(|(key, value)| self.pair(&String::from_utf8_lossy(key), value)),
            _ => self.flag(&text(Key::Flags, item)?),
        }
    }

    /// One word of the `flags` list.
    fn flag(&mut self, written: &str) -> Result<(), RequestError> {
        if let Some((key, value)) = written.split_once('=') {
            let value = match value.starts_with('[') {
                true => flags::parse(value).and_then(|mut items| items.pop()),
                false => Some(Value::from(value)),
            };
            let want = "a flag whose brackets are nested at most 8 deep";
            return self.pair(key, &value.ok_or_else(|| bad(Key::Flags, want))?);
        }
        let word = canonical_word(written.as_bytes());
        if self.single(&word) {
            return Ok(());
        }
        match Key::prefix_of(&word) {
            Some((Known::Word(key), at)) => {
                self.prefixed(key, written.get(at + 1..).unwrap_or_default(), None)
            }
            Some(_) => Ok(()),
            // The oldest of the codec lists had no prefix.
            None if word.starts_with("transcode-") => self.codec(written, None),
            None => {
                self.unknown(word.into_owned());
                Ok(())
            }
        }
    }

    /// A flag without a value; false if it is none that is known.
    fn single(&mut self, word: &str) -> bool {
        let bytes = word.as_bytes();
        match (Flag::find(bytes), Transport::find(bytes), Key::find(bytes)) {
            (Some(Known::Word(flag)), ..) => self.raise(flag),
            (Some(Known::Ignored), ..) => {}
            (Some(Known::Refused(refusal)), ..) => self.refuse(refusal),
            (None, Some(Known::Word(transport)), _) if transport != Transport::Accept => {
                self.options.transport_protocol = Some(transport);
            }
            _ => match word {
                "rtp" => self.profile.secure = Some(false),
                "srtp" => self.profile.secure = Some(true),
                "avp" => self.profile.feedback = Some(false),
                "avpf" => self.profile.feedback = Some(true),
                "dtls" => self.profile.dtls = true,
                "all" => self.options.all = Some(All::All),
                "internal" | "external" | "round-robin-calls" => self.direct(vec![word.to_owned()]),
                _ => return matches!(Key::find(bytes), Some(Known::Ignored)),
            },
        }
        true
    }

    fn raise(&mut self, flag: Flag) {
        let options = &mut self.options;
        match flag {
            Flag::WebRtc => {
                options.transport_protocol = Some(Transport::UdpTlsRtpSavpf);
                options.ice = Some(Ice::Force);
                options.bundle = Some(Bundle::Accept);
                add(&mut options.rtcp_mux, RtcpMux::Offer);
                add(&mut options.rtcp_mux, RtcpMux::Require);
                add(&mut options.flags, Flag::TrickleIce);
                add(&mut options.flags, Flag::NoRtcpAttribute);
                add(&mut options.flags, Flag::GenerateMid);
            }
            flag => add(&mut options.flags, flag),
        }
    }

    /// A key and its value, wherever they stand.
    fn pair(&mut self, written: &str, value: &Value) -> Result<(), RequestError> {
        match Key::find(written.as_bytes()) {
            Some(Known::Word(key)) => self.set(key, value),
            _ => self.foreign(written, value),
        }
    }

    /// What stands like a key and is none to be acted upon; it may be a flag with a value.
    fn foreign(&mut self, written: &str, value: &Value) -> Result<(), RequestError> {
        let name = canonical_word(written.as_bytes());
        match (Key::find(name.as_bytes()), Flag::find(name.as_bytes())) {
            (Some(Known::Refused(refusal)), _) => self.refuse(refusal),
            (Some(_), _) => {}
            (None, Some(flag)) => match (canonical(Key::Flags, value)?.as_str(), flag) {
                ("yes" | "on" | "true" | "1" | "", Known::Word(flag)) => self.raise(flag),
                ("yes" | "on" | "true" | "1" | "", Known::Refused(refusal)) => self.refuse(refusal),
                _ => {}
            },
            (None, None) => match Key::prefix_of(&name) {
                Some((Known::Word(key), at)) => {
                    let rest = written.get(at + 1..).unwrap_or_default();
                    return self.prefixed(key, rest, Some(value));
                }
                Some(_) => {}
                None if name == "transcode" => return self.codec(&name, Some(value)),
                None => self.unknown(name.into_owned()),
            },
        }
        Ok(())
    }

    /// `key-rest` or `key-rest=value`.
    fn prefixed(
        &mut self,
        key: Key,
        rest: &str,
        value: Option<&Value>,
    ) -> Result<(), RequestError> {
        match key {
            Key::Codec => self.codec(rest, value),
            Key::SdpAttr => self.attribute_flag(rest, value),
            Key::Extmap => self.extmap(rest, value),
            Key::FromTags => self.set(key, &Value::List(vec![rest.into()])),
            _ => self.set(key, &canonical_word(rest.as_bytes()).into_owned().into()),
        }
    }

    fn set(&mut self, key: Key, value: &Value) -> Result<(), RequestError> {
        match key {
            Key::Command | Key::Sdp | Key::Limit | Key::Body | Key::RtppFlags => {}
            Key::CallId | Key::FromTag | Key::ToTag | Key::ViaBranch | Key::ToCallId => {
                return self.identify(key, value);
            }
            Key::Flags => return self.flags(value),
            Key::Supports => return self.supports(value),
            Key::Codec => {
                for (list, names) in entries(key, value)? {
                    self.codec(&list, names)?;
                }
            }
            Key::Extmap => {
                for (list, names) in entries(key, value)? {
                    self.extmap(&list, names)?;
                }
            }
            Key::SdpAttr => return self.attributes(value),
            Key::Metadata => {
                let metadata = text(key, value)?;
                if metadata.len() > MAX_METADATA {
                    return Err(bad(key, "at most 4096 bytes"));
                }
                self.options.metadata = Some(metadata.into_owned());
            }
            Key::Direction => {
                let names = words(key, value)?;
                self.direct(names);
            }
            Key::FromTags => self.options.from_tags.extend(words(key, value)?),
            Key::Template => self.options.template = Some(word(key, value)?),
            Key::Label => self.options.label = named(key, value)?,
            Key::SetLabel => self.options.set_label = named(key, value)?,
            Key::ToLabel => self.options.to_label = named(key, value)?,
            Key::Interface => self.options.interface = named(key, value)?,
            Key::FromInterface => self.options.from_interface = named(key, value)?,
            Key::ToInterface => self.options.to_interface = named(key, value)?,
            Key::Address => self.options.address = Some(address(key, value)?),
            Key::MediaAddress => match address(key, value) {
                Ok(address) => self.options.media_address = Some(address),
                Err(_) => self.nonsense(key, value)?,
            },
            Key::ReceivedFrom => self.options.received_from = Some(address(key, value)?),
            Key::Tos => match number(key, value, "a number") {
                Ok(tos) => self.options.tos = Some(tos),
                Err(_) => self.nonsense(key, value)?,
            },
            Key::DeleteDelay => {
                self.options.delete_delay_s =
                    Some(number(key, value, "a number of seconds, 0 or more")?);
            }
            Key::Ptime => self.options.ptime_ms = ms(key, value)?,
            Key::PtimeReverse => self.options.ptime_reverse_ms = ms(key, value)?,
            Key::MaxPtime => self.options.max_ptime_ms = ms(key, value)?,
            _ => return self.choose(key, value),
        }
        Ok(())
    }

    /// A key whose values are known words.
    fn choose(&mut self, key: Key, value: &Value) -> Result<(), RequestError> {
        each_word(key, value, |word| {
            match key {
                Key::Ice => self.ice(&canonical_word(word.as_bytes())),
                Key::Replace => self.pick(key, word, Replace::find, |o, part| {
                    add(&mut o.replace, part)
                }),
                Key::RtcpMux => {
                    self.pick(key, word, RtcpMux::find, |o, mux| add(&mut o.rtcp_mux, mux))
                }
                Key::SdpMediaRemove => {
                    self.pick(key, word, Kind::find, |o, kind| {
                        add(&mut o.sdp_media_remove, kind)
                    });
                }
                Key::Bundle => {
                    self.pick(key, word, Bundle::find, |o, bundle| o.bundle = Some(bundle))
                }
                Key::EndpointLearning => {
                    self.pick(key, word, EndpointLearning::find, |o, learning| {
                        o.endpoint_learning = Some(learning)
                    });
                }
                Key::All => self.pick(key, word, All::find, |o, all| o.all = Some(all)),
                Key::MediaEcho => self.pick(key, word, MediaEcho::find, |o, echo| {
                    o.media_echo = Some(echo)
                }),
                Key::DropTraffic => self.pick(key, word, DropTraffic::find, |o, drop| {
                    // Stop wins, whichever comes first.
                    if o.drop_traffic != Some(DropTraffic::Stop) {
                        o.drop_traffic = Some(drop);
                    }
                }),
                Key::DtmfSecurity => {
                    self.pick(key, word, DtmfSecurity::find, |o, security| {
                        o.dtmf_security = Some(security)
                    });
                }
                Key::RecordCall => self.pick(key, word, RecordCall::find, |_, _| {}),
                Key::T38 => self.pick(key, word, T38::find, |_, _| {}),
                Key::AddressFamily => self.pick(key, word, AddressFamily::find, |o, family| {
                    o.address_family = Some(family)
                }),
                Key::TransportProtocol => self.pick(key, word, Transport::find, |o, transport| {
                    o.transport_protocol = Some(transport)
                }),
                _ => self.unknown(canonical_word(word.as_bytes()).into_owned()),
            }
        })
    }

    /// A value that means nothing under its key, which then has none, as with rtpengine.
    fn nonsense(&mut self, key: Key, value: &Value) -> Result<(), RequestError> {
        let written = format!("{}-{}", key.name(), words(key, value)?.join("-"));
        self.unknown(canonical_word(written.as_bytes()).into_owned());
        Ok(())
    }

    /// `ICE` also takes what has a key or a flag of its own.
    fn ice(&mut self, word: &str) {
        match word.strip_prefix("lite-") {
            Some(lite) if IceLite::find(lite.as_bytes()).is_some() => {}
            _ if word == "reject" => self.raise(Flag::RejectIce),
            _ if word == "trickle" => self.raise(Flag::TrickleIce),
            _ => self.pick(Key::Ice, word, Ice::find, |o, ice| o.ice = Some(ice)),
        }
    }

    fn pick<T>(
        &mut self,
        key: Key,
        word: &str,
        find: fn(&[u8]) -> Option<Known<T>>,
        put: impl FnOnce(&mut Options, T),
    ) {
        if let Some(value) = self.known(key, word, find) {
            put(&mut self.options, value);
        }
    }

    fn identify(&mut self, key: Key, value: &Value) -> Result<(), RequestError> {
        if self.form == Form::Flags {
            let written = format!("{}={}", key.name(), text(key, value)?);
            self.unknown(written);
            return Ok(());
        }
        let Some(id) = id(key, value)? else {
            return Ok(());
        };
        match key {
            Key::CallId => self.ids.call_id = Some(id),
            Key::FromTag => {
                self.ids.from_tag = Some(id);
                self.names_sender |= self.form == Form::String;
            }
            Key::ToTag => self.ids.to_tag = Some(id),
            Key::ToCallId => self.ids.to_call_id = Some(id),
            // In a string these name a Via header, whose branch the client sends as a key.
            _ if self.form == Form::String
                && matches!(
                    id.as_str(),
                    "1" | "2" | "auto" | "auto-next" | "next" | "extra"
                ) => {}
            _ => self.ids.via_branch = Some(id),
        }
        Ok(())
    }

    fn supports(&mut self, value: &Value) -> Result<(), RequestError> {
        // One text holds one feature, spaces and all: it is not a list of words.
        let one = std::slice::from_ref(value);
        let features = match value {
            Value::List(list) => list,
            _ => one,
        };
        for feature in features {
            self.options.load_limit |= is_word(Key::Supports, feature, "load-limit")?;
        }
        Ok(())
    }

    fn direct(&mut self, names: Vec<String>) {
        if !self.is_directed {
            self.options.direction.clear();
            self.is_directed = true;
        }
        self.options.direction.extend(names);
    }

    /// The value that `word` spells under `key`, if it is to be acted upon.
    pub(super) fn known<T>(
        &mut self,
        key: Key,
        word: &str,
        find: fn(&[u8]) -> Option<Known<T>>,
    ) -> Option<T> {
        match find(word.as_bytes()) {
            Some(Known::Word(value)) => return Some(value),
            Some(Known::Ignored) => {}
            Some(Known::Refused(refusal)) => self.refuse(Refusal {
                name: key.name(),
                why: refusal.why,
            }),
            None => {
                let [key, word] = [key.name(), word].map(|name| canonical_word(name.as_bytes()));
                self.unknown(format!("{key}-{word}"));
            }
        }
        None
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refused.get_or_insert(RequestError::Refused {
            word: refusal.name,
            why: refusal.why,
        });
    }

    /// Whether `--` and `..` stand for what a flag cannot hold.
    pub(super) fn is_escaped(&self) -> bool {
        self.form != Form::Key
    }

    /// Collects what is not known here, cut to a length fit for a log line.
    pub(super) fn unknown(&mut self, mut word: String) {
        let end = (0..=MAX_WORD).rev().find(|&at| word.is_char_boundary(at));
        word.truncate(end.unwrap_or(0));
        self.options.unknown.push(word);
    }
}

/// A name; an empty one is none.
fn named(key: Key, value: &Value) -> Result<Option<String>, RequestError> {
    word(key, value).map(|name| Some(name).filter(|name| !name.is_empty()))
}

/// Milliseconds; 0 is none.
fn ms(key: Key, value: &Value) -> Result<Option<u16>, RequestError> {
    number(key, value, "a number of milliseconds").map(|ms| Some(ms).filter(|&ms| ms > 0))
}

fn add<T: PartialEq>(list: &mut Vec<T>, value: T) {
    if !list.contains(&value) {
        list.push(value);
    }
}
