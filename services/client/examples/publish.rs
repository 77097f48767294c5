//! Publishes a CAP file: `publish HOST:PORT DEPARTMENT CA.pem CERT.pem KEY.pem FILE.xml [EXERCISE]`.
//!
//! The certificate must carry the role `publish`. Running it twice publishes once.

use anyhow::{Context as _, bail};
use campanile_alert::{DepartmentId, ExerciseId};
use campanile_client::{Client, Credentials, Expect, Options, Publish, Retry};

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (node, exercise) = match arguments.as_slice() {
        [node @ .., exercise] if arguments.len() == 7 => (node, Some(ExerciseId::try_new(exercise.as_str())?)),
        node => (node, None),
    };
    let [endpoint, department, ca, certificate, key, file] = node else {
        bail!("give HOST:PORT DEPARTMENT CA.pem CERT.pem KEY.pem FILE.xml and perhaps the EXERCISE");
    };
    let read = |path: &String| std::fs::read(path).with_context(|| format!("failed to read {path}"));
    let credentials = Credentials::roots(read(certificate)?, read(key)?, read(ca)?);
    let expect = Expect::Department(DepartmentId::try_new(department.as_str())?);
    let client = Client::connect(Options::new(endpoint.as_str(), credentials, expect)).await?;

    let mut what = Publish::cap_xml(read(file)?);
    if let Some(exercise) = &exercise {
        what = what.exercise(exercise);
    }
    match client.publish(&what).await {
        Ok(published) => println!("{}", serde_json::to_string(&published)?),
        Err(error) if error.retry == Retry::Unknown => {
            bail!("no answer after {} attempts ({error}); run it again, nothing is doubled", error.attempts)
        }
        Err(error) => bail!("refused: {error}"),
    }
    Ok(())
}
