//! What etcd holds, as a state machine without I/O: keys with their revisions, leases, and the history that watches read.
//!
//! Of each call it does what a directory needs and refuses the rest, so that nothing is answered wrongly in silence. That
//! it answers as etcd does is shown beside real ones: `the_model_answers_as_etcd_does`.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use etcd_client::proto::{
    PbCompare, PbCompareTarget, PbDeleteRequest, PbDeleteResponse, PbEvent, PbKeyValue, PbPutRequest, PbPutResponse,
    PbRangeRequest, PbRangeResponse, PbResponseHeader, PbResponseOp, PbTargetUnion, PbTxnOpRequest, PbTxnOpResponse,
    PbTxnRequest, PbTxnRequestOp, PbTxnResponse,
};
use tokio::time::Instant;
use tonic::Status;

/// The comparisons of a transaction, by their numbers in `rpc.proto`.
const EQUAL: i32 = 0;
const GREATER: i32 = 1;
const LESS: i32 = 2;
const NOT_EQUAL: i32 = 3;
/// The order of a range.
const DESCEND: i32 = 2;
/// The kinds of an event.
const PUT: i32 = 0;
const DELETE: i32 = 1;

/// A lease and when it ends.
#[derive(Debug, Clone)]
struct Lease {
    ttl: Duration,
    ends: Instant,
}

/// What an etcd holds.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) cluster: u64,
    pub(super) term: u64,
    pub(super) revision: i64,
    /// Up to which revision the history is gone.
    pub(super) compacted: i64,
    keys: BTreeMap<Vec<u8>, PbKeyValue>,
    leases: BTreeMap<i64, Lease>,
    last_lease: i64,
    /// What changed after `compacted`, in order; each event has its previous value.
    history: VecDeque<PbEvent>,
}

impl State {
    /// A new cluster.
    pub(super) fn new(cluster: u64) -> Self {
        Self {
            cluster,
            term: 1,
            revision: 1,
            compacted: 0,
            keys: BTreeMap::new(),
            leases: BTreeMap::new(),
            last_lease: 0,
            history: VecDeque::new(),
        }
    }

    pub(super) fn header(&self) -> PbResponseHeader {
        PbResponseHeader { cluster_id: self.cluster, member_id: 1, revision: self.revision, raft_term: self.term }
    }

    /// A leader is elected: every lease begins anew, since nobody knows for how long none was renewed.
    pub(super) fn elect(&mut self, now: Instant) {
        self.term += 1;
        for lease in self.leases.values_mut() {
            lease.ends = now + lease.ttl;
        }
    }

    /// Ends the leases whose time is over, each at a revision of its own.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let over: Vec<i64> = self.leases.iter().filter(|(_, lease)| lease.ends <= now).map(|(id, _)| *id).collect();
        over.iter().for_each(|id| _ = self.revoke(*id));
        !over.is_empty()
    }

    pub(super) fn grant(&mut self, id: i64, ttl_s: i64, now: Instant) -> Result<i64, Status> {
        let ttl_s = u64::try_from(ttl_s).map_err(|_| Status::invalid_argument("a lease below zero"))?.max(1);
        if self.leases.contains_key(&id) {
            return Err(Status::failed_precondition("etcdserver: lease already exists"));
        }
        self.last_lease = if id == 0 { self.last_lease + 1 } else { id };
        let ttl = Duration::from_secs(ttl_s);
        self.leases.insert(self.last_lease, Lease { ttl, ends: now + ttl });
        Ok(self.last_lease)
    }

    /// The seconds that a renewed lease has; zero when there is none of that number.
    pub(super) fn renew(&mut self, id: i64, now: Instant) -> i64 {
        let Some(lease) = self.leases.get_mut(&id) else { return 0 };
        lease.ends = now + lease.ttl;
        i64::try_from(lease.ttl.as_secs()).unwrap()
    }

    /// Ends a lease, and with it its keys, all at one revision. False when there is none of that number.
    pub(super) fn revoke(&mut self, id: i64) -> bool {
        if self.leases.remove(&id).is_none() {
            return false;
        }
        let keys: Vec<_> = self.keys.values().filter(|kv| kv.lease == id).map(|kv| kv.key.clone()).collect();
        if !keys.is_empty() {
            self.revision += 1;
            keys.iter().for_each(|key| self.remove(key));
        }
        true
    }

    /// Forgets the history up to a revision.
    pub(super) fn compact(&mut self, revision: i64) -> Result<(), Status> {
        if revision <= self.compacted {
            return Err(Status::out_of_range("etcdserver: mvcc: required revision has been compacted"));
        }
        if revision > self.revision {
            return Err(Status::out_of_range("etcdserver: mvcc: required revision is a future revision"));
        }
        self.compacted = revision;
        // What was changed at that very revision can still be read, but not watched from before it.
        while self.history.front().is_some_and(|event| revision_of(event) < revision) {
            self.history.pop_front();
        }
        Ok(())
    }

    /// What changed in a range from a revision on, in order.
    pub(super) fn changes(&self, key: &[u8], end: &[u8], from: i64) -> Vec<PbEvent> {
        let of_it = |event: &&PbEvent| event.kv.as_ref().is_some_and(|kv| is_within(&kv.key, key, end));
        self.history.iter().filter(|event| revision_of(event) >= from).filter(of_it).cloned().collect()
    }

    pub(super) fn range(&self, request: &PbRangeRequest) -> Result<PbRangeResponse, Status> {
        let known = PbRangeRequest {
            key: request.key.clone(),
            range_end: request.range_end.clone(),
            limit: request.limit,
            sort_order: request.sort_order,
            ..PbRangeRequest::default()
        };
        // A target other than the key, an older revision, bounds: nobody asks for them.
        if *request != known {
            return Err(Status::unimplemented("the model reads keys of the present, in their order"));
        }
        let within = self.keys.values().filter(|kv| is_within(&kv.key, &request.key, &request.range_end));
        let mut kvs: Vec<PbKeyValue> = within.cloned().collect();
        if request.sort_order == DESCEND {
            kvs.reverse();
        }
        let count = kvs.len();
        if request.limit > 0 {
            kvs.truncate(usize::try_from(request.limit).unwrap());
        }
        let more = kvs.len() < count;
        Ok(PbRangeResponse { header: Some(self.header()), kvs, more, count: i64::try_from(count).unwrap() })
    }

    pub(super) fn put(&mut self, request: &PbPutRequest) -> Result<PbPutResponse, Status> {
        self.check_put(request)?;
        self.revision += 1;
        Ok(self.put_at(request))
    }

    pub(super) fn delete(&mut self, request: &PbDeleteRequest) -> PbDeleteResponse {
        let next = self.revision + 1;
        let answer = self.delete_at(request, next);
        PbDeleteResponse { header: Some(self.header()), ..answer }
    }

    /// A transaction: what it changes, it changes at one revision; one that is refused changes nothing.
    pub(super) fn txn(&mut self, request: &PbTxnRequest) -> Result<PbTxnResponse, Status> {
        let mut holds = true;
        for compare in &request.compare {
            holds &= self.compare(compare)?;
        }
        let asked = if holds { &request.success } else { &request.failure };
        let mut next = self.clone();
        let mut responses = Vec::new();
        let at = self.revision + 1;
        for PbTxnRequestOp { request } in asked {
            let response = match request {
                Some(PbTxnOpRequest::RequestRange(range)) => PbTxnOpResponse::ResponseRange(next.range(range)?),
                Some(PbTxnOpRequest::RequestPut(put)) => {
                    next.check_put(put)?;
                    next.revision = at;
                    PbTxnOpResponse::ResponsePut(next.put_at(put))
                }
                Some(PbTxnOpRequest::RequestDeleteRange(delete)) => {
                    PbTxnOpResponse::ResponseDeleteRange(next.delete_at(delete, at))
                }
                _ => return Err(Status::unimplemented("the model knows no transaction in a transaction")),
            };
            responses.push(PbResponseOp { response: Some(response) });
        }
        *self = next;
        Ok(PbTxnResponse { header: Some(self.header()), succeeded: holds, responses })
    }

    fn compare(&self, compare: &PbCompare) -> Result<bool, Status> {
        let within = self.keys.values().filter(|kv| is_within(&kv.key, &compare.key, &compare.range_end));
        let mut compared: Vec<PbKeyValue> = within.cloned().collect();
        if compared.is_empty() {
            if compare.target == PbCompareTarget::Value as i32 {
                return Ok(false);
            }
            compared.push(PbKeyValue::default());
        }
        let mut holds = true;
        for kv in &compared {
            let order = match &compare.target_union {
                Some(PbTargetUnion::Version(version)) => kv.version.cmp(version),
                Some(PbTargetUnion::CreateRevision(revision)) => kv.create_revision.cmp(revision),
                Some(PbTargetUnion::ModRevision(revision)) => kv.mod_revision.cmp(revision),
                Some(PbTargetUnion::Value(value)) => kv.value.cmp(value),
                Some(PbTargetUnion::Lease(lease)) => kv.lease.cmp(lease),
                None => return Err(Status::invalid_argument("a comparison with nothing")),
            };
            holds &= match compare.result {
                EQUAL => order.is_eq(),
                GREATER => order.is_gt(),
                LESS => order.is_lt(),
                NOT_EQUAL => order.is_ne(),
                other => return Err(Status::invalid_argument(format!("comparison {other}"))),
            };
        }
        Ok(holds)
    }

    fn check_put(&self, request: &PbPutRequest) -> Result<(), Status> {
        if request.ignore_value || request.ignore_lease || request.prev_kv {
            return Err(Status::unimplemented("the model puts whole keys"));
        }
        if request.lease != 0 && !self.leases.contains_key(&request.lease) {
            return Err(Status::not_found("etcdserver: requested lease not found"));
        }
        Ok(())
    }

    fn put_at(&mut self, request: &PbPutRequest) -> PbPutResponse {
        let before = self.keys.get(&request.key).cloned();
        let kv = PbKeyValue {
            key: request.key.clone(),
            create_revision: before.as_ref().map_or(self.revision, |kv| kv.create_revision),
            mod_revision: self.revision,
            version: before.as_ref().map_or(0, |kv| kv.version) + 1,
            value: request.value.clone(),
            lease: request.lease,
        };
        self.keys.insert(request.key.clone(), kv.clone());
        self.history.push_back(PbEvent { r#type: PUT, kv: Some(kv), prev_kv: before });
        PbPutResponse { header: Some(self.header()), prev_kv: None }
    }

    fn delete_at(&mut self, request: &PbDeleteRequest, revision: i64) -> PbDeleteResponse {
        let within = self.keys.keys().filter(|key| is_within(key, &request.key, &request.range_end));
        let keys: Vec<Vec<u8>> = within.cloned().collect();
        if !keys.is_empty() {
            self.revision = revision;
            keys.iter().for_each(|key| self.remove(key));
        }
        let deleted = i64::try_from(keys.len()).unwrap();
        PbDeleteResponse { header: Some(self.header()), deleted, prev_kvs: Vec::new() }
    }

    /// Removes a key at the present revision.
    fn remove(&mut self, key: &[u8]) {
        let before = self.keys.remove(key);
        let kv = PbKeyValue { key: key.to_vec(), mod_revision: self.revision, ..PbKeyValue::default() };
        self.history.push_back(PbEvent { r#type: DELETE, kv: Some(kv), prev_kv: before });
    }
}

pub(super) fn revision_of(event: &PbEvent) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// Whether a key is in a range: the one key where it has no end, all from it on where the end is one zero byte.
fn is_within(key: &[u8], from: &[u8], end: &[u8]) -> bool {
    match end {
        [] => key == from,
        [0] => key >= from,
        end => key >= from && key < end,
    }
}
