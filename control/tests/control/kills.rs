//! Either process is killed at random while calls come and go. In the end the store, the region
//! and the ports agree, and nothing is left behind; and after each death of control all stands that it had acknowledged.

use crate::common::*;
use crate::connect::streams;
use penstock_media::{Call, Dialog};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

const CALLS: u64 = 24;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % n
    }
}

fn message(random: &mut Random) -> Value {
    let call = random.below(CALLS).to_string();
    let video = "m=video 4002 RTP/AVP 31\r\n".repeat(random.below(2) as usize);
    let sdp = sdp("10.0.0.1", 4000 + random.below(20) as u16) + &video;
    let other = random.below(CALLS).to_string();
    let (a, b) = (format!("a{call}"), format!("b{call}"));
    match random.below(6) {
        0 | 1 => json!({"command": "offer", "call-id": call, "from-tag": a, "sdp": sdp}),
        2 => json!({"command": "offer", "call-id": call, "from-tag": b, "to-tag": a, "sdp": sdp}),
        3 => json!({"command": "answer", "call-id": call, "from-tag": a, "to-tag": b, "sdp": sdp}),
        4 => {
            json!({"command": "connect", "call-id": call, "from-tag": a, "to-call-id": other, "to-tag": format!("a{other}")})
        }
        _ => json!({"command": "delete", "call-id": call, "from-tag": a}),
    }
}

/// What control has acknowledged.
#[derive(Debug, Default)]
struct Acknowledged {
    /// Requests without an answer so far, by their cookies.
    open: HashMap<String, Value>,
    /// Call-IDs that stand, each with the ports that its last offer or answer was told.
    told: BTreeMap<String, BTreeSet<u16>>,
    /// How often one that stands was looked for after control had been killed.
    looked_for: usize,
}

impl Acknowledged {
    /// Sends a request, and waits until fewer than `most` have no answer.
    fn request(&mut self, world: &World, message: Value, most: usize) {
        let cookie = world.cookie();
        let datagram = format!("{cookie} {message}");
        world.client.send_to(datagram.as_bytes(), world.ng).unwrap();
        self.open.insert(cookie, message);
        while self.open.len() >= most {
            self.hear(world, true);
        }
        while self.hear(world, false) {}
    }

    /// Takes an answer; false if there is none.
    fn hear(&mut self, world: &World, waits: bool) -> bool {
        let mut answer = [0; 65_536];
        world.client.set_nonblocking(!waits).unwrap();
        let received = world.client.recv(&mut answer);
        world.client.set_nonblocking(false).unwrap();
        let len = match received {
            Ok(len) => len,
            Err(_) if !waits => return false,
            Err(error) => panic!("no answer to {:?}: {error}", self.open),
        };
        let text = std::str::from_utf8(&answer[..len]).unwrap();
        let (cookie, reply) = text.split_once(' ').unwrap();
        // On a busy machine a ping of the start may be answered late.
        let Some(message) = self.open.remove(cookie) else {
            return true;
        };
        let reply: Value = serde_json::from_str(reply).unwrap();
        let id = message["call-id"].as_str().unwrap();
        match message["command"].as_str().unwrap() {
            _ if reply["result"] != "ok" => {}
            "delete" => drop(self.told.remove(id)),
            "connect" => {}
            _ => drop(self.told.insert(id.to_owned(), ports_of(&reply))),
        }
        true
    }

    /// Control is killed, and started again: what it had acknowledged stands.
    fn kill(&mut self, world: &mut World) {
        world.sigkill();
        while self.hear(world, false) {}
        // It may have done these or not. Who hears whom is not looked at.
        let unsure = self.open.drain().map(|(_, message)| message);
        let unsure = unsure.filter(|message| message["command"] != "connect");
        let unsure: HashSet<Value> = unsure.map(|message| message["call-id"].clone()).collect();
        world.start();
        let stands = standing(world);
        for id in (0..CALLS).map(|id| id.to_string()) {
            if !unsure.contains(&Value::from(id.as_str())) {
                self.looked_for += usize::from(self.told.contains_key(&id));
                continue;
            }
            self.told.remove(&id);
            if stands.contains_key(&id) {
                self.told.insert(id, BTreeSet::new());
            }
        }
        self.compare(&stands);
    }

    /// Each Call-ID has one dialog, with the ports that were told.
    fn compare(&self, stands: &BTreeMap<String, Vec<BTreeSet<u16>>>) {
        assert!(stands.keys().eq(self.told.keys()), "{self:?} {stands:?}");
        for (id, dialogs) in stands {
            assert_eq!(dialogs.len(), 1, "dialogs of {id}");
            let told = &self.told[id];
            assert!(told.is_subset(&dialogs[0]), "{id}: {told:?} {dialogs:?}");
        }
    }
}

/// The ports of all sections in a reply's SDP.
fn ports_of(reply: &Value) -> BTreeSet<u16> {
    let lines = reply["sdp"].as_str().unwrap().lines();
    let sections = lines.filter(|line| line.starts_with("m="));
    let ports = sections.map(|line| line.split(' ').nth(1).unwrap().parse().unwrap());
    ports.filter(|port| *port != 0).collect()
}

fn calls(world: &World) -> Vec<Call> {
    let calls = world.socket(r#"{"get":"calls"}"#);
    let known = calls["ok"].as_array().unwrap().iter().map(|call| {
        let detail = world.socket(&json!({"get": "call", "id": call["id"]}).to_string());
        let known: Call = serde_json::from_value(detail["ok"]["call"].clone()).unwrap();
        assert_eq!(call["streams"], known.desired().len());
        known
    });
    known.collect()
}

/// The ports of RTP and RTCP of a dialog, each leg's.
fn ports(dialog: &Dialog) -> BTreeSet<u16> {
    let open = dialog.medias.iter();
    let open = open.filter(|media| media.sides.iter().all(|side| !side.declined));
    let locals = open.filter_map(|media| media.locals).flatten();
    locals
        .flat_map(|local| [local.port, local.port + 1])
        .collect()
}

/// The Call-IDs, and the ports of each one's dialogs.
fn standing(world: &World) -> BTreeMap<String, Vec<BTreeSet<u16>>> {
    let mut stands: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for call in calls(world) {
        for dialog in &call.dialogs {
            let own = stands.entry(call.id_of(dialog).to_owned()).or_default();
            own.push(ports(dialog));
        }
    }
    stands
}

/// What control's calls want: of each port whose stream it is and where its packets leave.
fn wanted(world: &World) -> BTreeMap<u16, (u64, u16)> {
    let mut wanted = BTreeMap::new();
    for call in calls(world) {
        let desired = call.desired();
        let own: BTreeSet<u16> = call.dialogs.iter().flat_map(ports).collect();
        assert!(desired.keys().map(|local| local.port).eq(own));
        for (local, stream) in desired {
            let stands = wanted.insert(local.port, (call.key, stream.peer.port));
            assert_eq!(stands, None, "{} twice", local.port);
        }
    }
    wanted
}

#[test]
fn store_region_and_ports_agree_after_random_kills() {
    let (mut world, mut plane) = World::running(300);
    let mut random = Random(std::process::id().into());
    let mut acknowledged = Acknowledged::default();
    for round in 0..30 {
        let most = 1 + random.below(40) as usize;
        for _ in 0..20 + random.below(200) {
            acknowledged.request(&world, message(&mut random), most);
            if random.below(8) == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        match round % 3 {
            0 => acknowledged.kill(&mut world),
            1 => {
                plane.kill();
                std::thread::sleep(Duration::from_millis(random.below(150)));
                for _ in 0..random.below(40) {
                    acknowledged.request(&world, message(&mut random), most);
                }
                plane = world.plane();
            }
            _ => {
                plane.kill();
                acknowledged.kill(&mut world);
                plane = world.plane();
            }
        }
    }
    world.wait_state("online");
    let idle = || {
        let stats = world.stats();
        stats["link"]["commands-in-flight"] == 0 && stats["link"]["commands-waiting"] == 0
    };
    world.until("control is idle", idle);
    assert_eq!(streams(&plane), wanted(&world));
    // So they do after changes that nothing mends.
    for _ in 0..200 {
        acknowledged.request(&world, message(&mut random), 1);
    }
    assert_eq!(streams(&plane), wanted(&world));
    acknowledged.compare(&standing(&world));
    assert!(acknowledged.looked_for > 20, "{acknowledged:?}");
    for call in world.list() {
        assert_eq!(
            world.ng(json!({"command": "delete", "call-id": call}))["result"],
            "ok"
        );
    }
    assert!(plane.streams().is_empty());
    assert_eq!(world.stats()["ports"]["default"]["used"], 0);
    world.until("the last meters are acknowledged", || plane.ended() == 0);
}
