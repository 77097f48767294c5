//! L1 and L2 under SIGKILL: a child process appends and prints what it was promised, and is killed at seeded instants.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::io::BufReader;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use campanile_log::sqlite::{Options, SqliteStore};
use campanile_log::{Appended, Draft, Hash, Key, Lane, LogId, Sealed, Store, StoreExt as _, bundle};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const CHILD: &str = "CAMPANILE_LOG_KILL_DIRECTORY";
const ROUNDS: u64 = 12;

#[test]
fn acknowledged_records_survive_sigkill() {
    // The test starts its own binary again as the process that is killed.
    if let Ok(directory) = std::env::var(CHILD) {
        append_until_killed(Path::new(&directory));
    }
    let seed = std::env::var("CAMPANILE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_122);
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().unwrap();
    let mut promised: Vec<(u64, String)> = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "acknowledged_records_survive_sigkill", "--nocapture"])
            .env(CHILD, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || acknowledgements(output));
        std::thread::sleep(Duration::from_millis(random.random_range(20..250)));
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "the child ended by itself");
        promised.extend(reader.join().unwrap());

        let store = SqliteStore::open(directory.path(), &Options::default()).unwrap();
        for (number, position) in &promised {
            let recorded = store.find(&Key(number.to_string().into_bytes())).unwrap();
            let recorded =
                recorded.unwrap_or_else(|| panic!("round {round}: {number} was acknowledged and is missing"));
            assert_eq!(&recorded.position.to_string(), position, "round {round}: {number} has another place");
            let (epoch, seq) = recorded.position.place();
            let entry = store.get(&recorded.log, epoch, seq).unwrap().unwrap();
            assert_eq!(entry.body.as_deref(), Some(body(*number).as_bytes()));
        }
        let report = bundle::verify_store(&store, &mut |_| Ok(())).unwrap();
        assert!(report.is_sound(), "round {round}: {report:?}");
        let state = store.state(b"count").unwrap().map(|value| u64::from_be_bytes(value.try_into().unwrap()));
        assert_eq!(state.unwrap_or(0), store.last_arrival(), "state moved without its records");
    }
    println!("{} acknowledgements", promised.len());
    assert!(promised.len() > 100, "only {} acknowledgements, so the test shows little", promised.len());
}

fn acknowledgements(output: impl std::io::BufRead) -> Vec<(u64, String)> {
    let mut all = Vec::new();
    for line in output.split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        // A line cut off by the kill lacks its last word.
        if let ["ack", number, position, "."] = line.split(' ').collect::<Vec<_>>()[..] {
            all.push((number.parse().unwrap(), position.to_owned()));
        }
    }
    all
}

fn body(number: u64) -> String {
    format!("{number:0800}")
}

/// Appends batches of one to four numbered records with a state row beside them, and prints each once it is durable.
fn append_until_killed(directory: &Path) -> ! {
    let store = SqliteStore::open(directory, &Options::default()).unwrap();
    let log = LogId::new("edb/node-1", Lane::Urgent);
    let above = store.tail(&log).map_or(0, |tail| tail.epoch);
    store.begin_epoch(&log, above + 1).unwrap();
    let mut number = store.last_arrival();
    loop {
        let count = number % 4 + 1;
        let places = store
            .with_batch(|batch| {
                let mut places = Vec::new();
                for number in number..number + count {
                    let text = body(number);
                    let seal = Box::new(move |slot| {
                        let header = Bytes::from(format!("{slot:?} {number}"));
                        Ok(Sealed { header, body: Bytes::from(text), signatures: Bytes::new() })
                    });
                    let key = Key(number.to_string().into_bytes());
                    let draft = Draft { log: log.clone(), idempotency: Some(key), content: Hash::ZERO, seal };
                    match batch.draft(draft)? {
                        Appended::New(entry) => places.push((number, entry.position)),
                        other => panic!("{other:?}"),
                    }
                }
                batch.state(b"count", Some(&(number + count).to_be_bytes()))?;
                Ok(places)
            })
            .unwrap();
        for (number, position) in places {
            println!("ack {number} {position} .");
        }
        number += count;
    }
}
