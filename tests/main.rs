//! All tests but those beside the source, as one program: most of each is the
//! kit, which is then built once, and two tests always run at the same time.
//!
//! `cargo test --test all damage::` runs those of `damage.rs`.

mod advice;
mod amcheck;
mod archive;
mod binary;
mod catalogs;
mod check_pages;
mod cli;
mod columns;
mod compare;
mod connect;
mod connect_properties;
mod content;
mod crash;
mod damage;
mod environment;
mod examples;
mod hanging;
mod inspect;
mod kinds;
mod kit;
mod kit_harm;
mod kit_self;
mod locate;
mod lost_keys;
mod meddling;
mod nightly;
mod no_writes;
mod old;
mod output_side;
mod oversize;
mod pages;
mod pooler;
mod proxy;
mod random;
mod raw_rows;
mod reports;
mod restore;
mod resume;
mod salvage;
mod silent;
mod soak;
mod standby;
mod tidy;
mod toast;
mod unchecked;
mod verify_pages;
mod whole;
