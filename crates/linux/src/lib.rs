//! The container driver: namespaces, mounts, privileges and processes of one Linux host.
mod beneath;
mod init;
pub mod oci;
mod op;
mod plan;
mod report;
mod sysctl;
