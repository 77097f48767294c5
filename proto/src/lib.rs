//! The wire contract of Campanile: generated messages and services, and the one door from wire to domain.
//!
//! The `.proto` files beside this crate are the contract; their comments are the documentation of the generated code.
//! [`convert`] turns alerts into the domain's types and back, and refuses what the wire may carry but the domain may
//! not: above all an unspecified status. Nothing else in the workspace reads generated alert messages.

pub mod convert;

/// `campanile.alert.v1`: the CAP message.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod alert {
    pub mod v1 {
        tonic::include_proto!("campanile.alert.v1");
    }
}

/// `campanile.bus.v1`: records, and the services of a node.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod bus {
    pub mod v1 {
        tonic::include_proto!("campanile.bus.v1");
    }
}

/// `campanile.gateway.v1`: delivery reports.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod gateway {
    pub mod v1 {
        tonic::include_proto!("campanile.gateway.v1");
    }
}

/// `campanile.rules.v1`: what rules write into logs.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
pub mod rules {
    pub mod v1 {
        tonic::include_proto!("campanile.rules.v1");
    }
}

/// The compiled descriptors of all files, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/campanile.bin"));
