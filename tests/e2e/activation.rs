//! Packs in and out of force: two persons, the check over the federation, the directory away, rollback, shadow, replay.

use campanile_alert::ExerciseId;
use campanile_bus::record::Content;
use campanile_client::admin::Pause;
use campanile_client::rules::{Activated, PackFiles, Replayed, Supposed};
use campanile_client::{Client, Code, Error, Publish, WantedAlert};
use campanile_discovery::DirectoryConfig;
use campanile_discovery::directory::EtcdConfig;
use campanile_discovery::identity::Role;
use campanile_discovery::pki::{ClientPlan, DepartmentPlan};
use campanile_discovery::roster::RightArea;
use campanile_discovery::testing::{EtcdServer, EtcdVersion};
use campanile_node::rules::manifests;
use campanile_tests::cluster::alerts::Fire;
use campanile_tests::cluster::{Builder, Cluster, LIMIT, Time, records, wait_for};

use crate::setting::{
    FIRE_RULE, HARBOUR_VIEW, client, department, harbour_view, plan, repository, right, sign_envelope, wait_rules,
};

/// How many times two departments activate half a circle at the same moment.
const TRIES: usize = 100;

/// A pack of one rule without data: an event of a department leads to another event at once.
fn pack(owner: &str, rule: &str, cause: (&str, &str), effect: &str, headline: &str) -> PackFiles {
    let (event, from) = cause;
    let text = format!(
        "pack: {owner}-half\nowner: {owner}\nvocabulary: alert-v1\n\
         texts:\n  t:\n    zh-Hant: {{headline: 測試, instruction: 請留意公布。, retract: 測試完畢}}\n    \
         en: {{headline: {headline}, instruction: Look out for announcements., retract: It is over}}\n\
         rules:\n- rule: {rule}\n  title: {{en: {headline}, zh-Hant: 測試}}\n  \
         source:\n  - {{text: a made-up circular}}\n  cause: {{event: {event}, from: [{from}]}}\n  \
         then: {{issue: {effect}, severity: Minor, area: cause.area, text: t}}\n  \
         approve: {{need: 0, reason: a test}}\n  until: {{cause: ends, linger: 1h, then: review, max: 24h}}\n  \
         merge: {{key: [rule, effect, target], end: all-causes-ended}}\n"
    );
    PackFiles { text, data: Vec::new() }
}

fn had_half() -> PackFiles {
    pack("had", "had.open.again", ("venue-closed", "lcsd"), "shelter-open", "Shelter")
}

fn lcsd_half() -> PackFiles {
    pack("lcsd", "lcsd.close.again", ("shelter-open", "had"), "venue-closed", "Closed")
}

/// A department whose officers 1 and 2 are two persons; 1 has a second certificate.
fn with_officers(id: &str, event: &str) -> DepartmentPlan {
    let officer = |name: &str, person: &str| ClientPlan {
        person: Some(person.into()),
        ..client(name, &[Role::Approve, Role::Read, Role::Publish, Role::Administer])
    };
    let clients = vec![officer("officer-1", "p-1"), officer("officer-1b", "p-1"), officer("officer-2", "p-2")];
    let clients = clients.into_iter().map(|c| ClientPlan { person: c.person.map(|p| format!("{id}-{p}")), ..c });
    let mut made = department(id, vec![right(&[event], RightArea::Everywhere)], clients.collect());
    for person in ["p-1", "p-2"] {
        made.persons.insert(format!("{id}-{person}"), vec![format!("{id}.duty-officer")]);
    }
    made
}

async fn halves(directory: DirectoryConfig) -> Cluster {
    let time = Time::System;
    let plan = plan(vec![with_officers("had", "shelter-open"), with_officers("lcsd", "venue-closed")], time.now());
    Builder::new(plan, time).unwrap().directory(directory).start().await.unwrap()
}

#[track_caller]
fn refused(result: Result<Activated, Error>, code: Code, reason: &str, says: &str) {
    let error = result.unwrap_err();
    assert_eq!((error.code, error.reason.as_deref()), (code, Some(reason)), "{error}");
    assert!(error.message.contains(says), "{error}");
}

/// Waits until both nodes and the directory agree on what is published.
async fn settled(cluster: &Cluster) {
    let nodes = ["had/node-1", "lcsd/node-1"].map(|node| cluster.node(node).unwrap());
    let same = || async {
        let [a, b] = nodes.each_ref().map(|node| node.rules().lock().manifests.clone());
        let listing = nodes[0].bus().members().directory().list(manifests::FOLDER).await?;
        let shown = manifests::verify(&listing, &nodes[0].bus().roster().current());
        Ok((a == b && a == shown).then_some(()))
    };
    wait_for("the same manifests everywhere", LIMIT, same).await.unwrap();
}

/// Two departments that each activate half of a circle at the same moment: exactly one is refused, every time.
async fn race(directory: DirectoryConfig) {
    let cluster = halves(directory).await;
    let officers = |department: &'static str| {
        let cluster = &cluster;
        async move {
            let first = cluster.client(&format!("{department}/officer-1")).await.unwrap();
            let second = cluster.client(&format!("{department}/officer-2")).await.unwrap();
            (first, second)
        }
    };
    let (had, lcsd) = (officers("had").await, officers("lcsd").await);
    let (mut first_won, mut waits) = (0, [None::<String>, None]);
    for round in 0..TRIES {
        for ((first, _), (files, id)) in
            [&had, &lcsd].into_iter().zip([had_half(), lcsd_half()].into_iter().zip(&mut waits))
        {
            if id.is_none() {
                let agreed = first.activate(&files, true).await.unwrap();
                assert!(!agreed.active && agreed.need == 2, "{agreed:?}");
                *id = Some(agreed.id);
            }
        }
        let [a, b] = waits.clone().map(Option::unwrap);
        let (of_had, of_lcsd) = tokio::join!(had.1.approve_pack(&a), lcsd.1.approve_pack(&b));
        let (winner, name, loser) = match (of_had, of_lcsd) {
            (Ok(_), lost) => (0, "had-half", lost),
            (lost, Ok(_)) => (1, "lcsd-half", lost),
            both => panic!("round {round}: neither came into force: {both:?}"),
        };
        refused(loser, Code::FailedPrecondition, "FEDERATION", "circle");
        first_won += usize::from(winner == 0);
        waits[winner] = None;
        // The winner takes its half back, so that the next round begins as this one did.
        let officer = if winner == 0 { &had.1 } else { &lcsd.1 };
        officer.roll_back(name, "the next round").await.unwrap();
        settled(&cluster).await;
    }
    println!("{TRIES} rounds: had won {first_won}, lcsd {}", TRIES - first_won);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t2_of_two_halves_of_a_circle_activated_at_once_one_is_refused_on_the_directory_in_memory() {
    race(DirectoryConfig::Memory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t2_of_two_halves_of_a_circle_activated_at_once_one_is_refused_on_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    race(DirectoryConfig::File { path: folder.path().into(), poll_ms: 200 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t2_of_two_halves_of_a_circle_activated_at_once_one_is_refused_on_etcd() {
    let started = tokio::task::spawn_blocking(|| EtcdServer::start(EtcdVersion::V35)).await.unwrap().unwrap();
    let Some(server) = started else { return };
    race(DirectoryConfig::Etcd(EtcdConfig::at(&server.url()))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_certificates_of_one_person_activate_nothing_and_two_persons_do() {
    let cluster = halves(DirectoryConfig::Memory).await;
    let [one, same, two] = ["had/officer-1", "had/officer-1b", "had/officer-2"];
    let [one, same, two] = [cluster.client(one), cluster.client(same), cluster.client(two)];
    let (one, same, two) = (one.await.unwrap(), same.await.unwrap(), two.await.unwrap());
    let first = one.activate(&had_half(), false).await.unwrap();
    assert!(!first.active && first.persons == ["had-p-1"]);
    for again in [one.activate(&had_half(), false).await, same.activate(&had_half(), false).await] {
        refused(again, Code::FailedPrecondition, "SAME_PERSON", "one person");
    }
    refused(same.approve_pack(&first.id).await, Code::FailedPrecondition, "SAME_PERSON", "one person");
    // What another person agrees to must be the same bytes.
    let other = pack("had", "had.open.again", ("venue-closed", "lcsd"), "shelter-open", "Another text");
    assert!(!two.activate(&other, false).await.unwrap().active);
    assert!(one.rules().await.unwrap().rules.is_empty(), "it came into force by half");
    let done = two.approve_pack(&first.id).await.unwrap();
    assert!(done.active && done.persons == ["had-p-1", "had-p-2"] && done.serial == Some(1), "{done:?}");
    let rules = one.rules().await.unwrap().rules;
    assert_eq!(rules[0].rule.as_ref().unwrap().pack_digest, done.digest);

    // A yes that is a day old is none.
    let packs = two.packs().await.unwrap();
    assert_eq!((packs.packs.len(), packs.waiting.len(), packs.serial), (1, 1, Some(1)), "{packs:?}");
    refused(one.approve_pack(&"0".repeat(64)).await, Code::NotFound, "NOT_WAITING", "waits");

    // The manifest is in the log, public; the pack itself is in a record that no other department reads.
    let manifest =
        |content: &Content| matches!(content, Content::Manifest(m) if m.department == "had" && m.serial == 1);
    let lcsd = cluster.bus("lcsd/node-1").unwrap();
    let come = || async {
        let all = records(&lcsd).await?;
        Ok(all.iter().any(|a| a.body.as_ref().is_some_and(|body| manifest(&body.content))).then_some(all))
    };
    let all = wait_for("the manifest at lcsd", LIMIT, come).await.unwrap();
    let activation = |content: &Content| matches!(content, Content::Activation(_));
    assert!(!all.iter().any(|a| a.body.as_ref().is_some_and(|body| activation(&body.content))), "a pack went abroad");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_directory_a_node_activates_nothing_and_rolls_back_pauses_and_publishes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("directory");
    let cluster = halves(DirectoryConfig::File { path: path.clone(), poll_ms: 100 }).await;
    let one = cluster.client("had/officer-1").await.unwrap();
    let two = cluster.client("had/officer-2").await.unwrap();
    one.activate(&had_half(), false).await.unwrap();
    assert!(two.activate(&had_half(), false).await.unwrap().active);
    settled(&cluster).await;
    let better = pack("had", "had.open.again", ("venue-closed", "lcsd"), "shelter-open", "Better");
    one.activate(&better, false).await.unwrap();

    // The directory forgets what the logs hold: lcsd must not build on that.
    std::fs::rename(&path, folder.path().join("away")).unwrap();
    std::fs::write(&path, "no folder").unwrap();
    refused(two.activate(&better, false).await, Code::Unavailable, "DIRECTORY_AWAY", "directory");
    std::fs::remove_file(&path).unwrap();
    let fire = Pause { rule: "had.open.again".into(), paused: true, reason: "without etcd".into(), until: None };
    one.pause(&fire).await.unwrap();
    let back = one.roll_back("had-half", "it was wrong").await.unwrap();
    assert_eq!(back.digest, None, "there was none before it");
    assert!(one.rules().await.unwrap().rules.is_empty());

    // An empty one will do, once each department has shown its own again.
    settled(&cluster).await;
    assert!(two.activate(&better, false).await.unwrap().active);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_shows_less_than_the_logs_hold_is_not_built_upon() {
    let time = Time::System;
    let plan = plan(vec![with_officers("had", "shelter-open"), with_officers("lcsd", "venue-closed")], time.now());
    let mut cluster = Builder::new(plan, time).unwrap().start().await.unwrap();
    let had = [cluster.client("had/officer-1").await.unwrap(), cluster.client("had/officer-2").await.unwrap()];
    had[0].activate(&had_half(), false).await.unwrap();
    assert!(had[1].activate(&had_half(), false).await.unwrap().active);
    settled(&cluster).await;
    cluster.stop("had/node-1").await;
    // Somebody empties the folder while had is away: its log is held by lcsd all the same.
    let lcsd = [cluster.client("lcsd/officer-1").await.unwrap(), cluster.client("lcsd/officer-2").await.unwrap()];
    let harmless = pack("lcsd", "lcsd.close", ("fire", "fsd"), "venue-closed", "Closed");
    lcsd[0].activate(&harmless, false).await.unwrap();
    let directory = cluster.node("lcsd/node-1").unwrap().bus().members().directory().clone();
    let listing = directory.list(manifests::FOLDER).await.unwrap();
    directory.put_unless_changed(manifests::FOLDER, listing.revision, "had", b"forged").await.unwrap();
    refused(lcsd[1].activate(&harmless, false).await, Code::FailedPrecondition, "DIRECTORY_BEHIND", "had");
    assert!(lcsd[0].rules().await.unwrap().rules.is_empty());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_switches_at_the_record_keeps_what_is_in_force_and_goes_back() {
    let mut cluster = harbour_view().start().await.unwrap();
    sign_envelope(&cluster).await;
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let officer = cluster.client("edb/duty-officer-1").await.unwrap();
    let second = cluster.client("edb/regional-officer-1").await.unwrap();
    let configured = officer.packs().await.unwrap();
    assert!(configured.packs[0].persons.is_empty() && configured.serial == Some(1), "{configured:?}");
    publish(&cluster, &dispatch, "fire-1").await;
    let closed =
        wait_rules(&officer, "closures", |rules| (!rules.effects.is_empty()).then(|| rules.effects.clone())).await;

    // The same pack with another headline: what lives goes on, what comes is of the new one, and names its digests.
    let shipped = std::fs::read_to_string(repository("services/rules/packs/edb-fire.rules.yaml")).unwrap();
    let text = shipped.replace("closed because of a fire nearby", "shut because of a fire nearby");
    assert_ne!(text, shipped);
    let sites = std::fs::read(repository("services/rules/packs/harbour-view-sites.json")).unwrap();
    let digest = officer.put_data_set(sites).await.unwrap();
    let name = configured.packs[0].data_sets[0].0.clone();
    let files = PackFiles { text, data: vec![(name, digest)] };
    officer.activate(&files, false).await.unwrap();
    let active = second.activate(&files, false).await.unwrap();
    assert_eq!((active.active, active.serial), (true, Some(2)));
    let packs = officer.packs().await.unwrap();
    assert_eq!(packs.packs[0].fallback_digest.as_ref(), Some(&configured.packs[0].digest));
    assert_eq!(officer.rules().await.unwrap().effects, closed, "the closures in force were touched");

    // The envelope was signed over another text, so persons are asked about what is new, which a drill is. A restart
    // changes nothing of that, and the configuration does not take the officers' pack away.
    cluster.stop("edb/node-1").await;
    cluster.start("edb/node-1").await.unwrap();
    let officer = cluster.client("edb/duty-officer-1").await.unwrap();
    let again = officer.packs().await.unwrap();
    assert_eq!((&again.packs, again.serial), (&packs.packs, Some(2)));
    assert!(again.configuration_problems[0].contains("passed over"), "{again:?}");
    let exercise = ExerciseId::try_new("hv26").unwrap();
    let drill = Fire::new("fire-2", cluster.time.now(), HARBOUR_VIEW);
    let drill = Fire { status: Some("Exercise"), note: Some("Exercise HV26".into()), ..drill };
    dispatch.publish(&Publish::cap_xml(drill.xml()).exercise(&exercise)).await.unwrap();
    let pending = wait_rules(&officer, "a question", |rules| rules.pending.first().cloned()).await;
    assert!(pending.text_en.contains("shut because"), "{pending:?}");
    let rule = officer.rules().await.unwrap().rules[0].rule.clone().unwrap();
    assert_eq!(rule.pack_digest, active.digest);

    let back = officer.roll_back("edb-fire", "the wording").await.unwrap();
    assert_eq!(back.digest.as_ref(), Some(&configured.packs[0].digest));
    let rule = officer.rules().await.unwrap().rules[0].rule.clone().unwrap();
    assert_eq!(rule.pack_digest, configured.packs[0].digest);
    assert!(officer.rules().await.unwrap().effects.len() >= closed.len(), "the rollback ended closures");
    cluster.shutdown().await;
}

async fn publish(cluster: &Cluster, client: &Client, identifier: &str) {
    let fire = Fire::new(identifier, cluster.time.now(), HARBOUR_VIEW);
    client.publish(&Publish::cap_xml(fire.xml())).await.unwrap();
}

fn named(identifier: &str) -> WantedAlert {
    WantedAlert { sender: None, identifier: identifier.into(), sent: None }
}

/// Decides an effect again; the rules show it a moment before its record is on the disk.
async fn replayed(officer: &Client, identifier: &str) -> Replayed {
    let again = || async {
        match officer.replay(&named(identifier)).await {
            Ok(replayed) => Ok(Some(replayed)),
            Err(error) if error.code == Code::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    wait_for("the effect's record", LIMIT, again).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shadow_sees_the_same_fire_writes_down_what_it_would_do_and_issues_nothing() {
    let cluster = halves(DirectoryConfig::Memory).await;
    let had = cluster.client("had/officer-1").await.unwrap();
    let lcsd = cluster.client("lcsd/officer-1").await.unwrap();
    let (name, _) = had.shadow(&had_half()).await.unwrap();
    assert_eq!(name, "had-half");
    assert!(had.rules().await.unwrap().rules.is_empty(), "a shadow is in force");
    assert!(had.graph().await.unwrap().rules.is_empty(), "a shadow stands in a manifest");
    let closed = Fire {
        event: "venue-closed",
        category: "Safety",
        severity: "Minor",
        level: None,
        ..Fire::new("closed-1", cluster.time.now(), HARBOUR_VIEW)
    };
    lcsd.publish(&Publish::cap_xml(closed.xml())).await.unwrap();
    let bus = cluster.bus("had/node-1").unwrap();
    let shadowed = || async {
        let all = records(&bus).await?;
        let found = all.iter().find_map(|a| match &a.body.as_ref()?.content {
            Content::Shadow(decision) => Some((**decision).clone()),
            _ => None,
        });
        Ok(found)
    };
    let decision = wait_for("what the shadow would do", LIMIT, shadowed).await.unwrap();
    assert_eq!((decision.effect_event.as_str(), decision.message_type.as_str()), ("shelter-open", "Alert"));
    assert_eq!(decision.text_en, "Shelter");
    let packs = had.packs().await.unwrap();
    assert_eq!((packs.shadows[0].issued, packs.shadows[0].asked), (1, 0));
    let alerts = records(&bus).await.unwrap();
    let own = alerts.iter().filter(|a| a.header.origin == *bus.origin());
    assert!(!own.into_iter().any(|a| matches!(a.body.as_ref().map(|b| &b.content), Some(Content::Alert { .. }))));
    had.end_shadow("had-half").await.unwrap();
    assert!(had.packs().await.unwrap().shadows.is_empty());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_is_made_again_with_the_same_bytes_explained_and_tried_out() {
    let mut cluster = harbour_view().start().await.unwrap();
    sign_envelope(&cluster).await;
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let officer = cluster.client("edb/duty-officer-1").await.unwrap();

    // Nothing is stored by a trial, and it says what the fire then does.
    let supposed = Fire::new("what-if", cluster.time.now(), HARBOUR_VIEW);
    let trial = Supposed { cap_xml: supposed.xml(), department: "fsd".into(), ..Supposed::default() };
    let before = records(&cluster.bus("edb/node-1").unwrap()).await.unwrap().len();
    let outcome = officer.what_if(&trial).await.unwrap();
    assert!(!outcome.effects.is_empty() && outcome.decisions.iter().any(|d| d.rule == FIRE_RULE), "{outcome:?}");
    assert_eq!(records(&cluster.bus("edb/node-1").unwrap()).await.unwrap().len(), before);
    let own = Supposed { department: "edb".into(), ..trial };
    let error = officer.what_if(&own).await.unwrap_err();
    assert_eq!(error.code, Code::PermissionDenied, "edb may not speak of fires: {error}");

    publish(&cluster, &dispatch, "fire-1").await;
    publish(&cluster, &dispatch, "fire-2").await;
    let live = wait_rules(&officer, "closures of both fires", |rules| {
        let both = !rules.effects.is_empty() && rules.effects.iter().all(|effect| effect.causes.len() == 2);
        both.then(|| rules.effects.clone())
    })
    .await;
    assert_eq!(outcome.effects.len(), live.len(), "the trial promised something else");
    for effect in &live {
        let replayed = replayed(&officer, &effect.identifier).await;
        assert!(replayed.same && replayed.difference.is_none(), "{replayed:?}");
        assert_eq!(replayed.stored_hash, replayed.replayed_hash.unwrap());
    }
    let explained = officer.explain(&named(&live[0].identifier), FIRE_RULE, false).await.unwrap();
    assert_eq!(explained.rule.as_ref().unwrap().id, FIRE_RULE);
    assert!(explained.causes.contains(&"fire-1".to_owned()), "{explained:?}");
    assert!(!explained.decisions[0].why_en.is_empty() && !explained.decisions[0].why_zh_hant.is_empty());

    // The same of a fire that was too small, and after a restart, of which the records are the only memory.
    let small = Fire { level: Some(1), ..Fire::new("small", cluster.time.now(), HARBOUR_VIEW) };
    dispatch.publish(&Publish::cap_xml(small.xml())).await.unwrap();
    cluster.stop("edb/node-1").await;
    cluster.start("edb/node-1").await.unwrap();
    let officer = cluster.client("edb/duty-officer-1").await.unwrap();
    let stopped = || async {
        match officer.explain(&named("small"), "", true).await {
            Ok(explained) => Ok(Some(explained)),
            Err(error) if error.code == Code::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    let explained = wait_for("the small fire at edb", LIMIT, stopped).await.unwrap();
    let decision = &explained.decisions[0];
    assert_eq!((decision.rule.as_str(), decision.verdict.as_str()), (FIRE_RULE, "not-matched"), "{decision:?}");
    assert!(officer.replay(&named(&live[0].identifier)).await.unwrap().same, "another answer after a restart");

    let error = officer.replay(&named("fire-1")).await.unwrap_err();
    assert_eq!(error.reason.as_deref(), Some("NOT_DECIDED"), "{error}");
    let error = officer.explain(&named("fire-1"), "edb.no-such-rule", false).await.unwrap_err();
    assert_eq!(error.reason.as_deref(), Some("NO_RULE"), "{error}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_lost_disk_a_new_decision_is_made_again_and_an_old_one_says_why_it_cannot_be() {
    let mut cluster = harbour_view().start().await.unwrap();
    sign_envelope(&cluster).await;
    let dispatch = cluster.client("fsd/dispatch").await.unwrap();
    let officer = cluster.client("edb/duty-officer-1").await.unwrap();
    publish(&cluster, &dispatch, "before").await;
    let of = |causes: usize| {
        move |rules: &campanile_client::admin::Rules| {
            let all = !rules.effects.is_empty() && rules.effects.iter().all(|effect| effect.causes.len() == causes);
            all.then(|| rules.effects.clone())
        }
    };
    let before = wait_rules(&officer, "closures", of(1)).await;
    let fsd = cluster.bus("fsd/node-1").unwrap();
    let held = || async {
        let issued = |a: &&std::sync::Arc<campanile_bus::Arrival>| {
            a.body.as_ref().is_some_and(|body| body.rule.is_some()) && a.header.origin.department().as_str() == "edb"
        };
        Ok((records(&fsd).await?.iter().filter(issued).count() >= before.len()).then_some(()))
    };
    wait_for("the closures at fsd", LIMIT, held).await.unwrap();

    cluster.lose_disk("edb/node-1").await.unwrap();
    // A new disk begins new epochs, above those of the lost one by the clock.
    cluster.advance(std::time::Duration::from_secs(1)).unwrap();
    cluster.start("edb/node-1").await.unwrap();
    let officer = cluster.client("edb/duty-officer-1").await.unwrap();
    let again = wait_rules(&officer, "closures again", of(1)).await;
    assert_eq!(again.len(), before.len());
    let old = replayed(&officer, &before[0].identifier).await;
    assert!(!old.same && old.difference.as_ref().is_some_and(|why| why.contains("disk was lost")), "{old:?}");

    // What was signed was private and is lost; signed again, a second fire joins the closures that came back.
    sign_envelope(&cluster).await;
    publish(&cluster, &dispatch, "after").await;
    let both = wait_rules(&officer, "closures of both fires", of(2)).await;
    assert_eq!(both.len(), before.len());
    for effect in &both {
        let replayed = replayed(&officer, &effect.identifier).await;
        assert!(replayed.same, "{replayed:?}");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_department_cannot_be_given_anothers_pack_nor_what_is_no_pack() {
    let cluster = halves(DirectoryConfig::Memory).await;
    let had = cluster.client("had/officer-1").await.unwrap();
    refused(had.activate(&lcsd_half(), false).await, Code::InvalidArgument, "UNFIT_PACK", "belongs to lcsd");
    for text in ["", "- 1", "pack: x", &"a".repeat(600 << 10)] {
        let error = had.activate(&PackFiles { text: text.into(), data: Vec::new() }, false).await.unwrap_err();
        assert_eq!(error.code, Code::InvalidArgument, "{error}");
    }
    let unknown = PackFiles { data: vec![("sites".into(), [7; 32])], ..had_half() };
    refused(had.activate(&unknown, false).await, Code::InvalidArgument, "UNFIT_PACK", "reads no file");
    let circle = pack("had", "had.open.self", ("shelter-open", "had"), "shelter-open", "Circle");
    refused(had.activate(&circle, false).await, Code::InvalidArgument, "UNFIT_PACK", "circle");
    assert_eq!(had.packs().await.unwrap().waiting, []);
    cluster.shutdown().await;
}
