//! Bad input for every call: each gets a status that says what is wrong, nothing is stored, and the node goes on.

use std::fmt::{Debug, Display};
use std::future::Future;
use std::time::Duration;

use campanile_client::Publish;
use campanile_proto::bus::v1 as wire;
use campanile_proto::bus::v1::admin_service_client::AdminServiceClient;
use campanile_proto::bus::v1::alert_service_client::AlertServiceClient;
use campanile_proto::bus::v1::peer_service_client::PeerServiceClient;
use campanile_tests::process::{Processes, fires};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

use crate::setting::{EDB, FSD, PROGRAM, assert_calm, channel, client_files, suspension};

mod admin;
mod alerts;
mod peers;

/// An officer of edb whose certificate has every role.
const OFFICER: &str = "edb/directorate-1";
/// How long an answer to nonsense may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// A call's message is at most this long, so that it fits into the headers it travels in.
const MESSAGE_BYTES_MAX: usize = 1_100;

/// edb's node with its rules, and others of the plan where a test wants them.
struct Node {
    processes: Processes,
}

impl Node {
    async fn start(others: &[&str]) -> Self {
        let mut processes = Processes::prepare(PROGRAM, None).unwrap();
        let pack = fires::write_pack(processes.dir(), 4).unwrap();
        processes.node(EDB, &[&pack]).unwrap();
        for other in others {
            processes.node(other, &[]).unwrap();
            processes.start(other).await.unwrap();
        }
        processes.start(EDB).await.unwrap();
        let node = Self { processes };
        node.publishes("before").await;
        node
    }

    fn channel(&self, client: &str) -> Channel {
        channel(&self.processes, &client_files(&self.processes, client), EDB)
    }

    fn alerts(&self, client: &str) -> AlertServiceClient<Channel> {
        AlertServiceClient::new(self.channel(client))
    }

    fn admin(&self, client: &str) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel(client))
    }

    /// A channel to edb's node with the certificate of fsd's.
    fn channel_of_node(&self) -> Channel {
        channel(&self.processes, &self.processes.federation().node(&FSD.parse().unwrap()).tls, EDB)
    }

    fn peers(&self) -> PeerServiceClient<Channel> {
        PeerServiceClient::new(self.channel_of_node())
    }

    /// How many records the node holds, those of its start included.
    async fn held(&self) -> u64 {
        self.admin(OFFICER).list_rules(wire::ListRulesRequest {}).await.unwrap();
        self.admin(OFFICER).get_status(wire::GetStatusRequest {}).await.unwrap().into_inner().records
    }

    /// A good alert still goes in, is the next record, and is found.
    async fn publishes(&self, identifier: &str) {
        let before = self.held().await;
        let client = self.processes.client(OFFICER).await.unwrap();
        let alert = suspension(identifier);
        let published = client.publish(&Publish::alert(&alert)).await.unwrap();
        assert!(!published.duplicate);
        assert_eq!(self.held().await, before + 1);
        let detail = client.get(&campanile_client::wanted(&alert.id())).await.unwrap();
        assert_eq!(detail.alert.position, published.position);
    }

    /// Nothing was stored since, nothing panicked, and the node still does its work.
    async fn is_unharmed(&self, held: u64) {
        assert_eq!(self.held().await, held, "nonsense was stored");
        self.publishes("after").await;
        assert_calm(&self.processes, EDB);
    }
}

/// Collects what was answered wrongly, so that one run shows all of it.
#[derive(Default)]
struct Judge {
    cases: usize,
    faults: Vec<String>,
}

impl Judge {
    /// The call is refused with this code and, where it is the node's own refusal, with this reason.
    async fn refused<T: Debug>(
        &mut self,
        case: impl Display,
        call: impl Future<Output = Result<T, Status>>,
        code: Code,
        reason: &str,
    ) {
        self.cases += 1;
        let fault = match tokio::time::timeout(ANSWER_WITHIN, call).await {
            Err(_) => "no answer".into(),
            Ok(Ok(answer)) => format!("was answered: {:.200}", format!("{answer:?}")),
            Ok(Err(status)) if status.code() != code => {
                format!("{:?} in place of {code:?}: {:.300}", status.code(), status.message())
            }
            Ok(Err(status)) if status.message().is_empty() || status.message().len() > MESSAGE_BYTES_MAX => {
                format!("a message of {} bytes", status.message().len())
            }
            Ok(Err(status)) if !names(&status, reason) => format!("not for {reason}: {:.300}", status.message()),
            Ok(Err(_)) => return,
        };
        self.faults.push(format!("{case}: {fault}"));
    }

    /// As [`Judge::refused`], for an INVALID_ARGUMENT with its field; the message begins with the field's name.
    async fn field<T: Debug>(
        &mut self,
        field: &str,
        case: impl Display,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) {
        let call = async {
            let answer = call.await;
            match answer {
                Err(status) if !status.message().contains(field) => {
                    Err(Status::unknown(format!("does not name {field}: {:?} {}", status.code(), status.message())))
                }
                other => other,
            }
        };
        self.refused(case, call, Code::InvalidArgument, "INVALID_ALERT").await;
    }

    fn end(self) {
        assert!(self.cases > 0);
        assert!(self.faults.is_empty(), "{} of {} cases:\n{}", self.faults.len(), self.cases, self.faults.join("\n"));
        eprintln!("{} cases were refused for their reasons", self.cases);
    }
}

/// The status carries a google.rpc.ErrorInfo with that reason; nothing is asked for an empty one.
fn names(status: &Status, reason: &str) -> bool {
    let has = |text: &str| status.details().windows(text.len()).any(|window| window == text.as_bytes());
    reason.is_empty() || (has("google.rpc.ErrorInfo") && has(reason))
}

/// Positions that cannot be.
fn bad_positions() -> Vec<(&'static str, wire::Position)> {
    let good = wire::Position {
        origin: EDB.into(),
        lane: wire::Lane::Urgent.into(),
        epoch: 1,
        seq: 1,
        hash: vec![0; 32].into(),
    };
    vec![
        ("an empty position", wire::Position::default()),
        ("a position without origin", wire::Position { origin: String::new(), ..good.clone() }),
        ("a position of garbage", wire::Position { origin: "../../etc/passwd".into(), ..good.clone() }),
        ("a position of a huge origin", wire::Position { origin: "x".repeat(60_000), ..good.clone() }),
        ("a position without lane", wire::Position { lane: 0, ..good.clone() }),
        ("a position of lane 99", wire::Position { lane: 99, ..good.clone() }),
        ("a position of lane -1", wire::Position { lane: -1, ..good.clone() }),
        ("a position of epoch 0", wire::Position { epoch: 0, ..good.clone() }),
        ("a position of number 0", wire::Position { seq: 0, ..good.clone() }),
        ("a position without hash", wire::Position { hash: Vec::new().into(), ..good.clone() }),
        ("a position with half a hash", wire::Position { hash: vec![1; 31].into(), ..good }),
    ]
}
