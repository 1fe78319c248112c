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
