//! `buf curl`, a client that no one here wrote, at a real node.

use std::process::Command;

use campanile_client::Publish;
use campanile_tests::process::{Processes, fires};
use serde_json::Value;

use crate::setting::{FSD, PROGRAM, assert_calm, client_files, now, repository, run, tool};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buf_curl_lists_alerts_by_reflection_and_by_schema_and_is_told_which_role_is_missing() {
    let Some(program) = tool("CAMPANILE_BUF", "node_modules/.bin/buf", &["--version"]) else { return };
    let mut processes = Processes::prepare(PROGRAM, None).unwrap();
    processes.node(FSD, &[]).unwrap();
    let address = processes.start(FSD).await.unwrap().address;
    let fire = fires::fire(1, now()).unwrap();
    let published = processes.client("fsd/dispatch").await.unwrap().publish(&Publish::alert(&fire)).await.unwrap();
    let ca =
        processes.federation().department(FSD.parse::<campanile_alert::OriginId>().unwrap().department()).ca_path();
    let curl = async |client: &str, method: &str, data: &str, more: &[&str]| {
        let files = client_files(&processes, client);
        let mut command = Command::new(&program);
        command.arg("curl").arg("--cacert").arg(&ca).arg("--cert").arg(files.chain).arg("--key").arg(files.key);
        command.args(["--servername", "localhost", "--protocol", "grpc", "-d", data]).args(more);
        command.arg(format!("https://{address}/campanile.bus.v1.AlertService/{method}"));
        command.current_dir(repository("")).env("HOME", processes.dir());
        run(command).await
    };

    for schema in [&[][..], &["--schema", "proto"]] {
        let (output, stdout, stderr) = curl("fsd/reader", "List", "{}", schema).await;
        assert!(output.status.success(), "{schema:?}: {stdout}{stderr}");
        let page: Value = serde_json::from_str(&stdout).unwrap();
        let alerts = page["alerts"].as_array().unwrap();
        assert_eq!(alerts.len(), 1, "{page:#}");
        assert_eq!(alerts[0]["alert"]["identifier"], fire.identifier.as_str());
        assert_eq!(alerts[0]["position"]["origin"], published.position.origin.as_str());
        assert_eq!(alerts[0]["state"], "ALERT_STATE_IN_FORCE");
    }

    let refused = async |client: &str, method: &str, data: &str, code: &str, says: &str| {
        let (output, stdout, stderr) = curl(client, method, data, &[]).await;
        assert!(!output.status.success(), "{stdout}{stderr}");
        let error: Value = serde_json::from_str(&stderr).unwrap_or_else(|e| panic!("{e}: {stderr}"));
        assert_eq!(error["code"], code, "{error:#}");
        assert!(error["message"].as_str().unwrap().contains(says), "{error:#}");
        let details = error["details"].as_array().unwrap();
        assert!(details.iter().any(|detail| detail["type"] == "google.rpc.ErrorInfo"), "{error:#}");
    };
    refused("fsd/reader", "Publish", "{}", "permission_denied", "needs the role publish").await;
    refused("fsd/dispatch", "Publish", "{}", "invalid_argument", "content").await;
    refused("fsd/dispatch", "Approve", "{}", "permission_denied", "needs the role approve").await;
    refused("fsd/reader", "Get", r#"{"id":{"identifier":"nothing"}}"#, "not_found", "no alert of that identity").await;
    let (_, page, _) = curl("fsd/reader", "List", r#"{"ended":true}"#, &[]).await;
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(page["alerts"].as_array().unwrap().len(), 1, "a refusal stored something: {page:#}");
    assert_calm(&processes, FSD);
}
