//! Which of an address's gateways takes what is not on the link, pure: the first that answers, in the order
//! of the configuration.
//!
//! Routes name the group's number, so that the failure of a gateway moves all of them by one write.

use crate::neighbour::{Key, Mac};

/// How long a gateway has answered before it is preferred to the one in use.
const PREEMPT_NS: u64 = 5_000_000_000;

/// The gateways of one link, in order of preference.
pub struct Group {
    number: u16,
    members: Vec<Member>,
    /// What the number stands for now.
    active: Option<(usize, Mac)>,
}

struct Member {
    key: Key,
    /// Its MAC, and since when it has answered.
    up: Option<(Mac, u64)>,
}

impl Group {
    /// None of them answers yet.
    pub fn new(number: u16, members: impl IntoIterator<Item = Key>) -> Group {
        let member = |key| Member { key, up: None };
        Group {
            number,
            members: members.into_iter().map(member).collect(),
            active: None,
        }
    }

    /// The group's number.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Its gateways, in order of preference.
    pub fn keys(&self) -> impl Iterator<Item = Key> {
        self.members.iter().map(|member| member.key)
    }

    /// Whether these are its gateways.
    pub fn is(&self, keys: &[Key]) -> bool {
        self.members.iter().map(|m| &m.key).eq(keys)
    }

    /// A neighbour is at this MAC now, or nowhere.
    pub fn changed(&mut self, key: Key, mac: Option<Mac>, now_ns: u64) {
        for member in self.members.iter_mut().filter(|m| m.key == key) {
            let since_ns = member.up.map_or(now_ns, |(_, since_ns)| since_ns);
            member.up = mac.map(|mac| (mac, since_ns));
        }
    }

    /// What the number stands for from now on, if that is news: a MAC, or no gateway at all.
    pub fn choose(&mut self, now_ns: u64) -> Option<Option<Mac>> {
        let up = |i: usize| Some((i, self.members.get(i)?.up?));
        let mut candidates = (0..self.members.len()).filter_map(up);
        let current = self.active.and_then(|(i, _)| up(i));
        let best = match current {
            None => candidates.next(),
            Some((in_use, _)) => candidates.find(|&(i, (_, since_ns))| {
                i == in_use || i < in_use && since_ns + PREEMPT_NS <= now_ns
            }),
        };
        let chosen = best.map(|(i, (mac, _))| (i, mac));
        if chosen == self.active {
            return None;
        }
        self.active = chosen;
        Some(chosen.map(|(_, mac)| mac))
    }

    /// The gateway in use.
    pub fn active(&self) -> Option<Key> {
        Some(self.members.get(self.active?.0)?.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const A: Mac = [2, 0, 0, 0, 0, 0xa];
    const B: Mac = [2, 0, 0, 0, 0, 0xb];

    fn key(last: u8) -> Key {
        let ip = [10, 0, 0, last].into();
        let (port, vlan) = (0, 0);
        Key { port, vlan, ip }
    }

    fn group() -> Group {
        let mut group = Group::new(7, [key(1), key(2)]);
        assert!(group.is(&[key(1), key(2)]) && !group.is(&[key(1)]));
        assert_eq!((group.choose(0), group.active()), (None, None));
        group
    }

    #[test]
    fn the_first_that_answers_is_used_and_left_at_once() {
        let mut group = group();
        group.changed(key(1), Some(A), S);
        group.changed(key(2), Some(B), S);
        assert_eq!(group.choose(S), Some(Some(A)));
        assert_eq!(group.choose(9 * S), None, "no news");
        group.changed(key(1), None, 10 * S);
        assert_eq!(group.choose(10 * S), Some(Some(B)));
        assert_eq!(group.active(), Some(key(2)));
        group.changed(key(2), None, 11 * S);
        assert_eq!(group.choose(11 * S), Some(None));
        assert_eq!(group.active(), None);
        group.changed(key(3), Some(A), 11 * S);
        assert_eq!(group.choose(11 * S), None, "a stranger");
    }

    #[test]
    fn a_better_one_is_taken_back_once_it_has_answered_for_5_s() {
        let mut group = group();
        group.changed(key(2), Some(B), 0);
        assert_eq!(group.choose(0), Some(Some(B)));
        group.changed(key(1), Some(A), S);
        assert_eq!(group.choose(5 * S), None);
        // It went away in between: the five seconds begin anew.
        group.changed(key(1), None, 5 * S);
        group.changed(key(1), Some(A), 6 * S);
        assert_eq!(group.choose(10 * S), None);
        assert_eq!(group.choose(11 * S), Some(Some(A)));
    }

    #[test]
    fn a_gateway_that_moves_takes_its_routes_along() {
        let mut group = group();
        group.changed(key(1), Some(A), 0);
        assert_eq!(group.choose(0), Some(Some(A)));
        group.changed(key(1), Some(B), S);
        assert_eq!(group.choose(S), Some(Some(B)));
    }
}
