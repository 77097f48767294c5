//! `pki`: a whole development federation, one department's own part for a real one, and renewals.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use campanile_alert::{Clock as _, DepartmentId, Timestamp};
use campanile_discovery::pki::{
    ClientPlan, DepartmentDir, DepartmentPlan, Federation, NodePlan, Request, Validity, renew_client, renew_node,
};
use campanile_discovery::roster::OriginKind;
use campanile_discovery::{Identity, Role, SystemClock};
use serde::Serialize;

use crate::connect::Profile;
use crate::failure::{Answer, Next as _, Verdict, failure};
use crate::files;
use crate::out::Out;

pub mod plan;
mod succeed;

const DAY_S: u64 = 24 * 60 * 60;

/// The verbs about keys and certificates.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Make a development federation: CAs, certificates, keys, a roster marked development, a profile for each client
    Init(Init),
    /// Make one department's own keys and certificates, and the request that governance adds to the roster
    Request(RequestArgs),
    /// Give a node or a client a new certificate from its department's CA
    Renew(Renew),
    /// Make the CA or the signing key that follows the present one; governance lists it beside that
    Next(succeed::Next),
    /// Put the next CA or signing key into the place of the present one
    Promote(succeed::Succession),
}

/// What `pki init` takes.
#[derive(Debug, clap::Args)]
pub struct Init {
    /// The folder to make
    dir: PathBuf,
    /// A plan; services/cli/README.md shows one
    #[arg(long, value_name = "FILE", conflicts_with_all = ["departments", "federation"])]
    plan: Option<PathBuf>,
    /// The departments, where there is no plan
    #[arg(long, value_delimiter = ',', value_name = "ID,…", value_parser = crate::alert::department,
          default_value = "hko,fsd,edb,had,isd")]
    departments: Vec<DepartmentId>,
    /// The federation's name, where there is no plan
    #[arg(long, value_name = "NAME", default_value = "development")]
    federation: String,
    /// How many days certificates last
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
}

/// What `pki request` takes.
#[derive(Debug, clap::Args)]
pub struct RequestArgs {
    /// The folder in which the department's own is made; it holds secrets and stays here
    dir: PathBuf,
    /// The department
    #[arg(long, value_name = "ID", value_parser = crate::alert::department, required_unless_present = "plan")]
    department: Option<DepartmentId>,
    /// A node, with the names and addresses of its host: `node-1,node-1.edb.example`; may be repeated
    #[arg(long, value_name = "NAME[,HOST…]", required_unless_present = "plan")]
    node: Vec<String>,
    /// A gateway, likewise
    #[arg(long, value_name = "NAME[,HOST…]")]
    gateway: Vec<String>,
    /// A client with its roles: `desk-1,publish,read`; may be repeated
    #[arg(long, value_name = "NAME,ROLE…")]
    client: Vec<String>,
    /// A plan of the department instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["department", "node", "gateway", "client"])]
    plan: Option<PathBuf>,
    /// The request to write; it holds no secret
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How many days certificates last
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
}

/// What `pki renew` takes.
#[derive(Debug, clap::Args)]
pub struct Renew {
    /// The folder that holds the department's own
    dir: PathBuf,
    /// The department
    #[arg(long, value_name = "ID", value_parser = crate::alert::department)]
    department: DepartmentId,
    /// The node, with the names and addresses of its host: `node-1,node-1.edb.example`
    #[arg(long, value_name = "NAME[,HOST…]", required_unless_present = "client", conflicts_with = "client")]
    node: Option<String>,
    /// The client; with roles, `desk-1,publish,read`, it gets these instead of the old ones
    #[arg(long, value_name = "NAME[,ROLE…]")]
    client: Option<String>,
    /// How many days the certificate lasts
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=3650))]
    days: u64,
}

/// Does what the verb says.
///
/// # Errors
/// When a name is not right, the folder is there already, or the disk fails.
pub fn run(verb: Verb, out: Out) -> Answer {
    let now = SystemClock.now();
    match verb {
        Verb::Init(args) => init(&args, now, out),
        Verb::Request(args) => request(&args, now, out),
        Verb::Renew(args) => renew(&args, now, out),
        Verb::Next(args) => succeed::next(&args, now, out),
        Verb::Promote(args) => succeed::promote(&args, out),
    }
}

fn validity(now: Timestamp, days: u64) -> Validity {
    Validity { leaf: Duration::from_secs(days * DAY_S), ..Validity::development(now) }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    roster: PathBuf,
    root: PathBuf,
    nodes: Vec<String>,
    profiles: Vec<PathBuf>,
}

fn init(args: &Init, now: Timestamp, out: Out) -> Answer {
    let validity = validity(now, args.days);
    let planned = match &args.plan {
        Some(path) => plan::parse(&files::read_text(path)?, validity).with_context(|| path.display().to_string())?,
        None => plan::development(&args.federation, &args.departments, validity)?,
    };
    let federation =
        Federation::create(&args.dir, &planned.plan).next("mend the plan, or give a folder that does not exist yet")?;
    let mut made = Made {
        roster: federation.roster_path(),
        root: federation.root_path(),
        nodes: Vec::new(),
        profiles: Vec::new(),
    };
    for department in &planned.plan.departments {
        made.nodes.extend(department.nodes.iter().map(|node| format!("{}/{}", department.id, node.name)));
        for client in &department.clients {
            let certificate = federation.department(&department.id).client(&client.name).chain;
            let path = certificate.with_extension("profile.yaml");
            let profile = Profile {
                node: planned.addresses.get(&department.id).cloned(),
                department: Some(department.id.to_string()),
                certificate: Some(format!("{}.pem", client.name).into()),
                key: Some(format!("{}.key", client.name).into()),
                roster: Some("../../roster.json".into()),
                root: Some("../../root.json".into()),
                development: true,
            };
            let text = serde_saphyr::to_string(&profile).context("the profile cannot be written")?;
            files::write(&path, text.as_bytes(), false)?;
            made.profiles.push(path);
        }
    }
    out.show(&made, |made| {
        let mut lines = vec![
            format!("roster    {}", made.roster.display()),
            format!("root      {}", made.root.display()),
            format!("nodes     {}", made.nodes.join(", ")),
        ];
        lines.extend(made.profiles.iter().map(|path| format!("profile   {}", path.display())));
        lines
    })?;
    out.note(
        "for development only: all keys were made here, and a node takes the roster only with `development: true`",
    );
    Ok(Verdict::Passed)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Asked {
    department: DepartmentId,
    request: PathBuf,
    ca_fingerprint: String,
}

fn request(args: &RequestArgs, now: Timestamp, out: Out) -> Answer {
    let plan = match (&args.plan, &args.department) {
        (Some(path), _) => {
            plan::parse_department(&files::read_text(path)?).with_context(|| path.display().to_string())?
        }
        (None, Some(id)) => plan_of(id, args)?,
        (None, None) => return Err(failure("the department is not given", "give --department ID or --plan FILE")),
    };
    if args.out.exists() {
        return Err(failure(format!("{} exists already", args.out.display()), "give another name with --out"));
    }
    let bytes = Request::create(&args.dir, &plan, validity(now, args.days))
        .next("give another folder; `campanile pki renew` replaces certificates alone")?;
    files::write(&args.out, &bytes, false)?;
    let made = Request::verify(&bytes).context("the request made here does not verify")?;
    let ca_fingerprint = crate::roster::fingerprints(&made.department).join(" ");
    let asked = Asked { department: plan.id, request: args.out.clone(), ca_fingerprint };
    out.show(&asked, |asked| {
        vec![format!("request   {}", asked.request.display()), format!("CA        {}", asked.ca_fingerprint)]
    })?;
    out.note("send the request to governance, and tell it the CA's fingerprint by another way");
    Ok(Verdict::Passed)
}

fn plan_of(id: &DepartmentId, args: &RequestArgs) -> anyhow::Result<DepartmentPlan> {
    let node = |text: &String, kind| {
        let (name, hosts) = words(text);
        NodePlan { name, kind, hosts }
    };
    let client = |text: &String| {
        let (name, roles) = words(text);
        let roles = roles_of(&roles)?;
        if roles.is_empty() {
            return Err(failure(
                format!("the client {name} has no role"),
                "write for example --client desk-1,publish,read",
            ));
        }
        Ok(ClientPlan { name, roles, person: None })
    };
    let nodes = args.node.iter().map(|text| node(text, OriginKind::Node));
    Ok(DepartmentPlan {
        nodes: nodes.chain(args.gateway.iter().map(|text| node(text, OriginKind::Gateway))).collect(),
        clients: args.client.iter().map(client).collect::<anyhow::Result<_>>()?,
        ..DepartmentPlan::new(id.clone())
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Renewed {
    identity: String,
    certificate: PathBuf,
    until: Timestamp,
}

fn renew(args: &Renew, now: Timestamp, out: Out) -> Answer {
    let (folder, validity) = (DepartmentDir::new(&args.dir, &args.department), validity(now, args.days));
    let remedy = "give the folder that holds the department's folder with ca.pem and ca.key";
    let files = match (&args.node, &args.client) {
        (Some(node), _) => {
            let (name, hosts) = words(node);
            let files = folder.node(&name).tls;
            if !files.chain.exists() {
                return Err(failure(format!("there is no node {name} in {}", args.dir.display()), remedy));
            }
            renew_node(&folder, &name, &hosts, validity).next(remedy)?;
            files
        }
        (None, client) => {
            let (name, roles) = words(client.as_deref().unwrap_or_default());
            let roles = roles_of(&roles)?;
            let files = folder.client(&name);
            if !files.chain.exists() {
                return Err(failure(format!("there is no client {name} in {}", args.dir.display()), remedy));
            }
            renew_client(&folder, &name, Some(&roles).filter(|roles| !roles.is_empty()), validity).next(remedy)?;
            files
        }
    };
    let identity = Identity::load(&files).context("the new certificate cannot be read back")?;
    let renewed = Renewed {
        identity: identity.peer().spiffe().to_string(),
        certificate: files.chain,
        until: identity.peer().not_after,
    };
    out.show(&renewed, |renewed| vec![format!("{} until {}", renewed.identity, renewed.until)])?;
    out.note("a running node takes it at its next reload, without a restart");
    Ok(Verdict::Passed)
}

/// The first word, and the others.
fn words(text: &str) -> (String, Vec<String>) {
    let mut words = text.split(',').map(|word| word.trim().to_owned());
    let first = words.next().unwrap_or_default();
    (first, words.filter(|word| !word.is_empty()).collect())
}

fn roles_of(words: &[String]) -> anyhow::Result<BTreeSet<Role>> {
    words.iter().map(|word| word.parse::<Role>().next("write roles as in --client desk-1,publish,read")).collect()
}
