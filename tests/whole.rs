//! Databases that are not damaged: what comes out is what COPY gives, byte for
//! byte, whatever the version, the options and the settings of the server.
//!
//! The truth is taken by other means than the dump's (`binary/truth.rs`).

#[path = "binary/mod.rs"]
mod binary;
#[path = "kit/mod.rs"]
mod kit;
#[path = "whole/matrix.rs"]
mod matrix;
#[path = "whole/options.rs"]
mod options;
#[path = "whole/rights.rs"]
mod rights;
#[path = "whole/selection.rs"]
mod selection;
#[path = "whole/settings.rs"]
mod settings;
#[path = "whole/values.rs"]
mod values;

/// What does not differ from version to version is tried on the newest and on
/// Debian's.
fn two_versions() -> Vec<kit::Version> {
    let mut versions = vec![kit::Version::newest()];
    versions.extend(kit::Version::between(15, 15));
    versions.dedup();
    versions
}
