//! Guest kernels: found, fetched, verified, kept.
//!
//! A kernel is a directory of the [store](Store), named by the digest of what is in it. It comes from Debian's
//! archive, whose index is signed; from files of the user's; or from Debian's source, compiled
//! with the configuration in `minimal.config`.

mod openpgp;
