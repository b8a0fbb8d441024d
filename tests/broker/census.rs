//! Counts every message over all places, at one instant.

use crate::stage::flow_of;
use fairstalk::broker::kept::Kept;
use fairstalk::broker::{Connection, Keys};
use std::collections::BTreeMap;

/// Everything in the database, as (kind of key, key, name, value) in one flat list.
const EVERYTHING: &str = "
local found = {}
local function add(kind, key, name, value)
  for _, part in ipairs({kind, key, name, value}) do found[#found + 1] = part end
end
for _, key in ipairs(redis.call('KEYS', '*')) do
  local kind = redis.call('TYPE', key).ok
  if kind == 'list' then
    for _, message in ipairs(redis.call('LRANGE', key, 0, -1)) do add(kind, key, '', message) end
  elseif kind == 'hash' then
    local all = redis.call('HGETALL', key)
    for i = 1, #all, 2 do add(kind, key, all[i], all[i + 1]) end
  elseif kind == 'zset' then
    local all = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
    for i = 1, #all, 2 do add(kind, key, all[i], all[i + 1]) end
  end
end
return found";

type Named = BTreeMap<String, Vec<u8>>;

/// What is where.
#[derive(Debug, Default)]
pub struct Census {
    /// Lists, each from its front (what is claimed next) to its end.
    pub lists: BTreeMap<String, Vec<Vec<u8>>>,
    hashes: BTreeMap<String, Named>,
    scores: BTreeMap<String, BTreeMap<String, f64>>,
    keys: Option<Keys>,
}

impl Census {
    /// Looks, atomically.
    pub async fn take(connection: &mut Connection, keys: &Keys) -> Census {
        let found: Vec<Vec<u8>> = connection.query(redis::cmd("EVAL").arg(EVERYTHING).arg(0)).await.unwrap();
        let mut census = Census { keys: Some(keys.clone()), ..Census::default() };
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        for part in found.chunks_exact(4) {
            let (key, value) = (text(&part[1]), part[3].clone());
            match &part[0][..] {
                b"list" => census.lists.entry(key).or_default().push(value),
                b"hash" => drop(census.hashes.entry(key).or_default().insert(text(&part[2]), value)),
                _ => {
                    let score = text(&value).parse().unwrap();
                    census.scores.entry(key).or_default().insert(text(&part[2]), score);
                }
            }
        }
        census.lists.values_mut().for_each(|list| list.reverse());
        census
    }

    fn keys(&self) -> &Keys {
        self.keys.as_ref().unwrap()
    }

    fn hash(&self, key: &str) -> Named {
        self.hashes.get(key).cloned().unwrap_or_default()
    }

    fn zset(&self, key: &str) -> BTreeMap<String, f64> {
        self.scores.get(key).cloned().unwrap_or_default()
    }

    /// A list, from its front.
    pub fn list(&self, queue: &str) -> Vec<Vec<u8>> {
        self.lists.get(&self.keys().list(queue)).cloned().unwrap_or_default()
    }

    /// Claim → kombu's value.
    pub fn unacked(&self) -> Named {
        self.hash(&self.keys().unacked())
    }

    /// Claim → seconds.
    pub fn index(&self) -> BTreeMap<String, f64> {
        self.zset(&self.keys().unacked_index())
    }

    /// Claim → due.
    pub fn delayed(&self) -> BTreeMap<String, f64> {
        self.zset(&self.keys().delayed())
    }

    /// Dead letters by name.
    pub fn dead(&self) -> Named {
        self.hash(&self.keys().dead_messages())
    }

    /// Why they are there.
    pub fn dead_entries(&self) -> Named {
        self.hash(&self.keys().dead_entries())
    }

    /// Owner → end of its lease.
    pub fn owners(&self) -> BTreeMap<String, f64> {
        self.zset(&self.keys().owners())
    }

    /// What waits in one list for one tenant, from its front: what is due, then its lane, then what nobody has seen.
    pub fn waiting(&self, list: &str, flow: &str) -> Vec<Vec<u8>> {
        let lane = self.keys().of_fleet(&format!("lane:{list}"));
        let lanes = [format!("{lane}\u{1f}due\u{1f}{flow}"), format!("{lane}\u{1f}{flow}")];
        let lanes = lanes.iter().flat_map(|lane| self.lists.get(lane)).flatten();
        let unseen = self.lists.get(list).into_iter().flatten().filter(|message| *flow_of(list, message) == *flow);
        lanes.chain(unseen).cloned().collect()
    }

    /// Messages in lists and lanes.
    pub fn all_waiting(&self) -> usize {
        self.lists.values().map(Vec::len).sum()
    }

    /// Tenants that wait or run.
    pub fn tenants(&self) -> BTreeMap<String, serde_json::Value> {
        let tenants = self.hash(&self.keys().tenants()).into_iter().filter(|(flow, _)| flow.contains(':'));
        tenants.map(|(flow, value)| (flow, serde_json::to_value(Kept::read(&value).unwrap()).unwrap())).collect()
    }

    /// Tenants that can be served.
    pub fn ready(&self) -> BTreeMap<String, f64> {
        self.zset(&self.keys().ready())
    }

    /// The counts of every tenant are those of its lanes and claims.
    fn assert_counted(&self) {
        let mut lanes: BTreeMap<String, usize> = BTreeMap::new();
        for (key, messages) in &self.lists {
            if let Some(lane) = key.strip_prefix(&self.keys().of_fleet("lane:")) {
                *lanes.entry(lane.rsplit('\u{1f}').next().unwrap().to_owned()).or_default() += messages.len();
            }
        }
        let mut running: BTreeMap<String, usize> = BTreeMap::new();
        for noted in self.noted().values() {
            let flow = String::from_utf8_lossy(noted.split(|&byte| byte == 0).nth(1).unwrap());
            if !flow.is_empty() {
                *running.entry(flow.into_owned()).or_default() += 1;
            }
        }
        let tenants = self.tenants();
        let counted = |field: &str| -> BTreeMap<String, usize> {
            let counts = tenants.iter().map(|(flow, tenant)| (flow.clone(), tenant[field].as_u64().unwrap() as usize));
            counts.filter(|(_, count)| *count > 0).collect()
        };
        assert_eq!(counted("n"), lanes, "waiting: {self:?}");
        assert_eq!(counted("r"), running, "running: {self:?}");
        let waiting = self
            .hash(&self.keys().tenants())
            .get("waiting")
            .map_or(0, |count| String::from_utf8_lossy(count).parse::<usize>().unwrap());
        assert_eq!(waiting, lanes.values().sum::<usize>(), "all waiting: {self:?}");
        let may_run = |tenant: &serde_json::Value| {
            let held_up = tenant["p"] == true || !tenant["z"].is_null();
            !held_up
                && tenant["n"].as_u64() > Some(0)
                && tenant["m"].as_u64().is_none_or(|most| tenant["r"].as_u64() < Some(most))
        };
        let ready: Vec<&String> = tenants.iter().filter(|(_, tenant)| may_run(tenant)).map(|(flow, _)| flow).collect();
        let bars = self.hash(&self.keys().bars());
        if bars.is_empty() {
            return assert_eq!(self.ready().keys().collect::<Vec<_>>(), ready, "ready: {self:?}");
        }
        // Who has something that nothing keeps from being claimed is there; others may still be.
        let open = |line: &str| {
            let queue = line.split(['\u{6}', '\u{1f}']).next().unwrap().strip_prefix(self.keys().prefix()).unwrap();
            !line.contains("\u{1f}rate\u{1f}") && !bars.contains_key(&format!("queue:{queue}"))
        };
        let has_open = |flow: &String| tenants[flow]["l"].as_object().unwrap().keys().any(|line| open(line));
        assert!(ready.iter().all(|flow| !has_open(flow) || self.ready().contains_key(*flow)), "ready: {self:?}");
    }

    /// Claim → list, as the owners' own hashes have it.
    pub fn held(&self) -> BTreeMap<String, String> {
        let list = |noted: &str| noted.split(['\0', '\u{1f}']).next().unwrap().to_owned();
        self.noted().iter().map(|(claim, noted)| (claim.clone(), list(&String::from_utf8_lossy(noted)))).collect()
    }

    /// Claim → message of those that were started for good.
    pub fn started(&self) -> Named {
        let message = |noted: &[u8]| noted.splitn(5, |&byte| byte == 0).nth(4).map(<[u8]>::to_vec);
        self.noted().into_iter().filter_map(|(claim, noted)| Some((claim, message(&noted)?))).collect()
    }

    /// Claim → all that is noted of it.
    fn noted(&self) -> Named {
        let prefix = self.keys().claims("");
        let mut noted = Named::new();
        for (key, fields) in &self.hashes {
            let Some(owner) = key.strip_prefix(&prefix) else { continue };
            for (number, value) in fields.iter().filter(|(number, _)| *number != "lease") {
                noted.insert(format!("{owner}:{number}"), value.clone());
            }
        }
        noted
    }

    /// All messages with their places; what belongs together is there together, or this panics.
    pub fn places(&self) -> BTreeMap<Vec<u8>, Vec<String>> {
        let mut places: BTreeMap<Vec<u8>, Vec<String>> = BTreeMap::new();
        let mut add = |message: &[u8], place: String| places.entry(message.to_vec()).or_default().push(place);
        for (list, messages) in &self.lists {
            messages.iter().for_each(|message| add(message, format!("list {list}")));
        }
        let held = self.held();
        let unacked = self.unacked();
        assert!(unacked.keys().eq(self.index().keys()), "unacked and its index differ: {self:?}");
        let started = self.started();
        let waiting = held.keys().filter(|claim| !started.contains_key(*claim));
        assert!(unacked.keys().eq(waiting), "unacked and the owners' claims differ: {self:?}");
        started.iter().for_each(|(claim, message)| add(message, format!("started {claim}")));
        for (claim, value) in &unacked {
            let queue = self.keys().queue_of(&held[claim]);
            let tail = format!(r#", "", {}]"#, serde_json::to_string(queue).unwrap());
            let message = value.strip_prefix(b"[").and_then(|value| value.strip_suffix(tail.as_bytes()));
            add(message.unwrap_or_else(|| panic!("{claim} is not kombu's: {self:?}")), format!("claim {claim}"));
        }
        let delayed = self.hash(&self.keys().delayed_messages());
        assert!(delayed.keys().eq(self.delayed().keys()), "the two halves of delayed differ: {self:?}");
        for (claim, value) in &delayed {
            let message = value.splitn(3, |&byte| byte == 0).nth(2).unwrap();
            add(message, format!("delayed {claim}"));
        }
        self.assert_counted();
        let dead = self.dead();
        assert!(dead.keys().eq(self.zset(&self.keys().dead()).keys()), "dead letters differ: {self:?}");
        assert!(dead.keys().eq(self.dead_entries().keys()), "dead letters and entries differ: {self:?}");
        dead.iter().for_each(|(claim, message)| add(message, format!("dead {claim}")));
        places
    }

    /// All messages with their places, where stock workers have claims, too, and may have taken some of fairstalk's.
    pub fn messages(&self) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        for (list, messages) in &self.lists {
            found.extend(messages.iter().map(|message| (format!("list {list}"), message.clone())));
        }
        for (claim, value) in self.unacked() {
            let (message, _, _): (&serde_json::value::RawValue, String, String) =
                serde_json::from_slice(&value).unwrap();
            found.push((format!("claim {claim}"), message.get().as_bytes().to_vec()));
        }
        found.extend(self.started().into_iter().map(|(claim, message)| (format!("started {claim}"), message)));
        for (claim, value) in self.hash(&self.keys().delayed_messages()) {
            let message = value.splitn(3, |&byte| byte == 0).nth(2).unwrap();
            found.push((format!("delayed {claim}"), message.to_vec()));
        }
        found.extend(self.dead().into_iter().map(|(claim, message)| (format!("dead {claim}"), message)));
        found
    }

    /// Each of these messages is in exactly one place, and there are no others.
    pub fn assert_one_place<M: AsRef<[u8]>>(&self, messages: &[M]) {
        let places = self.places();
        for (message, places) in &places {
            assert_eq!(places.len(), 1, "{} is in {places:?}", String::from_utf8_lossy(message));
        }
        let mut expected: Vec<&[u8]> = messages.iter().map(AsRef::as_ref).collect();
        expected.sort_unstable();
        assert!(
            places.keys().map(Vec::as_slice).eq(expected.iter().copied()),
            "expected {} messages, found {}: {places:?}",
            expected.len(),
            places.len()
        );
    }
}
