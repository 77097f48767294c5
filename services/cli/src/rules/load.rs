//! Reads packs from disk with what lies beside them: table files, data sets, copies of cited texts, tests.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use campanile_alert::DepartmentId;
use campanile_rules::{DataSet, DataSets, Diagnostic, Files, Format, Pack, Refusal};

use crate::alert::shown;
use crate::failure::{Next as _, failure};
use crate::files;

/// A pack's file, read; it may be refused.
pub(super) struct Loaded {
    pub(super) path: PathBuf,
    /// The path as it is shown.
    pub(super) file: String,
    pub(super) text: String,
    pub(super) pack: Result<(Pack, Vec<Diagnostic>), Refusal>,
}

impl Loaded {
    /// The folder that everything it names lies in.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// The pack, or what to do about its errors.
    pub(super) fn sound(self) -> anyhow::Result<(PathBuf, Pack)> {
        match self.pack {
            Ok((pack, _)) => Ok((self.path, pack)),
            Err(refusal) => {
                Err(failure(format!("{}: {refusal}", self.file), format!("see `campanile rules lint {}`", self.file)))
            }
        }
    }
}

/// The files that a list of paths stands for: a folder stands for those in it that end so, in the order of their names.
pub(super) fn files_of(paths: &[PathBuf], ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut out = Vec::new();
    for path in paths {
        if !path.is_dir() {
            out.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path)
            .with_context(|| format!("failed to read folder {}", path.display()))
            .next("check the path")?;
        let mut inside: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        inside.retain(|file| file.file_name().is_some_and(|name| name.to_string_lossy().ends_with(ending)));
        inside.sort();
        out.extend(inside);
    }
    match out.is_empty() {
        true => Err(failure(format!("there is no *{ending} there"), "check the path")),
        false => Ok(out),
    }
}

/// Reads a pack with its table files.
pub(super) fn pack(path: &Path) -> anyhow::Result<Loaded> {
    let text = String::from_utf8_lossy(&files::read(path)?).into_owned();
    let folder = path.parent().unwrap_or(Path::new(""));
    let tables = Pack::files_of(&text).into_iter();
    let tables: Files =
        tables.filter_map(|name| Some((name.clone(), files::read(&folder.join(&name)).ok()?))).collect();
    let pack = Pack::parse_with(&text, &tables);
    Ok(Loaded { path: path.into(), file: shown(path), text, pack })
}

/// The data sets of a pack; each that cannot be read is a sentence.
pub(super) fn data(pack: &Pack, folder: &Path) -> (DataSets, Vec<String>) {
    let (mut sets, mut faults) = (DataSets::new(), Vec::new());
    for (name, reference) in &pack.data {
        let path = folder.join(&reference.file);
        let parse = || -> anyhow::Result<DataSet> {
            let format = Format::of_file(&reference.file)
                .ok_or_else(|| failure("it is of an unknown format", "use .json, .csv or .geojson"))?;
            Ok(DataSet::parse(name, format, &files::read(&path)?, &reference.rows)?)
        };
        match parse() {
            Ok(set) => _ = sets.insert(name.clone(), set),
            Err(error) => {
                let sentence = crate::failure::sentence(&error, "mend the file");
                faults.push(format!("data set {name} in {}: {sentence}", path.display()));
            }
        }
    }
    (sets, faults)
}

/// Sound packs with their data, by department.
pub(super) fn bench(paths: &[PathBuf]) -> anyhow::Result<(Vec<Pack>, BTreeMap<DepartmentId, DataSets>)> {
    let (mut packs, mut all) = (Vec::new(), BTreeMap::<_, DataSets>::new());
    for path in files_of(paths, ".rules.yaml")? {
        let (path, pack) = self::pack(&path)?.sound()?;
        let (sets, faults) = data(&pack, path.parent().unwrap_or(Path::new("")));
        if let Some(fault) = faults.into_iter().next() {
            return Err(failure(fault, "mend the data set"));
        }
        all.entry(pack.owner.clone()).or_default().extend(sets);
        packs.push(pack);
    }
    Ok((packs, all))
}
