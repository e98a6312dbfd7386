//! What ng does to legs besides offer and answer: holding media back, copies of it, connecting legs.

use crate::service::{Failure, Service, now};
use crate::wishes::{self, selector};
use penstock_media::{Flows, HeldBack, Hold, Selector, Subscribed};
use penstock_ng::{
    All, Block, Blocked, Connect, Dict, Flag, Reply, Sources, Subscribe, SubscribeAnswer,
    Unsubscribe, Value,
};
use std::rc::Rc;

impl Service {
    pub(crate) async fn block(&self, block: &Block) -> Reply {
        let flows = match block.all {
            All::None | All::All | All::OfferAnswer => Flows::Dialog,
            All::ExceptOfferAnswer => Flows::Forks,
            All::Flows => Flows::All,
        };
        let what = match block.what {
            Blocked::Media => HeldBack::Media,
            Blocked::Silence => HeldBack::Silence,
            Blocked::Dtmf if flows == Flows::Forks => {
                let text = "all=except-offer-answer: telephone events are copied with the media";
                return self.bad_option(text.into());
            }
            Blocked::Dtmf => HeldBack::Dtmf,
        };
        let hold = Hold {
            what,
            on: block.on,
            flows,
            label: block.set_label.as_deref(),
        };
        let [from, to] =
            [&block.source, &block.sink].map(|who| who.as_ref().map(selector).unwrap_or_default());
        let prepared = self
            .calls
            .borrow()
            .hold_back(&block.call_id, (from, to), hold, now());
        match self.change(prepared).await {
            Ok(_) => Reply::ok(),
            Err(failure) => self.refuse(failure, false),
        }
    }

    pub(crate) async fn subscribe(&self, subscribe: &Subscribe) -> Reply {
        let mut options = match wishes::options(&subscribe.options, b"", &self.loop_mark) {
            Ok(options) => options,
            Err(text) => return self.bad_option(text),
        };
        options.label.clone_from(&subscribe.label);
        let own: Option<[u8; 12]> = wishes::random_word();
        let made = own.map(|word| String::from_utf8_lossy(&word).replace(['+', '/'], "x"));
        let Some(tag) = subscribe.to_tag.clone().or(made) else {
            return self.bad_option("No to-tag in message".into());
        };
        let from: Vec<Selector<'_>> = match &subscribe.sources {
            Sources::Everybody => vec![Selector::default()],
            Sources::OfferAnswer => vec![Selector::published(false)],
            Sources::Published => vec![Selector::published(true)],
            Sources::Some(who) => who.iter().map(selector).collect(),
        };
        let prepared =
            self.calls
                .borrow_mut()
                .subscribe(&subscribe.call_id, &from, &tag, &options, now());
        let (prepared, subscribed) = match prepared {
            Ok((pending, subscribed)) => (Ok(pending), subscribed),
            Err(error) => (Err(error), Subscribed::default()),
        };
        match self.change(prepared).await {
            Ok(sdp) => described(sdp, &tag, &subscribed),
            Err(failure) => self.refuse(failure, subscribe.options.load_limit),
        }
    }

    pub(crate) async fn subscribe_answer(&self, answer: &SubscribeAnswer) -> Reply {
        let options = match wishes::options(&answer.options, &answer.sdp, &self.loop_mark) {
            Ok(options) => options,
            Err(text) => return self.bad_option(text),
        };
        let prepared = self.calls.borrow_mut().subscribe_answer(
            &answer.call_id,
            &answer.to_tag,
            &answer.sdp,
            &options,
            now(),
        );
        self.done(self.change(prepared).await)
    }

    pub(crate) async fn unsubscribe(&self, end: &Unsubscribe) -> Reply {
        let prepared = self.calls.borrow().unsubscribe(&end.call_id, &end.to_tag);
        self.done(self.change(prepared).await)
    }

    pub(crate) async fn connect(self: &Rc<Self>, connect: &Connect) -> Reply {
        if connect.options.has(Flag::Directional) {
            return self.bad_option("directional is not supported by connect".into());
        }
        let other = connect.to_call_id.as_ref().unwrap_or(&connect.call_id);
        let prepared = self.calls.borrow().connect(
            (&connect.call_id, &connect.from_tag),
            (other, &connect.to_tag),
            now(),
        );
        let outcome = self.change(prepared).await;
        let calls = self.calls.borrow();
        let joined = calls.get(&connect.call_id).filter(|_| outcome.is_ok());
        // Delays of a call that became a part of this one were looked after by its key.
        if let Some(call) = joined.filter(|_| connect.to_call_id.is_some()) {
            self.look_when_due(call);
        }
        drop(calls);
        self.done(outcome)
    }

    fn done(&self, outcome: Result<Vec<u8>, Failure>) -> Reply {
        match outcome {
            Ok(_) => Reply::ok(),
            Err(failure) => self.refuse(failure, false),
        }
    }

    fn bad_option(&self, text: String) -> Reply {
        self.stats.error("bad-option");
        Reply::error(text)
    }
}

/// The reply to a subscription: its offer, and what stands in it.
fn described(sdp: Vec<u8>, tag: &str, subscribed: &Subscribed) -> Reply {
    let from_tags: Vec<Value> = subscribed
        .from_tags
        .iter()
        .map(|tag| tag.clone().into())
        .collect();
    let mut tag_medias: Vec<Value> = Vec::new();
    let mut media_labels = Dict::default();
    for from in &subscribed.from_tags {
        let own = subscribed
            .sections
            .iter()
            .filter(|section| section.tag == *from);
        let mut entry = Dict::default();
        entry.push("tag", from.clone());
        let mut medias: Vec<Value> = Vec::new();
        for section in own {
            if let (Some(label), true) = (&section.label, medias.is_empty()) {
                entry.push("label", label.clone());
            }
            let mut media = Dict::default();
            media.push("index", section.index as u64);
            media.push("type", section.kind.clone());
            media.push("mode", "sendonly");
            if let Some(label) = &section.media_label {
                media.push("label", label.clone());
                let mut labelled = media.clone();
                labelled.push("tag", from.clone());
                media_labels.push(label.clone(), labelled);
            }
            medias.push(media.into());
        }
        entry.push("medias", medias);
        tag_medias.push(entry.into());
    }
    let first = subscribed.from_tags.first().cloned().unwrap_or_default();
    Reply::ok()
        .with("sdp", sdp)
        .with("from-tag", first)
        .with("to-tag", tag.to_owned())
        .with("from-tags", from_tags)
        .with("tag-medias", tag_medias)
        .with("media-labels", media_labels)
}
