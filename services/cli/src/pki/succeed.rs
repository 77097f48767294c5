//! `pki next` and `pki promote`: a CA or a signing key changes while everything runs.

use std::path::PathBuf;

use campanile_alert::{DepartmentId, Timestamp};
use campanile_discovery::pki::{DepartmentDir, KeyRequest, Validity, next_ca, next_key, promote_ca, promote_key};
use campanile_discovery::roster::KeyUse;
use serde::Serialize;

use crate::failure::{Answer, Next as _, Verdict, failure};
use crate::files;
use crate::out::Out;

const REMEDY: &str =
    "give the folder that holds the department's folder, and make the next one with `campanile pki next`";

/// Whose CA or key changes.
#[derive(Debug, clap::Args)]
pub struct Succession {
    /// The folder that holds the department's own
    dir: PathBuf,
    /// The department
    #[arg(long, value_name = "ID", value_parser = crate::alert::department)]
    department: DepartmentId,
    /// Its CA
    #[arg(long, required_unless_present = "node", conflicts_with = "node")]
    ca: bool,
    /// The signing key of this node
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// The node's key for exercises, in place of the live one
    #[arg(long, requires = "node")]
    exercise: bool,
}

impl Succession {
    fn folder(&self) -> DepartmentDir {
        DepartmentDir::new(&self.dir, &self.department)
    }

    fn usage(&self) -> KeyUse {
        if self.exercise { KeyUse::Exercise } else { KeyUse::Live }
    }
}

/// What `pki next` takes.
#[derive(Debug, clap::Args)]
pub struct Next {
    #[command(flatten)]
    of: Succession,
    /// The request for the key to write; it holds no secret
    #[arg(long, value_name = "FILE", required_unless_present = "ca")]
    out: Option<PathBuf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    file: PathBuf,
    /// The key's id, or the CA's fingerprint, to compare by another way.
    id: String,
}

/// Makes the next CA or key.
pub(super) fn next(args: &Next, now: Timestamp, out: Out) -> Answer {
    let folder = args.of.folder();
    let made = match (&args.of.node, &args.out) {
        (Some(node), Some(file)) => {
            if file.exists() {
                return Err(failure(format!("{} exists already", file.display()), "give another name with --out"));
            }
            let bytes = next_key(&folder, node, args.of.usage()).next(REMEDY)?;
            files::write(file, &bytes, false)?;
            Made { file: file.clone(), id: KeyRequest::verify(&bytes)?.key.id.to_string() }
        }
        _ => {
            let file = next_ca(&folder, Validity::development(now)).next(REMEDY)?;
            let id = crate::roster::fingerprint(&files::read_text(&file)?);
            Made { file, id }
        }
    };
    out.show(&made, |made| vec![format!("{}  {}", made.file.display(), made.id)])?;
    out.note("send the file to governance, and tell it what stands behind the name by another way");
    Ok(Verdict::Passed)
}

/// Puts the next one into the place of the present one.
pub(super) fn promote(args: &Succession, out: Out) -> Answer {
    match &args.node {
        Some(node) => {
            promote_key(&args.folder(), node, args.usage()).next(REMEDY)?;
            out.note("the node signs with it from its next reload on, when the roster lists it");
        }
        None => {
            let old = promote_ca(&args.folder()).next(REMEDY)?;
            let old = old.display();
            out.note(format!("renew every certificate now; then governance takes {old} out of the roster"));
        }
    }
    Ok(Verdict::Passed)
}
