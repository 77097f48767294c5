//! Activation as officers meet it: what is checked before a record is written, and what the directory is asked.
//!
//! ```text
//!   read the folder of manifests at one revision
//!     └ does it show every manifest that the verified logs hold?   no ──► refused
//!         └ is the graph with ours in place sound?                 no ──► refused
//!             └ write ours, unless the folder has changed          changed ──► again
//!                 └ write the record; the engine switches there
//! ```
//!
//! A crash between the last two leaves a manifest in the directory that is not in force: it stands in others' way until
//! [`Desk::keep_shown`] puts the true one back, and harms nothing. What needs no directory (a rollback, a shadow, an end)
//! asks none: the pack that a rollback brings back stands in the manifest already.

use std::sync::Arc;
use std::time::Duration;

use campanile_alert::DepartmentId;
use campanile_bus::Bus;
use campanile_bus::record::Draft;
use campanile_discovery::directory::PutOutcome;
use campanile_discovery::roster::Person;
use campanile_log::Hash;
use campanile_proto::rules::v1::{Activation, ActivationStep, Manifest};
use campanile_rules::{Diagnostic, Options};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};
use tracing::{info, warn};

use super::packs::{self, Files, InForce, Ready, Row, Unfit, Version};
use super::{Library, RulesView, activations, manifests};
use crate::status::{self, internal, refuse};

/// How many times an activation is checked again because others activate at the same moment.
const TRIES_MAX: usize = 16;
/// How often the directory is looked at, whether it shows the manifest in force.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long the engine may take to come to a record that is on the disk.
const SWITCH_WITHIN: Duration = Duration::from_secs(10);
/// How many persons must agree to an activation.
pub const PERSONS_NEEDED: u32 = 2;

/// Where packs come into force.
#[derive(Debug)]
pub struct Desk {
    bus: Bus,
    view: Arc<Mutex<RulesView>>,
    library: Arc<Library>,
    options: Options,
    /// One act at a time.
    turn: tokio::sync::Mutex<()>,
    /// The directory may show what is not in force.
    look: Notify,
    /// Why the directory does not show the manifest in force.
    problem: Mutex<Option<String>>,
}

/// An officer at the desk.
#[derive(Debug, Clone)]
pub struct Officer {
    /// The person of the roster.
    pub person: Person,
    /// SHA-256 of the certificate.
    pub certificate_hash: Vec<u8>,
}

/// How far an activation has come.
#[derive(Debug)]
pub struct Agreed {
    /// The id of what was agreed to.
    pub id: Hash,
    /// The pack's name.
    pub pack: String,
    /// Its digest.
    pub digest: Hash,
    /// The persons who have agreed.
    pub persons: Vec<String>,
    /// What the checker remarks.
    pub warnings: Vec<Diagnostic>,
    /// The serial of the manifest in force; absent while it waits.
    pub serial: Option<u64>,
}

impl Desk {
    /// The desk of a node.
    pub fn new(bus: Bus, view: Arc<Mutex<RulesView>>, library: Arc<Library>, options: Options) -> Self {
        let (turn, look, problem) = (tokio::sync::Mutex::default(), Notify::new(), Mutex::default());
        Self { bus, view, library, options, turn, look, problem }
    }

    /// The bus under it.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// What is in force, in shadow and waiting.
    pub fn view(&self) -> &Arc<Mutex<RulesView>> {
        &self.view
    }

    /// The data sets.
    pub fn library(&self) -> &Arc<Library> {
        &self.library
    }

    /// What the engines are told.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Why the directory does not show the manifest in force; absent when it does.
    pub fn problem(&self) -> Option<String> {
        self.problem.lock().clone()
    }

    /// The department.
    pub fn department(&self) -> &DepartmentId {
        self.bus.origin().department()
    }

    /// Takes an officer's yes to a pack; the second person's puts it in force.
    ///
    /// # Errors
    /// A status that says what stands in the way; nothing was changed then.
    pub async fn agree(&self, officer: &Officer, files: Files, no_way_back: bool) -> Result<Agreed, Status> {
        let _turn = self.turn().await?;
        let (ready, warnings) = self.read(&files).await?;
        let (pack, digest) = (ready.pack.name.clone(), Hash(ready.pack.digest));
        let id = packs::id_of(&ready.pack, &files, no_way_back);
        let now = self.bus.clock().now();
        let first = {
            let view = self.view.lock();
            view.waiting.get(&id).filter(|waiting| now < waiting.until).map(|waiting| waiting.person.clone())
        };
        if first.as_ref() == Some(&officer.person.id) {
            let message = format!(
                "{} has agreed to this already, and two certificates of one person are one; another person must agree",
                officer.person.id
            );
            return Err(refuse(Code::FailedPrecondition, "SAME_PERSON", message));
        }
        let manifest = self.manifest_with(&files, ready, no_way_back).await?;
        let mut activation = Activation {
            step: ActivationStep::Agree.into(),
            pack: pack.clone(),
            pack_digest: digest.0.to_vec(),
            data_sets: files.data_to_wire(),
            text: files.text,
            no_way_back,
            person: officer.person.id.clone(),
            certificate_hash: officer.certificate_hash.clone(),
            reason: String::new(),
        };
        let Some(first) = first else {
            // The second officer will be refused for the same; so the first learns of it now.
            self.sound(&self.view.lock().manifests.clone(), &manifest)?;
            self.write(activations::act(activation)).await?;
            let waits = move |view: &RulesView| view.waiting.contains_key(&id);
            self.until(waits).await?;
            let persons = vec![officer.person.id.clone()];
            return Ok(Agreed { id, pack, digest, persons, warnings, serial: None });
        };
        self.reserve(&manifest).await?;
        activation.step = ActivationStep::Activate.into();
        let written = self.write(activations::act(activation)).await;
        // Whatever came of it, the directory is to show what is in force.
        self.look.notify_one();
        written?;
        let serial = manifest.serial;
        self.until(move |view| own_serial(view, &manifest.department) >= manifest.serial).await?;
        info!(pack, serial, "A pack was activated");
        Ok(Agreed { id, pack, digest, persons: vec![first, officer.person.id.clone()], warnings, serial: Some(serial) })
    }

    /// The pack that waits under an id, as it was given.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub fn waiting(&self, id: &Hash) -> Result<(Files, bool), Status> {
        let now = self.bus.clock().now();
        let view = self.view.lock();
        let waiting = view.waiting.get(id).filter(|waiting| now < waiting.until);
        let waiting = waiting.ok_or_else(|| {
            let message = "no pack of that id waits for a second officer; list the packs, it may have been too late";
            refuse(Code::NotFound, "NOT_WAITING", message)
        })?;
        Ok((waiting.files.clone(), waiting.no_way_back))
    }

    /// Puts the pack before it in force again; gives its digest and the serial of the manifest.
    ///
    /// # Errors
    /// A status that says what stands in the way; nothing was changed then.
    pub async fn roll_back(
        &self,
        officer: &Officer,
        pack: &str,
        reason: String,
    ) -> Result<(Option<Hash>, u64), Status> {
        let _turn = self.turn().await?;
        let department = self.department().to_string();
        let serial = {
            let view = self.view.lock();
            if !view.packs.contains_key(pack) {
                return Err(no_pack(pack, "in force"));
            }
            own_serial(&view, &department) + 1
        };
        let step = ActivationStep::RollBack.into();
        self.write(activations::act(by(
            officer,
            Activation { step, pack: pack.into(), reason, ..Activation::default() },
        )))
        .await?;
        self.until(move |view| own_serial(view, &department) >= serial).await?;
        self.look.notify_one();
        let now = self.view.lock().packs.get(pack).map(|pack| pack.row.current.digest);
        info!(pack, serial, person = officer.person.id, "A pack was rolled back");
        Ok((now, serial))
    }

    /// Evaluates a pack in shadow from now on.
    ///
    /// # Errors
    /// A status that says what stands in the way; nothing was changed then.
    pub async fn shadow(&self, officer: &Officer, files: Files) -> Result<(String, Hash), Status> {
        let _turn = self.turn().await?;
        let (ready, _) = self.read(&files).await?;
        let (pack, digest) = (ready.pack.name.clone(), Hash(ready.pack.digest));
        packs::engine(self.department(), &self.options, [Arc::new(ready)].iter()).map_err(unfit)?;
        let activation = Activation {
            step: ActivationStep::Shadow.into(),
            pack: pack.clone(),
            pack_digest: digest.0.to_vec(),
            data_sets: files.data_to_wire(),
            text: files.text,
            ..Activation::default()
        };
        self.write(activations::act(by(officer, activation))).await?;
        let name = pack.clone();
        self.until(move |view| view.shadows.packs().any(|(known, shadow)| *known == name && shadow.digest == digest))
            .await?;
        Ok((pack, digest))
    }

    /// Evaluates a pack in shadow no longer.
    ///
    /// # Errors
    /// A status that says what stands in the way; nothing was changed then.
    pub async fn end_shadow(&self, officer: &Officer, pack: String) -> Result<(), Status> {
        let _turn = self.turn().await?;
        if !self.view.lock().shadows.packs().any(|(name, _)| *name == pack) {
            return Err(no_pack(&pack, "in shadow"));
        }
        let step = ActivationStep::EndShadow.into();
        let activation = Activation { step, pack: pack.clone(), ..Activation::default() };
        self.write(activations::act(by(officer, activation))).await?;
        self.until(move |view| !view.shadows.packs().any(|(name, _)| *name == pack)).await
    }

    /// Has the directory show the manifest in force, whatever becomes of the directory, until `stop`.
    pub async fn keep_shown(self: Arc<Self>, stop: CancellationToken) {
        while self.bus.ready().await.is_err() {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        loop {
            // An activation under way has put there what is about to be in force.
            let turn = self.turn.lock().await;
            let again = self.show().await;
            drop(turn);
            let wait = async {
                if again {
                    return tokio::time::sleep(Duration::from_millis(50)).await;
                }
                tokio::select! {
                    () = self.look.notified() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = wait => {}
            }
        }
    }

    /// Puts the manifest in force into the directory if another one stands there; whether to try again at once.
    async fn show(&self) -> bool {
        let roster = self.bus.roster().current();
        let department = self.department();
        let known = self.view.lock().manifests.clone();
        let Some(own) = known.get(department).filter(|_| roster.publisher(department) == Some(self.bus.origin()))
        else {
            return false;
        };
        let directory = self.bus.members().directory();
        let listing = match directory.list(manifests::FOLDER).await {
            Ok(listing) => listing,
            Err(error) => {
                *self.problem.lock() = Some(error.to_string());
                return false;
            }
        };
        let shown = manifests::verify(&listing, &roster);
        let fault = self.sound(&newest(known.clone(), shown.clone()), own).err();
        *self.problem.lock() = fault.map(|fault| fault.message().to_owned());
        if shown.get(department) == Some(own) {
            return false;
        }
        let signed = manifests::sign(own, &self.bus.keys().live);
        match directory.put_unless_changed(manifests::FOLDER, listing.revision, department.as_str(), &signed).await {
            Ok(PutOutcome::Done) => false,
            Ok(PutOutcome::Changed) => true,
            Err(error) => {
                warn!(%error, "The directory does not show the manifest in force; it is tried again");
                *self.problem.lock() = Some(error.to_string());
                false
            }
        }
    }

    /// Checks a manifest against those of the whole federation, and has the directory hold it from that moment on.
    async fn reserve(&self, manifest: &Manifest) -> Result<(), Status> {
        let directory = self.bus.members().directory();
        let department = self.department();
        for _ in 0..TRIES_MAX {
            let listing = directory.list(manifests::FOLDER).await.map_err(away)?;
            let roster = self.bus.roster().current();
            let shown = manifests::verify(&listing, &roster);
            let known = self.view.lock().manifests.clone();
            for (other, held) in known.iter().filter(|(other, _)| *other != department) {
                let counts = roster.publisher(other).is_some();
                if counts && shown.get(other).is_none_or(|shown| shown.serial < held.serial) {
                    let message = format!(
                        "the directory shows no manifest of {other}, or an older one than its log holds; activation \
                         waits until the directory is whole again, while pause and rollback do not"
                    );
                    return Err(refuse(Code::FailedPrecondition, "DIRECTORY_BEHIND", message));
                }
            }
            self.sound(&shown, manifest)?;
            let signed = manifests::sign(manifest, &self.bus.keys().live);
            let put = directory.put_unless_changed(manifests::FOLDER, listing.revision, department.as_str(), &signed);
            match put.await.map_err(away)? {
                PutOutcome::Done => return Ok(()),
                PutOutcome::Changed => {}
            }
        }
        let message = "other departments activate packs at the same moment; try again";
        Err(refuse(Code::Aborted, "ACTIVATIONS_COLLIDE", message))
    }

    /// Checks a manifest of ours together with those of the others.
    fn sound(&self, known: &manifests::Manifests, own: &Manifest) -> Result<(), Status> {
        let others = known.iter().filter(|(department, _)| *department != self.department()).map(|(_, other)| other);
        match manifests::faults(others.chain([own])).into_iter().next() {
            None => Ok(()),
            Some(fault) => Err(refuse(Code::FailedPrecondition, "FEDERATION", fault)),
        }
    }

    /// The manifest with a pack in force that is not yet.
    async fn manifest_with(&self, files: &Files, ready: Ready, no_way_back: bool) -> Result<Manifest, Status> {
        let department = self.department().clone();
        let (mut packs, serial) = {
            let view = self.view.lock();
            (view.packs.clone(), own_serial(&view, department.as_str()) + 1)
        };
        let name = ready.pack.name.clone();
        let before = packs.get(&name).filter(|_| !no_way_back);
        let (row_before, before) = before.map(|pack| (pack.row.current.clone(), Arc::clone(&pack.ready))).unzip();
        let since = self.bus.clock().now();
        let current = Version { files: files.clone(), digest: Hash(ready.pack.digest), since, persons: Vec::new() };
        packs.insert(name, InForce { row: Row { current, before: row_before }, ready: Arc::new(ready), before });
        let options = self.options.clone();
        let made = tokio::task::spawn_blocking(move || {
            packs::engine(&department, &options, packs.values().map(|pack| &pack.ready))?;
            Ok(packs::manifest(&department, packs.values(), serial))
        });
        made.await.map_err(|error| internal("the check was cut short", &error))?.map_err(unfit)
    }

    async fn read(&self, files: &Files) -> Result<(Ready, Vec<Diagnostic>), Status> {
        let (library, files) = (Arc::clone(&self.library), files.clone());
        let read = tokio::task::spawn_blocking(move || files.read(&library)).await;
        let (ready, warnings) = read.map_err(|error| internal("the check was cut short", &error))?.map_err(unfit)?;
        if ready.pack.owner != *self.department() {
            let message = format!(
                "pack {} belongs to {}; only its owner's node evaluates it: give it to that node",
                ready.pack.name, ready.pack.owner
            );
            return Err(refuse(Code::InvalidArgument, "UNFIT_PACK", message));
        }
        Ok((ready, warnings))
    }

    /// Waits for one's turn at a node that publishes for its department.
    async fn turn(&self) -> Result<tokio::sync::MutexGuard<'_, ()>, Status> {
        let department = self.department();
        let roster = self.bus.roster().current();
        match roster.publisher(department) {
            Some(publisher) if publisher == self.bus.origin() => {}
            publisher => {
                let publisher = publisher.map_or_else(|| "no node".into(), ToString::to_string);
                let message = format!("{publisher} publishes for {department}, and evaluates its rules; ask it there");
                return Err(refuse(Code::FailedPrecondition, "NOT_PUBLISHER", message));
            }
        }
        self.bus.ready().await.map_err(status::publish)?;
        Ok(self.turn.lock().await)
    }

    async fn write(&self, draft: Draft) -> Result<(), Status> {
        self.bus.record(draft).await.map(drop).map_err(status::publish)
    }

    /// Waits until the engine has come to what is on the disk.
    async fn until(&self, fits: impl Fn(&RulesView) -> bool) -> Result<(), Status> {
        let come = async {
            while !fits(&self.view.lock()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SWITCH_WITHIN, come).await.map_err(|_| {
            let message = "the record is written, and the engine has not come to it; list the packs in a moment";
            refuse(Code::Internal, "NOT_SWITCHED", message)
        })
    }
}

/// Of two collections, the newer manifest of each department.
fn newest(mut known: manifests::Manifests, other: manifests::Manifests) -> manifests::Manifests {
    for (department, manifest) in other {
        if known.get(&department).is_none_or(|known| known.serial < manifest.serial) {
            known.insert(department, manifest);
        }
    }
    known
}

fn own_serial(view: &RulesView, department: &str) -> u64 {
    let own = view.manifests.iter().find(|(known, _)| known.as_str() == department);
    own.map_or(0, |(_, manifest)| manifest.serial)
}

fn by(officer: &Officer, activation: Activation) -> Activation {
    Activation { person: officer.person.id.clone(), certificate_hash: officer.certificate_hash.clone(), ..activation }
}

fn unfit(unfit: Unfit) -> Status {
    refuse(Code::InvalidArgument, "UNFIT_PACK", unfit.0)
}

fn no_pack(pack: &str, where_to: &str) -> Status {
    refuse(Code::NotFound, "NO_PACK", format!("no pack {pack:?} is {where_to} here; list the packs for their names"))
}

fn away(error: campanile_discovery::directory::Error) -> Status {
    let message = format!("{error}; activation waits for the directory, while pause and rollback do not");
    refuse(Code::Unavailable, "DIRECTORY_AWAY", message)
}
