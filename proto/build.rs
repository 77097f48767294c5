//! Generates the Rust code of the protocol with `protox`, so that no protoc has to be installed.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

use prost::Message as _;

const FILES: [&str; 8] = [
    "campanile/alert/v1/alert.proto",
    "campanile/bus/v1/admin_service.proto",
    "campanile/bus/v1/alert_service.proto",
    "campanile/bus/v1/peer_service.proto",
    "campanile/bus/v1/record.proto",
    "campanile/gateway/v1/delivery.proto",
    "campanile/rules/v1/rules.proto",
    "campanile/rules/v1/rules_service.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={file}");
    }
    let set = protox::compile(FILES, ["."])?;
    // `compile_fds` does not write the descriptor set, which reflection needs.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("campanile.bin"), set.encode_to_vec())?;
    tonic_prost_build::configure().bytes(".campanile.bus.v1").compile_fds(set)?;
    Ok(())
}
