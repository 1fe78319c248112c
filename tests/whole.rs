//! Databases that are not damaged: what comes out is what COPY gives, byte for
//! byte, whatever the version, the options and the settings of the server.
//!
//! The truth is taken by other means than the dump's (`binary/truth.rs`).

mod matrix;
mod options;
mod rights;
mod selection;
mod settings;
mod values;

/// What does not differ from version to version is tried on the newest and on
/// Debian's.
fn two_versions() -> Vec<crate::kit::Version> {
    let mut versions = vec![crate::kit::Version::newest()];
    versions.extend(crate::kit::Version::between(15, 15));
    versions.dedup();
    versions
}
